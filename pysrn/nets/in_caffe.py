"""The one place where Caffe is handed a net, a solver or a device; what it would abort on is asked for before.

Only functions that compute import Caffe, so that everything else works where there is none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pysrn.console import MissingError, UsageError
from pysrn.nets import messages, prototxt

if TYPE_CHECKING:
    from google.protobuf.message import Message

ENGINE = "CAFFE_ENGINE"  # docker/caffe/patches/speed-1-engine-switch.patch
NOT_HERE = "this processor has no"  # what our Caffe says of bf16 where that cannot be (engine.cpp)
TF32 = "CAFFE_TF32"  # docker/caffe/patches/gpu-5-tf32-switch.patch
NO_DEVICE = "no CUDA device"  # how what our Caffe says begins (docker/caffe/patches/gpu-4-without-device.patch)


def make_net(net: messages.NetParameter, train: bool = False, weights: str | Path | None = None):
    """A `caffe.Net` of a message, in phase TRAIN or TEST; `weights`: a caffemodel that Caffe itself copies from."""
    import caffe

    with _on_disk(net) as path:
        options = {} if weights is None else {"weights": str(weights)}
        return caffe.Net(str(path), caffe.TRAIN if train else caffe.TEST, **options)


def make_solver(solver: messages.SolverParameter):
    """A pycaffe solver of a message, which has its net within it (`net_param`) or names its file."""
    import caffe

    with _on_disk(solver) as path:
        return caffe.get_solver(str(path))


def use_device(gpu: int | None) -> None:
    """Let Caffe compute on the CPU (None) or a CUDA device; raises as `check_gpu` and `engine_in_use`."""
    engine_in_use()
    if gpu is not None:
        check_gpu(gpu)
    set_device(gpu)


def set_device(gpu: int | None) -> None:
    """The same of a device that is known to work."""
    import caffe

    if gpu is None:
        caffe.set_mode_cpu()
        return
    caffe.set_device(gpu)
    caffe.set_mode_gpu()


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


def kind_of_device(on_gpu: bool) -> str:
    """What rounds in a way of its own: "cpu", "gpu", or a GPU that rounds factors to TF32."""
    return ("gpu, TF32" if os.environ.get(TF32) == "1" else "gpu") if on_gpu else "cpu"


@cache
def engine_in_use() -> tuple[str, ...]:
    """The parts of our engine that Caffe computes with (none: stock Caffe).

    UsageError when CAFFE_ENGINE is wrong, MissingError where it names what the processor has not.
    """
    import caffe

    if not hasattr(caffe, "engine_parts"):  # stock Caffe has not
        return ()
    if ENGINE in os.environ and (reason := _fails("caffe.engine_parts()")):
        words = reason.rpartition("Check failed: ")[2].partition(") ")[2] or reason
        if NOT_HERE in words:
            raise MissingError(words, "leave --precision out, or bf16 in CAFFE_ENGINE")
        raise UsageError(words, f"leave {ENGINE} out")
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


def loadable(net: messages.NetParameter) -> messages.NetParameter:
    """The net as the Caffe that is here can load it, a copy: layers of types that it lacks become Python layers.

    Those that have a twin in Python name it in their `python_param`, which Caffe's own type does not read.
    """
    own = messages.copy_of(net)
    for layer in own.layer:
        if layer.HasField("python_param") and layer.type not in _layer_types():
            layer.type = "Python"
    return own


@cache
def _layer_types() -> frozenset[str]:
    import caffe

    return frozenset(caffe.layer_type_list())


@contextmanager
def _on_disk(message: Message) -> Iterator[Path]:
    """A message as a file: pycaffe takes nothing else."""
    if isinstance(message, messages.NetParameter):
        message = loadable(message)
    elif message.HasField("net_param"):
        message = messages.copy_of(message)
        message.net_param.CopyFrom(loadable(message.net_param))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "message.prototxt"
        prototxt.write_message(message, path)
        yield path
