"""What every command line tool shares: errors with their exit code, messages, progress.

Results go to stdout, everything else to stderr: a bar on a terminal, plain lines otherwise.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TypeVar

from pysrn.disk_errors import cure_of
from pysrn.early_signals import SIGNALS
from pysrn.later import later

tqdm = later("tqdm")
Item = TypeVar("Item")

DONE, FAILED, WRONG_USAGE, MISSING, OUT_OF_TOLERANCE, INTERRUPTED = 0, 1, 2, 3, 4, 130
LAST_SEED = 2**32 - 2  # Caffe takes 32 bits, and gets the seed plus one (nets/solvers.py)
AFTER_IMPORT = 0.02  # assumed: seconds until an interrupt that met an import is tried again
PLAIN_LINE_SECONDS = 10.0  # how often a progress line is written where there is no terminal


class SrnError(Exception):
    """Work failed: the message says what and where, `cure` is the command or step that mends it."""

    exit_code = FAILED

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


class UsageError(SrnError):
    """The command was called wrongly."""

    exit_code = WRONG_USAGE


class MissingError(SrnError):
    """Something needed (file, package, earlier stage) is not there."""

    exit_code = MISSING


class ToleranceError(SrnError):
    """A result was computed but lies outside its tolerance."""

    exit_code = OUT_OF_TOLERANCE


class InterruptedRun(SrnError):
    """The work was interrupted after its state was saved."""

    exit_code = INTERRUPTED


def run_main(
    work: Callable[[argparse.Namespace], int | None],
    arguments: argparse.Namespace | Callable[[], argparse.Namespace],
) -> int:
    """Call `work(arguments)`; turn the errors a user can mend into one line on stderr and an exit code.

    `arguments` may be what parses them, where that can meet such an error, too.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")  # or Caffe prints every net; read when it is imported
    try:
        with interruptible():
            return work(arguments() if callable(arguments) else arguments) or DONE
    except SrnError as error:
        message(f"error: {error}")
        if error.cure:
            message(f"  mend it: {error.cure}")
        return error.exit_code
    except ModuleNotFoundError as error:
        message(f"error: the Python package {error.name} is not installed")
        message("  mend it: run the command through docker/local, or in the image that docker/build cpu --full makes")
        return MISSING
    except KeyboardInterrupt:
        message("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        message(f"error: {error.strerror or error}{where}")
        if cure := cure_of(error):
            message(f"  mend it: {cure}")
        return FAILED


def escaped(text: str, kept: str = "") -> str:
    """The text with what a terminal would obey as signs that it shows, but those in `kept`."""
    return "".join(sign if sign.isprintable() or sign in kept else repr(sign)[1:-1] for sign in text)


def message(text: str) -> None:
    """Write one line for the person at the keyboard (stderr), above a progress bar if there is one.

    Names of files and labels stand in it, whoever chose them: what a terminal would obey is escaped.
    """
    text = escaped(text, "\n\t")
    if Progress.bars:
        tqdm.tqdm.write(text, file=sys.stderr)
    else:
        print(text, file=sys.stderr)


class Progress:
    """A tqdm bar on a terminal, otherwise one plain line every `PLAIN_LINE_SECONDS` and one at the end."""

    bars = 0  # on the terminal

    def __init__(self, total: int, description: str, unit: str = "it", initial: int = 0) -> None:
        self.total, self.description, self.unit, self.done = total, description, unit, initial
        self.note = ""
        self._started = self._last_line = time.monotonic()
        self._initial = initial
        self._bar = None
        if sys.stderr.isatty():
            Progress.bars += 1
            self._bar = tqdm.tqdm(total=total, desc=description, unit=unit, initial=initial, file=sys.stderr)

    def update(self, count: int = 1, note: str = "") -> None:
        """Advance by `count`; `note` is shown behind the numbers."""
        self.done += count
        self.note = note or self.note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last_line >= PLAIN_LINE_SECONDS:
            self._plain_line()

    def close(self) -> None:
        """Finish: close the bar or write the last plain line."""
        if self._bar is not None:
            self._bar.close()
            Progress.bars -= 1
        else:
            self._plain_line()

    def _plain_line(self) -> None:
        self._last_line = time.monotonic()
        elapsed = self._last_line - self._started
        rate = (self.done - self._initial) / elapsed if elapsed > 0 else 0.0
        left = f", {(self.total - self.done) / rate:.0f} s left" if rate > 0 and self.done < self.total else ""
        note = f", {self.note}" if self.note else ""
        message(f"{self.description}: {self.done}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s{left}{note}")


def progress(items: Iterable[Item], total: int, description: str, unit: str = "it") -> Iterator[Item]:
    """Yield `items` while showing how far it is."""
    bar = Progress(total, description, unit)
    try:
        for item in items:
            yield item
            bar.update()
    finally:
        bar.close()


@contextmanager
def interruptible() -> Iterator[None]:
    """While active, Ctrl-C raises KeyboardInterrupt, and SIGTERM, too: batch systems send it before they kill."""
    before = {}
    try:
        # SIGALRM: one that met an import, once more
        for number in (*SIGNALS, signal.SIGALRM) if threading.current_thread() is threading.main_thread() else ():
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, _interrupt)
        yield
    finally:
        late = before and signal.setitimer(signal.ITIMER_REAL, 0)[0]
        for number, handler in before.items():
            signal.signal(number, handler)
        if late:
            raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    """KeyboardInterrupt, but behind an import that is under way: there Python may lose it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            signal.setitimer(signal.ITIMER_REAL, AFTER_IMPORT)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile never see Ctrl-C, from their first moment on; this one sees it later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit the mask
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def seed_number(text: str) -> int:
    """A seed of the command line. A negative one would let Caffe draw its own, so a run could not be repeated."""
    if not text.isdecimal() or int(text) > LAST_SEED:
        raise argparse.ArgumentTypeError(f"a whole number from 0 to {LAST_SEED}")
    return int(text)


def existing_folder(path: str | Path, what: str, cure: str = "") -> Path:
    """Return `path` as a Path; raise MissingError when it is not a folder."""
    path = Path(path)
    if not path.is_dir():
        raise MissingError(f"{what} not found: no folder {path}", cure)
    return path


def existing_file(path: str | Path, what: str, cure: str = "") -> Path:
    """Return `path` as a Path; raise MissingError when it is not a file."""
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{what} not found: no file {path}", cure)
    return path


def check_packages(*names: str) -> None:
    """Raise MissingError for the first of PyTorch's, or of ONNX', Python packages that is not installed."""
    for name in names:
        if find_spec(name) is None:
            extra = "onnx" if name.startswith("onnx") else "torch"
            raise MissingError(f"the Python package {name} is not installed", f"pip install -e .[{extra}]")


def recoded(path: str | Path, encoding: str = "") -> str:
    """The command that makes UTF-8 of a file: a cure."""
    old, new = shlex.quote(str(path)), shlex.quote(f"{path}.utf8")
    doubt = "" if encoding else "  (or whichever it is: CP1252 is Windows in Western Europe)"
    return f"iconv -f {encoding or 'CP1252'} -t UTF-8 {old} -o {new} && mv {new} {old}{doubt}"


def check_output_file(path: Path | None, option: str = "out") -> None:
    """Raise UsageError when what an option names to be written (None: it was not given) is a folder."""
    if path is not None and path.is_dir():
        raise UsageError(f"--{option} must name a file: {path} is a folder")
