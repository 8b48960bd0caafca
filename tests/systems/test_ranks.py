"""1, 2 and 4 ranks of the systems with shared weights, RMSProp and a label branch: first gradients, and going on."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from caffe.proto import caffe_pb2

from pysrn.data.build import build_dataset
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.in_caffe import make_net
from pysrn.systems.cnn_rnn.heads import HeadSpec
from pysrn.train.stage.rank_net import shared_blobs
from tests.systems.cnn_rnn import recurrent_part
from tests.systems.conftest import command, environment
from tests.train.conftest import assert_same_weights
from tests.train.first_gradients import first_gradients, largest_difference
from tests.train.test_parallel import needs_mpi

BATCH = ("--batch-size", "8", "--iter-size", "2")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small pair, and in it runs whose stage 1 is done."""
    folder = tmp_path_factory.mktemp("ranks")
    build_dataset("shapes", folder / "data", seed=3, counts={"train": 24, "test": 4}, workers=1)
    for system in ("cnn_rnn", "msrn"):
        train(folder, system, system, "1,1", stage="1")
    return folder


def train(place, system, run, iterations, *words, stage="2"):
    asked = (stage, "--system", system, "--data", "data", "--run", run, "--iterations", iterations, *words, *BATCH)
    options = {"capture_output": True, "text": True, "check": False}
    done = subprocess.run(command("run_stage", *asked), cwd=place, env=environment(""), **options)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def begun(place, system, name) -> Path:
    """A copy of the run with stage 1; the folder of its stage 2."""
    shutil.copytree(place / "runs" / system, place / "runs" / name)
    return place / "runs" / name / "stage2"


def squared(folder) -> list[np.ndarray]:
    """RMSProp's history of the first iteration: a tenth of each squared gradient."""
    state = caffe_pb2.SolverState.FromString((folder / "iter_000001.solverstate").read_bytes())
    return [np.array(blob.data, np.float64) for blob in state.history]


@needs_mpi
@pytest.mark.parametrize("cell", ["lstm", pytest.param("paper", marks=pytest.mark.slow)])
def test_first_gradients_of_shared_weights(place, cell):
    """The size of each is in the history, its sign in the step, which RMSProp makes as large for all of them."""
    found, ended = {}, {}
    for ranks in (1, 2, 4):
        name = f"{cell}{ranks}"
        folder = begun(place, "cnn_rnn", name)
        words = ("--cell", cell, "--dropout", "0", "--ranks", ranks)
        train(place, "cnn_rnn", name, "1,1", *words)
        found[ranks] = [np.sqrt(10 * history) for history in squared(folder)]
        ended[ranks] = read_weights(folder / "weights.caffemodel")
    for ranks in (2, 4):
        for one, other in zip(found[1], found[ranks], strict=True):
            assert np.linalg.norm(one) > 0 and np.linalg.norm(other - one) <= 1e-5 * np.linalg.norm(one)
        for name, blobs in ended[1].items():
            for one, other in zip(blobs, ended[ranks][name], strict=True):
                assert (np.abs(one - other) > 1e-4).mean() < 1e-3, name  # a step is 3e-3


@needs_mpi
def test_first_gradients_of_the_label_branch(place):
    found = {}
    for ranks in (1, 2, 4):
        folder = begun(place, "msrn", f"msrn{ranks}")
        train(place, "msrn", f"msrn{ranks}", "1,1", "--train-bn", "1", "--ranks", ranks)
        gradients = first_gradients(folder)
        # Where all logits of a softmax have one sign, what is added to each of them has no gradient but rounding.
        found[ranks] = {name: values for name, values in gradients.items() if np.linalg.norm(values) > 1e-8}
        assert gradients.keys() - found[ranks].keys() <= {"emb_gats_a1[0]"} and "emb_gat1_W[0]" in found[ranks]
    for ranks in (2, 4):
        assert largest_difference(found[ranks], found[1]) < 1e-5


@needs_mpi
@pytest.mark.parametrize("system", ["cnn_rnn", pytest.param("msrn", marks=pytest.mark.slow)])
def test_four_ranks_go_on_bit_for_bit(place, system):
    """With dropout and with statistics of the batch."""
    words = ("--snapshot-every", "2", "--ranks", "4")
    straight, cut = begun(place, system, f"{system}_straight"), begun(place, system, f"{system}_cut")
    train(place, system, straight.parent.name, "1,4", *words)
    shutil.rmtree(cut.parent)
    shutil.copytree(straight.parent, cut.parent)
    for path in [*cut.glob("iter_000004*"), cut / "weights.caffemodel", cut / "manifest.json"]:
        path.unlink()
    assert "going on from the snapshot of iteration 2" in train(place, system, cut.parent.name, "1,4", *words)
    assert_same_weights(cut / "weights.caffemodel", straight / "weights.caffemodel")


@pytest.mark.parametrize("cell", ["lstm", "paper"])
def test_a_shared_blob_is_averaged_once(cell):
    """The blobs that ranks exchange are those that the solver changes, none of them twice."""
    heads = HeadSpec(8, 12, cell, path_steps=4)
    message = recurrent_part.training_net(heads, 5, 2, 6)
    net = make_net(message, train=True)
    learning, statistics = shared_blobs(net, message)
    places = [blob.data.ctypes.data for blob in learning]
    assert len(set(places)) == len(places) and not statistics
    everything = [blob.data.ctypes.data for blobs in net.params.values() for blob in blobs]
    assert set(places) == set(everything) and len(everything) - len(places) == {"lstm": 1, "paper": 1 + 3}[cell]
