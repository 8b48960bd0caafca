"""What Caffe can compute with, asked before it is told to, because it aborts: training and prediction both do."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

from pysrn.console import MissingError, UsageError

ENGINE = "CAFFE_ENGINE"  # docker/caffe/patches/speed-1-engine-switch.patch
NO_DEVICE = "no CUDA device"  # how what our Caffe says begins (docker/caffe/patches/gpu-4-without-device.patch)


@cache  # of what works; an error is asked anew
def check_gpu(gpu: int) -> None:
    """Raise MissingError when Caffe cannot compute on CUDA device `gpu`.

    A trial in a process of its own, because Caffe aborts on a device that is not there, and a Caffe for the CPU on any.
    """
    if reason := _fails(f"caffe.set_device({gpu}); caffe.set_mode_gpu()"):
        raise MissingError(
            reason if reason.startswith(NO_DEVICE) else f"CUDA device {gpu} cannot be used: {reason}",
            "leave --gpu out; see tools/check_setup.py",
        )


@cache
def engine_in_use() -> tuple[str, ...]:
    """The parts of our engine that Caffe computes with (none: stock Caffe). UsageError when CAFFE_ENGINE is wrong."""
    import caffe

    if not hasattr(caffe, "engine_parts"):  # stock Caffe has not
        return ()
    if ENGINE in os.environ and (reason := _fails("caffe.engine_parts()")):
        raise UsageError(reason.rpartition("Check failed: ")[2].partition(") ")[2] or reason, f"leave {ENGINE} out")
    return tuple(caffe.engine_parts())


def _fails(trial: str) -> str:
    """The last words of a process of its own that tries this with Caffe; "" when it goes well."""
    command = [sys.executable, "-c", f"import caffe; {trial}"]
    outcome = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if not outcome.returncode:
        return ""
    fatal = [line.partition("] ")[2] for line in outcome.stderr.splitlines() if line.startswith("F")]
    words = fatal or outcome.stderr.strip().splitlines() or [f"exit code {outcome.returncode}"]
    return words[-1].removeprefix("RuntimeError: ")
