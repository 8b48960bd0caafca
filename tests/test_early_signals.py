"""Ctrl-C and SIGTERM while a tool starts, and at any other moment of a short call: real processes, one line each."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.holding import HANG, Hold

ROOT = Path(__file__).resolve().parents[1]
TOOLS = sorted(path.name for path in (ROOT / "tools").glob("*.py") if path.name != "__init__.py")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Calls that end by themselves soon, behind the imports of their work where there is something that is not there.
CALLS = {
    "check_setup.py": (),
    "compare.py": ("none.npz", "other.npz"),
    "evaluate.py": ("none",),
    "from_official.py": ("none.caffemodel",),
    "from_torch.py": ("none.safetensors",),
    "make_lmdb.py": ("folder", "--root", "none"),
    "make_prototxt.py": ("--check",),
    "predict.py": ("--run", "none", "photo.jpg"),
    "report.py": ("none",),
    "run_stage.py": ("--status",),
    "to_torch.py": ("none",),
    "visualize.py": ("attention", "none"),
}


def call(tool, folder, environment=None):
    """Start a tool as a user does, by its name, so that its first line counts."""
    return subprocess.Popen(
        [ROOT / "tools" / tool, *CALLS.get(tool, ("--help",))],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])} | (environment or {}),
    )


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("tool", TOOLS)
def test_a_signal_while_a_tool_imports_is_one_line(tool, number, tmp_path):
    """Held in its first import of all, that of argparse."""
    with Hold(tmp_path, tool, r"/argparse\b[^/]*$") as hold:
        process = call(tool, tmp_path, hold.environment)
        hold.wait(process)
        hold.interrupt(process, number)
        said = process.communicate(timeout=HANG)[1]
    assert (process.returncode, said) == (130, "interrupted\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_python_itself_starts_waits_for_the_tool(tmp_path, number):
    """Held before any line of the tool has run."""
    with Hold(tmp_path, "predict.py", r"tools/predict\.py$") as hold:
        process = call("predict.py", tmp_path, hold.environment)
        hold.wait(process)
        process.send_signal(number)
        hold.release()
        said = process.communicate(timeout=HANG)[1]
    assert (process.returncode, said) == (130, "interrupted\n")


@pytest.mark.parametrize("tool", [pytest.param(tool, marks=pytest.mark.slow) for tool in TOOLS] + ["evaluate.py"])
def test_no_moment_of_a_short_call_gives_a_traceback(tool, tmp_path):
    """At growing delays, until the call has ended before the signal came; how fast it is does not matter."""
    for step, number in zip(itertools.count(), itertools.cycle(SIGNALS)):
        process = call(tool, tmp_path)
        try:
            process.wait(0.02 * (1.15**step - 1))
            ended = True
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            ended = False
        said = process.communicate(timeout=HANG)[1]
        assert "Traceback" not in said and "Exception" not in said, (step, said)
        # by the signal itself: what starts Python is not ours, nor is what ends it
        assert ended or process.returncode in (130, -number) or "interrupted" not in said, (process.returncode, said)
        if ended:
            return


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_is_ignored_stays_ignored(tmp_path, number):
    ignoring = (
        f"import os, signal, sys; signal.signal({int(number)}, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    with Hold(tmp_path, "evaluate.py", r"/argparse\b[^/]*$") as hold:
        command = [sys.executable, "-c", ignoring, ROOT / "tools/evaluate.py", "none"]
        environment = {**os.environ, **hold.environment}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
        hold.wait(process)
        process.send_signal(number)
        hold.release()
        said = process.communicate(timeout=HANG)[1]
    assert process.returncode == 3 and "interrupted" not in said, said
