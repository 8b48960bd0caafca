"""Four stages by plain `caffe train` on stock Caffe, with the very commands that stand in the solvers."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pysrn.data.build import build_dataset
from pysrn.nets import messages
from pysrn.nets.caffemodel import read_layers, write_weights
from pysrn.nets.prototxt import read_message
from pysrn.predict.deploy import DeployNet
from pysrn.systems.generated import last_snapshot, write_stock
from tests.srn import RECIPES, SCORES, replace

ITERATIONS, RATES = (80, 40, 40, 40), (0.03, 0.003, 0.01, 0.0003)
STAGES = (1, 2, 3, 4)
IMAGES, BATCH = 64, 8
EPOCH = IMAGES // BATCH  # iterations


def short(variant):
    """The recipe of `shapes` with few iterations."""
    plain = replace(RECIPES["shapes"], variant=variant, batch_size=BATCH)
    return replace(
        plain,
        stages=tuple(
            replace(plan, iterations=count, base_lr=rate, drops=())
            for plan, count, rate in zip(plain.stages, ITERATIONS, RATES, strict=True)
        ),
    )


def command_in(solver: Path) -> list[str]:
    """The command at a solver's head."""
    comment = [line.removeprefix("#").strip() for line in solver.read_text().splitlines() if line.startswith("#")]
    return shlex.split(re.search(r"^(caffe train .*?[^\\])$", "\n".join(comment), re.M | re.S)[1].replace("\\\n", " "))


def train(place: Path, command: list[str]) -> list[float]:
    """Losses that stock Caffe prints, one for each iteration."""
    environment = os.environ | {
        "CAFFE_ENGINE": "stock",
        "OMP_NUM_THREADS": "1",
        "GLOG_logtostderr": "1",
        "GLOG_minloglevel": "0",
    }
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [float(loss) for loss in re.findall(r"Iteration \d+[^\n]*?, loss = (\S+)", done.stderr)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the LMDB pair that the nets read."""
    folder = tmp_path_factory.mktemp("stock")
    build_dataset("shapes", folder / "data" / "shapes", counts={"train": IMAGES, "test": 8}, workers=1)
    return folder


@pytest.mark.parametrize("variant", ["paper", pytest.param("released", marks=pytest.mark.slow)])
def test_four_stages(place, variant, monkeypatch):
    monkeypatch.chdir(place)
    recipe = short(variant)
    solvers = {path.name: path for path in write_stock(recipe, Path("nets")) if "_solver_" in path.name}
    assert len(solvers) == 8
    for solver in solvers.values():
        text = solver.read_text()
        assert "display: 20\n" in text
        solver.write_text(text.replace("display: 20\n", "display: 1\n"))
    losses = {n: train(place, command_in(solvers[f"stage{n}_solver_cpu.prototxt"])) for n in STAGES}
    print(losses)
    assert np.isfinite([loss for values in losses.values() for loss in values]).all()
    # One batch has losses far from another's, so means over all images are compared.
    began = {n: np.mean(losses[n][:EPOCH]) for n in STAGES}
    ended = {n: np.mean(losses[n][-EPOCH:]) for n in STAGES}
    for n in (1, 2, 3):
        assert ended[n] < 0.9 * began[n], n
    assert ended[4] < began[4]
    if variant == "paper":  # `released` has too few iterations for stage 1's stored statistics
        assert losses[4][0] < 1.5 * (ended[2] + ended[3])  # of scores that the stages before have learned

    folder = solvers["stage4_solver_cpu.prototxt"].parent
    snapshots = [last_snapshot(recipe, n, folder) for n in STAGES]
    first, _, third, last = map(read_layers, snapshots)
    assert "res5a_branch2a" in first and "res5a_branch2a" not in third  # what stage 4 needs stage 1's for
    assert not np.array_equal(first["cls_fc"][1][0], last["cls_fc"][1][0])
    assert DeployNet(Path(snapshots[3])).scores == SCORES

    # One file with all that was learned, as our own stages pass it on, begins alike; stage 3's snapshot alone does not.
    command = command_in(solvers["stage4_solver_cpu.prototxt"])
    once = solvers["stage4_solver_cpu.prototxt"].with_name("once.prototxt")
    once.write_text(Path(command[3]).read_text().replace("max_iter: 20", "max_iter: 1"))
    learned = {name: layer for path in snapshots[:3] for name, layer in read_layers(path).items()}
    write_weights(folder / "whole.caffemodel", "whole", learned)
    command = [*command[:3], str(once), "-weights"]
    assert train(place, [*command, str(folder / "whole.caffemodel")])[0] == losses[4][0]
    assert not train(place, [*command, snapshots[2]])[0] < 2 * losses[4][0]


def test_solvers_say_where_they_run_and_what_caffe_cannot(tmp_path):
    solvers = [path for path in write_stock(RECIPES["coco"], tmp_path) if "_solver_" in path.name]
    for path in solvers:
        solver = read_message(path, messages.SolverParameter)
        assert solver.solver_mode == (solver.GPU if "gpu" in path.name else solver.CPU)
        assert Path(solver.net).is_file() and command_in(path)[3] == str(path)
        assert "knows no plateau" in path.read_text()
    commands = {path.name: command_in(path) for path in solvers}
    assert commands["stage1_solver_gpu.prototxt"][-2:] == ["-weights", "IMAGENET.caffemodel"]
    assert len(commands["stage4_solver_gpu.prototxt"][-1].split(",")) == 3
