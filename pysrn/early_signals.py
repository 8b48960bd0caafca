"""A signal while a tool still imports, or ends, is one line and exit code 130; each tool imports this before all else.

While Python itself starts it would answer Ctrl-C with a traceback. So the first line of each tool starts it with both
signals blocked; what came meanwhile comes here. While a tool works, `console.run_main` decides.
"""

import _signal  # `signal` would import enum, and more, first
import os
import sys

SIGNALS = (_signal.SIGINT, _signal.SIGTERM)
_INTERRUPTED = 130  # console.INTERRUPTED
_TOOLS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "tools")


def _end(number, frame) -> None:
    os.write(2, b"interrupted\n")
    os._exit(_INTERRUPTED)


# a test, or another's program, that imports a tool keeps its own
if os.path.dirname(os.path.realpath(getattr(sys.modules["__main__"], "__file__", None) or "")) == _TOOLS:
    for _number in SIGNALS:
        if _signal.getsignal(_number) is not _signal.SIG_IGN:  # nohup, a shell's background
            _signal.signal(_number, _end)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, SIGNALS)
