"""Whether a CUDA device can be used, asked before Caffe is told to use it: training and prediction both do."""

from __future__ import annotations

import subprocess
import sys

from pysrn.console import MissingError


def check_gpu(gpu: int) -> None:
    """Raise MissingError when Caffe cannot compute on CUDA device `gpu`.

    A trial in a process of its own, because Caffe aborts without a GPU.
    """
    trial = f"import caffe; caffe.set_device({gpu}); caffe.set_mode_gpu()"
    outcome = subprocess.run([sys.executable, "-c", trial], capture_output=True, text=True, errors="replace")
    if outcome.returncode:
        fatal = [line.partition("] ")[2] for line in outcome.stderr.splitlines() if line.startswith("F")]
        words = fatal or outcome.stderr.strip().splitlines() or [f"exit code {outcome.returncode}"]
        raise MissingError(
            f"CUDA device {gpu} cannot be used: {words[-1]}", "leave --gpu out; see tools/check_setup.py"
        )
