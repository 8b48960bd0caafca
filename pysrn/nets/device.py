"""Whether a CUDA device can be used, asked before Caffe is told to use it: training and prediction both do."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

from pysrn.console import MissingError

NO_DEVICE = "no CUDA device"  # how what our Caffe says begins (docker/caffe/patches/gpu-4-without-device.patch)


@cache  # of what works; an error is asked anew
def check_gpu(gpu: int) -> None:
    """Raise MissingError when Caffe cannot compute on CUDA device `gpu`.

    A trial in a process of its own, because Caffe aborts on a device that is not there, and a Caffe for the CPU on any.
    """
    trial = f"import caffe; caffe.set_device({gpu}); caffe.set_mode_gpu()"
    outcome = subprocess.run([sys.executable, "-c", trial], capture_output=True, text=True, errors="replace")
    if outcome.returncode:
        fatal = [line.partition("] ")[2] for line in outcome.stderr.splitlines() if line.startswith("F")]
        words = fatal or outcome.stderr.strip().splitlines() or [f"exit code {outcome.returncode}"]
        reason = words[-1].removeprefix("RuntimeError: ")
        raise MissingError(
            reason if reason.startswith(NO_DEVICE) else f"CUDA device {gpu} cannot be used: {reason}",
            "leave --gpu out; see tools/check_setup.py",
        )
