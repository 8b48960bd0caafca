"""Lets tools fail at each point of a short run and looks at what is left.

`python -m tests.faults.points FOLDER CASE ...` needs `shim.c` in LD_PRELOAD. Each run is forked from this process, and
it has loaded all that the tools need. Prints one JSON object a case: how many points there are, how many were tried,
and what did not hold.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import os
import re
import shutil
import struct
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.faults import power_cut
from tests.faults.cases import CASES, LATE, Case

READS, CHANGES, GROWS, WRITES = range(2, 6)  # where `shim.c` counts them
COUNTED = {"eio": CHANGES, "edquot": GROWS, "enospc": GROWS, "short": WRITES, "read": READS, "kill": CHANGES}
COUNTED |= {f"power {kind}": CHANGES for kind in power_cut.KINDS}
SHIM = ctypes.CDLL(None)
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
NEVER = -1
ROOM = re.compile(r"room|free \d+ MiB|larger disk")


def main() -> int:
    """Try the points; exit code 0 whatever was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--modes", nargs="+", default=list(COUNTED), choices=COUNTED)
    parser.add_argument("--only", type=int, help="one point")
    words = parser.parse_args()
    SHIM.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for module in LATE:
        importlib.import_module(module)
    gc.freeze()  # pages that forked processes then share
    passed = 0
    for name in words.cases:
        folder = words.folder.resolve() / f"points_{name}"
        case = CASES[name](words.folder.resolve() / CASES[name].shares)
        points = Points(case, folder)
        started, counts, tried = time.monotonic(), points.begin(), {}
        for mode in words.modes:
            numbers = range(1 - passed % -words.stride, counts[COUNTED[mode]] + 1, words.stride)
            passed += counts[COUNTED[mode]]
            for number in [words.only] if words.only else numbers:
                points.try_one(mode, number)
            tried[mode] = len(numbers)
        shutil.rmtree(folder)
        total = sum(counts[COUNTED[mode]] for mode in words.modes)
        found = {"case": name, "points": total, "tried": tried, "seconds": round(time.monotonic() - started, 1)}
        print(json.dumps(found | {"faults": points.faults}), flush=True)
    return 0


class Points:
    """The points of one case in a folder of their own."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case, self.folder = case, folder
        self.place, self.notes, self.said = folder / "place", folder / "notes", folder / "said"
        self.expected = folder / "expected"
        self.faults: list[str] = []

    def begin(self) -> tuple[int, ...]:
        """Make inputs and the expected result; returns how many calls of each kind that takes."""
        self.folder.mkdir(parents=True)
        if not self.case.inputs.exists():
            self.case.inputs.mkdir()
            code, said = self._child(lambda: self.case.prepare() or 0)
            assert code == 0, said
        code, said = self._armed("read", NEVER)
        assert code == 0, said
        self.place.rename(self.expected)
        self.case.expected = self.expected
        return struct.unpack("<6q", (self.notes / "count").read_bytes()[:48])

    def try_one(self, mode: str, number: int) -> None:
        """One point: the fault, what it leaves, the call after it."""
        code, said = self._armed(mode, number)
        try:
            dead = mode.startswith(("kill", "power"))
            assert dead or code in (0, 1), f"exit code {code}"
            check_words(said, code, mode)
            if mode.startswith("power"):
                power_cut.cut(self.notes, [self.place], mode.split()[1])
            if code == 0:
                self.case.check_done(self.place)
            self.case.check_left(self.place)
            code, again = self._child(lambda: self.case.run(self.place))
            assert code == 0, f"the call after it: exit code {code}: {again}"
            assert "Traceback" not in again, again
            self.case.check_done(self.place)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} {error} ({Path(where.filename).name}:{where.lineno})"
            self.faults.append(f"{mode} {number}: {what}; said: {said.strip()}")

    def _armed(self, mode: str, number: int) -> tuple[int, str]:
        for folder in (self.place, self.notes):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        watched = [self.place, *([self.case.inputs] if self.case.reads_inputs and mode == "read" else [])]

        def work() -> int:
            words = (":".join(map(str, watched)), mode.split()[0], str(self.notes))
            where, how, notes = (word.encode() for word in words)
            assert SHIM.faults_arm(where, how, ctypes.c_long(number), notes) == 0
            return self.case.run(self.place)

        return self._child(work)

    def _child(self, work: Callable[[], int]) -> tuple[int, str]:
        """Exit code (below 0: a signal) and stderr of a forked process that does the work."""
        sys.stdout.flush()
        if not (child := os.fork()):
            code = 1
            try:
                descriptor = os.open(self.said, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                os.dup2(descriptor, 2)
                code = work()
            except BaseException:  # a tool's own exits are numbers
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = None
        while True:  # those that a killed parent left end with it, and come here
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
        return code, self.said.read_text(errors="replace")


def check_words(said: str, code: int, mode: str) -> None:
    """One clear line, no traceback, and advice on room where room is missing alone."""
    assert "Traceback" not in said, "a traceback"
    if not mode.startswith(("kill", "power")) and code:
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, f"{len(lines)} lines of errors"
        by_caffe = "Check failed" in lines[0]  # it aborts without the system's words
        if mode != "short" and not by_caffe:  # a short write has a reason that nobody knows
            advised = bool(ROOM.search(said.partition(lines[0])[2]))
            assert advised == (mode in ("enospc", "edquot")), f"advice on room: {advised}"


if __name__ == "__main__":
    sys.exit(main())
