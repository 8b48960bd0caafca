"""Time and memory of converting a whole ResNet-101 SRN: every tool as a user calls it, in a process of its own.

Three runs each, medians, from the start of Python to its end; memory is the greatest resident size of the process. Slow
and only worth its figures on an idle machine: `pytest -s -m slow tests/real/test_conversion_cost.py`.
"""

import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from pysrn.benchmark.realistic_weights import write_realistic
from pysrn.nets.caffemodel import read_weights
from pysrn.predict.deploy import deploy_message
from pysrn.systems.srn.heads import HeadSpec
from tests.srn import Architecture, check_images
from tests.systems.srn.test_official import their_net

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 3
SECONDS, BYTES = 10, 1.5e9  # the bars
NO_CAFFE = "import runpy, sys; sys.modules['caffe'] = None; sys.argv = sys.argv[1:]; "
NO_CAFFE += "runpy.run_path(sys.argv[0], run_name='__main__')"


def cost(tool: str, words: list, caffe: bool = True) -> tuple[float, float]:
    """Seconds and bytes of one run of a tool."""
    start = [] if caffe else ["-c", NO_CAFFE]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, *start, str(ROOT / "tools" / f"{tool}.py"), *map(str, words)]
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said.decode()
    return time.perf_counter() - began, used.ru_maxrss * 1024


def make_models(folder: Path) -> None:
    """Write a caffemodel of either variant, 80 labels, one of the authors' format, and PyTorch's files."""
    for variant, trunk in (("paper", "resnet101"), ("released", "resnet101_preact")):
        architecture = Architecture(trunk, 80, HeadSpec(variant=variant))
        write_realistic(folder / f"{variant}.caffemodel", architecture, check_images(1))
        cost("to_torch", [folder / f"{variant}.caffemodel", "--dataset", "coco", "-o", folder / f"{variant}.pth"])
    net, _ = their_net(deploy_message(architecture), read_weights(folder / "released.caffemodel"), "variance")
    (folder / "official.caffemodel").write_bytes(net.SerializeToString())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of `make_models`. It runs elsewhere: a process that starts a tool lends it its own greatest size."""
    folder = tmp_path_factory.mktemp("models")
    with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:
        elsewhere.submit(make_models, folder).result()
    return folder


CASES = [
    ("to_torch", "paper", True, []),
    ("to_torch", "released", True, []),
    ("to_torch", "paper", False, []),
    ("to_torch", "paper", True, ["--onnx"]),
    ("from_torch", "paper", True, []),
    ("from_torch", "released", True, []),
    ("from_torch", "paper", False, []),
    ("from_official", "official", True, ["--statistics", "variance"]),
]


@pytest.mark.parametrize(("tool", "model", "caffe", "options"), CASES, ids=str)
def test_cost(models, tmp_path, tool, model, caffe, options, capfd):
    source, out = models / f"{model}.caffemodel", tmp_path / "out.caffemodel"
    if tool == "to_torch":
        options, out = [*options, "--dataset", "coco"], tmp_path / "out.pth"
    elif tool == "from_torch":
        source = next(models.glob(f"{model}-*.pth"))
    runs = [cost(tool, [source, "-o", out, *options], caffe) for _ in range(ROUNDS)]
    seconds, memory = (statistics.median(values) for values in zip(*runs, strict=True))
    with capfd.disabled():
        words = " ".join([tool, model, *options, "" if caffe else "without Caffe"])
        print(f"\n{words:<52}{seconds:6.1f} s ({min(runs)[0]:.1f}-{max(runs)[0]:.1f}){memory / 1e9:7.2f} GB", end="")
    assert seconds < SECONDS and memory < BYTES
