"""The tools behind one child process, called one after the other: quick, and what ends that process is a fault found.

The child is this file itself: it reads calls from its standard input and answers on its standard output.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import SimpleNamespace

from tests.systems.conftest import environment

ROOT = Path(__file__).resolve().parents[3]


class Doors:
    """Calls `tools/NAME.py ARGUMENT...` in a folder; the answer has `code`, `out` and `err`."""

    def __init__(self) -> None:
        self._child: subprocess.Popen | None = None

    def call(self, folder: Path, tool: str, *words: object) -> SimpleNamespace:
        if self._child is None:
            variables = environment("") | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self._child = subprocess.Popen([sys.executable, "-m", __name__], env=variables, **pipes)
        print(json.dumps([str(folder), tool, [str(word) for word in words]]), file=self._child.stdin, flush=True)
        if answer := self._child.stdout.readline():
            return SimpleNamespace(**json.loads(answer))
        code = self._child.wait()
        self.close()
        return SimpleNamespace(code=code, out="", err="the process ended")

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.stdin.close()
            self._child.stdout.close()
            self._child.wait()
            self._child = None


@contextlib.contextmanager
def _kept(number: int, file):
    """What is written to a descriptor meanwhile, by whomever, goes to a file."""
    before = os.dup(number)
    os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(before, number)
        os.close(before)


def _called(folder: str, tool: str, words: list[str]) -> dict:
    os.chdir(folder)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with _kept(1, out), _kept(2, err):
            try:
                code = importlib.import_module(f"tools.{tool}").main(words)
            except SystemExit as ending:  # argparse
                code = ending.code
            except BaseException:
                traceback.print_exc()
                code = 99
        texts = [file.seek(0) or file.read() for file in (out, err)]
    return {"code": code, "out": texts[0], "err": texts[1]}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(_called(*json.loads(line))), file=answers, flush=True)
