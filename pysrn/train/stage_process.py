"""One stage in a child process: start it, show its progress, and turn the way it ends into a result or an error.

A failed CHECK aborts Caffe, and GPU memory is only surely freed by exit; so each stage has its own process (D9). With
several ranks the child is their launcher, which passes their events on to us and our stop request to rank 0.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pysrn.console import FAILED, INTERRUPTED, InterruptedRun, Progress, SrnError, message
from pysrn.disk_errors import cure_of
from pysrn.processes import end_with_parent, ending, events_in
from pysrn.train.launch import PLAIN, Launch, broken_rank
from pysrn.train.stage import snapshots
from pysrn.train.stage.files import TRAIN_LOG
from pysrn.train.stage.pulse import EVERY
from pysrn.train.watch import Watch

STOP = b"stop\n"  # any byte on rank 0's stdin, and its end too, is a request to save and stop
_PIPE = 1 << 16  # bytes that a pipe holds
# Seconds that a rank and its launcher have to end the job; assumed: `parallel.py` takes 10 of them at most.
_GRACE = 12.0
_PATIENCE = 3.0  # seconds that a launcher has to end its ranks
_FATAL = re.compile(r"^F\d{4,8} \S+\s+\d+ (.*)$")  # glog: level and date, time, thread, file:line] text


class _Events:
    """What the child has said so far: its last event, its error, and the lines that are no events."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.last: dict = {}
        self.error: dict | None = None
        self.processes: list[list] = []
        self.other_lines: list[str] = []  # the launcher's own
        self._failed: float | None = None  # when a rank said that it ends

    def are_overdue(self) -> bool:
        """Whether a rank has ended with an error, and the launcher lets the others wait for it."""
        return self._failed is not None and time.monotonic() - self._failed > _GRACE

    def take(self, line: str, bar: Progress) -> None:
        """One line of the child's stdout; those of two ranks that fail at once may have become one."""
        for event in events_in(line):
            if not isinstance(event, dict):
                self.other_lines.append(event)
                continue
            if "pulse" in event:
                self.watch.hear(event)
                continue
            self.last = event
            for text in event.get("report", []):
                message(text)
            if "iteration" in event:
                bar.update(event["iteration"] - bar.done, f"loss {event['loss']:.3f}")
            if "error" in event:
                self.error, self._failed = self.error or event, self._failed or time.monotonic()
            self.processes = event.get("processes", self.processes)


def run_child(
    folder: Path, title: str, total: int, initial: int, environment: dict | None = None, launch: Launch = PLAIN
) -> dict:
    """Run `pysrn.train.stage.runner` on a prepared stage folder; returns its last event (what was fixed, carried).

    In it, `interrupted` says whether Ctrl-C or SIGTERM came too late to stop the stage before its end.

    `environment`: variables for the child where the caller's environment does not set them. `launch`: its ranks.
    Raises SrnError with the child's own error, Caffe's last FATAL line, or what the launcher says about a rank that
    died; MissingError when there is no launcher; InterruptedRun after Ctrl-C or SIGTERM; and SrnError, with the job
    ended, where a rank hangs.
    """
    command, several = launch.command(folder), launch.ranks > 1
    with open(folder / TRAIN_LOG, "a", encoding="utf-8") as log:
        begin = log.tell()  # what earlier attempts left is not this one's
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if several else None,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the child once, through us
            preexec_fn=partial(end_with_parent, os.getpid()),  # a launcher cannot call it itself
            env={**(environment or {}), **os.environ, "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"},
        )
        watch, hung, ended = Watch(launch.ranks, launch.hang_after), None, False
        events, bar = _Events(watch), Progress(total, title, "it", initial)
        with _forwarded_signals(child) as interrupts:
            for lines in _lines(child):
                for line in lines:
                    events.take(line, bar)
                if several and not ended and (events.are_overdue() or (hung := watch.hung(events.processes))):
                    ended = True
                    _end(child)
            bar.close()
            code = child.wait()
            if several:
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.close()
    if hung:
        saved = snapshots.iterations(folder)
        kept = f"the snapshot of iteration {saved[0]} is kept" if saved else "there is no snapshot yet"
        cure = "run the same command again; --hang-after SECONDS waits longer"
        raise SrnError(f"{title}, after iteration {bar.done}: {hung}; {kept}", cure)
    if code == 0 and "done" in events.last:
        return {**events.last, "interrupted": bool(interrupts)}
    if events.error is None and interrupts and (several or code == -signal.SIGTERM):
        # not ready to catch it yet, or asked twice
        raise InterruptedRun("interrupted before anything new was saved", "run the same command again")
    if events.error is not None:
        code = events.error.get("exit_code", code)
        kind = InterruptedRun if code == INTERRUPTED else SrnError
        failure = kind(events.error["error"], events.error["cure"])
        failure.exit_code = code if code > 0 else FAILED
        raise failure
    cure = f"the whole log is {folder / TRAIN_LOG}"
    with open(folder / TRAIN_LOG, encoding="utf-8", errors="replace") as log:
        log.seek(begin)
        lines = [line.strip() for line in log if line.strip()]
    if several and (broken := broken_rank(events.other_lines + lines, events.processes)):
        words = f"{fatal} ({broken})" if (fatal := _fatal(lines)) else broken
        cure = f"run the same command again; {cure}"
    else:
        words = _last_words(lines or events.other_lines, code)
    mend = cure_of(RuntimeError(words), elsewhere="another --runs")
    raise SrnError(f"{title}: {words}", f"{mend}; {cure}" if mend else cure)


def _lines(child: subprocess.Popen) -> Iterator[list[str]]:
    """What the child says, until it closes its stdout: all lines that are there, and at least once a second."""
    rest, descriptor, part = b"", child.stdout.fileno(), None
    while part != b"":
        ready = select.select([descriptor], [], [], EVERY)[0]
        while ready and part != b"":
            part = os.read(descriptor, _PIPE)
            rest += part
            ready = select.select([descriptor], [], [], 0)[0]
        *lines, rest = (rest + b"\n" if part == b"" else rest).split(b"\n")
        yield [line.decode("utf-8", "replace") for line in lines]


def _end(child: subprocess.Popen) -> None:
    """End a launcher with its ranks, stopped ones, too: by the signal that srun passes on, then by SIGKILL."""
    child.terminate()
    try:
        child.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()


@contextlib.contextmanager
def _forwarded_signals(child: subprocess.Popen) -> Iterator[list[int]]:
    """While active, SIGINT and SIGTERM ask the child to save and end; we wait for it. Yields those that were seen.

    A launcher may end its ranks at once when it gets a signal; so several ranks are asked through stdin, and only the
    second signal ends a launcher.
    """
    seen: list[int] = []

    def forward(number: int, frame) -> None:
        seen.append(number)
        if child.poll() is not None:
            return
        if child.stdin is None:
            message("interrupted: saving, then stopping")
            child.send_signal(signal.SIGTERM)
        elif len(seen) == 1:
            message("interrupted: saving, then stopping (once more: stop at once)")
            with contextlib.suppress(BrokenPipeError):
                os.write(child.stdin.fileno(), STOP)
        else:
            child.kill()  # its ranks end with it

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fatal(lines: list[str]) -> str:
    """Caffe's last FATAL line, or nothing."""
    return next((match[1] for line in reversed(lines) if (match := _FATAL.match(line))), "")


def _last_words(lines: list[str], code: int) -> str:
    """Caffe's last FATAL line, else the last line of the log, and how the process ended."""
    if code == -signal.SIGKILL:  # leaves no words of its own
        return "killed from outside (SIGKILL), as the system does when memory runs out"
    return f"{_fatal(lines) or (lines[-1] if lines else 'no message')} ({ending(code)})"
