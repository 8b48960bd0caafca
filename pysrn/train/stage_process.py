"""One stage in a child process: start it, show its progress, and turn the way it ends into a result or an error.

A failed CHECK aborts Caffe, and GPU memory is only surely freed by exit; so each stage has its own process (D9).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from pysrn.console import INTERRUPTED, InterruptedRun, Progress, SrnError, message
from pysrn.train.run_folder import TRAIN_LOG

_FATAL = re.compile(r"^F\d{4,8} \S+\s+\d+ (.*)$")  # glog: level and date, time, thread, file:line] text


def run_child(folder: Path, title: str, total: int, initial: int, environment: dict[str, str] | None = None) -> dict:
    """Run `pysrn.train.runner` on a prepared stage folder; returns its last event (what was fixed, carried).

    In it, `interrupted` says whether Ctrl-C or SIGTERM came too late to stop the stage before its end.

    `environment`: variables for the child where the caller's environment does not set them.
    Raises SrnError with the child's own error, or Caffe's last FATAL line; InterruptedRun after Ctrl-C or SIGTERM.
    """
    with open(folder / TRAIN_LOG, "a", encoding="utf-8") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "pysrn.train.runner", str(folder)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the child once, through us
            env={**(environment or {}), **os.environ, "GLOG_minloglevel": "0", "GLOG_logtostderr": "1"},
        )
        with _forwarded_signals(child) as signals:
            last, error = _follow(child, Progress(total, title, "it", initial))
            code = child.wait()
    if code == 0 and "done" in last:
        return {**last, "interrupted": signals.seen}
    if signals.seen and code == -signal.SIGTERM:  # the child was not ready to catch it yet
        raise InterruptedRun("interrupted before the stage began", "run the same command again")
    if error is not None:
        kind = InterruptedRun if code == INTERRUPTED else SrnError
        failure = kind(error["error"], error["cure"])
        failure.exit_code = code
        raise failure
    raise SrnError(f"{title}: {_last_words(folder / TRAIN_LOG, code)}", f"the whole log is {folder / TRAIN_LOG}")


def _follow(child: subprocess.Popen, bar: Progress) -> tuple[dict, dict | None]:
    """Read events until the child closes its output; returns the last event and the error event, if one came."""
    last: dict = {}
    error = None
    for line in child.stdout:
        try:
            last = json.loads(line)
        except json.JSONDecodeError:  # something else printed to stdout
            continue
        for text in last.get("report", []):
            message(text)
        if "iteration" in last:
            bar.update(last["iteration"] - bar.done, f"loss {last['loss']:.3f}")
        if "error" in last:
            error = last
    bar.close()
    return last, error


class _forwarded_signals:  # noqa: N801 - reads as a phrase in `with`
    """While active, SIGINT and SIGTERM go to the child, which saves and ends; we wait for it."""

    def __init__(self, child: subprocess.Popen) -> None:
        self._child = child
        self._before: dict = {}
        self.seen = False

    def __enter__(self) -> _forwarded_signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._forward)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _forward(self, number: int, frame) -> None:
        self.seen = True
        if self._child.poll() is None:
            message("interrupted: saving, then stopping")
            self._child.send_signal(signal.SIGTERM)


def _last_words(log: Path, code: int) -> str:
    """Caffe's last FATAL line, else the last line of the log, and how the process ended."""
    if code == -signal.SIGKILL:  # leaves no words of its own
        return "killed from outside (SIGKILL), as the system does when memory runs out"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    fatal = [match.group(1) for line in lines if (match := _FATAL.match(line))]
    end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    words = fatal[-1] if fatal else (lines[-1].strip() if lines else "no message")
    return f"{words} ({end})"
