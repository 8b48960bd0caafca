"""Snapshots of a real, tiny solver: what is kept, what is damaged, what a full disk leaves."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe.proto import caffe_pb2

from pysrn.console import SrnError
from pysrn.nets.wire_format import head
from pysrn.train.stage import snapshots

NET = """name: "tiny"
layer { name: "in" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 2 dim: 300 } shape { dim: 2 dim: 50 }
  data_filler { type: "gaussian" } data_filler { type: "constant" } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 50 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = """net: "{folder}/net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 100 random_seed: 1
snapshot_prefix: "{folder}/partial"
"""


@pytest.fixture
def solver(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER.format(folder=tmp_path))
    return caffe.get_solver(str(tmp_path / "solver.prototxt"))


def take(solver, folder, steps=1, kept=2, best=None):
    for _ in range(steps):
        solver.step(1)
        snapshots.take(solver, folder, {"best_iteration": best}, kept)


def names(folder):
    return sorted(path.name for path in folder.glob("*iter_*"))


@contextmanager
def largest_file(size):
    """No file may grow beyond `size` bytes meanwhile: what a full disk does to a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_newest_and_the_best_stay(solver, tmp_path):
    take(solver, tmp_path, steps=6, kept=2, best=2)
    assert snapshots.iterations(tmp_path) == [6, 5, 2]
    assert len(names(tmp_path)) == 9
    take(solver, tmp_path, steps=1, kept=1, best=7)
    assert snapshots.iterations(tmp_path) == [7]
    assert snapshots.read_schedule(tmp_path, 7) == {"best_iteration": 7}


def test_a_snapshot_restores_weights_and_momentum_bit_for_bit(solver, tmp_path):
    take(solver, tmp_path, steps=3)
    caffe.set_random_seed(5)
    solver.step(2)
    expected = solver.net.params["fc"][0].data.tobytes()
    second = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    second.net.copy_from(str(snapshots.file_of(tmp_path, 3, snapshots.WEIGHTS)))
    second.restore(str(snapshots.file_of(tmp_path, 3, snapshots.STATE)))
    assert second.iter == 3
    caffe.set_random_seed(5)
    second.step(2)
    assert second.net.params["fc"][0].data.tobytes() == expected


@pytest.mark.parametrize("suffix", [".caffemodel", ".solverstate", ".json"])
@pytest.mark.parametrize("damage", ["cut", "one bit", "gone", "empty"])
def test_a_damaged_newest_snapshot_gives_way_to_the_one_before(solver, tmp_path, suffix, damage):
    if (suffix, damage) == (".json", "gone"):
        pytest.skip("without its record a snapshot is not there: what a kill between its files leaves")
    take(solver, tmp_path, steps=2)
    path = snapshots.file_of(tmp_path, 2, suffix)
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(b"" if damage == "empty" else content[:-20])
    iteration, warnings = snapshots.newest_whole(tmp_path)
    assert iteration == 1
    assert len(warnings) == 1 and str(path) in warnings[0]


def test_files_without_a_record_are_no_snapshot_and_go_with_the_next(solver, tmp_path):
    take(solver, tmp_path, steps=2)
    snapshots.file_of(tmp_path, 2, snapshots.RECORD).unlink()  # killed before the record was there
    (tmp_path / "partial_iter_2.caffemodel").write_bytes(b"half")
    assert snapshots.newest_whole(tmp_path) == (1, [])
    take(solver, tmp_path)
    assert not (tmp_path / "partial_iter_2.caffemodel").exists()


def test_no_whole_snapshot(solver, tmp_path):
    assert snapshots.newest_whole(tmp_path) == (None, [])
    take(solver, tmp_path, steps=2)
    for iteration in (1, 2):
        snapshots.file_of(tmp_path, iteration, snapshots.WEIGHTS).write_bytes(b"")
    iteration, warnings = snapshots.newest_whole(tmp_path)
    assert iteration is None and len(warnings) == 2 and "none before it" in warnings[-1]


@pytest.mark.parametrize("size", [1000, snapshots.ROOM_FOR_NAMES])  # the weights alone are 60 kB
def test_a_full_disk_is_one_error_and_leaves_the_snapshot_before(solver, tmp_path, size):
    take(solver, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    solver.step(1)
    with largest_file(size), pytest.raises(SrnError, match=r"iteration 2 .*that of iteration 1 is kept") as caught:
        snapshots.take(solver, tmp_path, {"best_iteration": None}, 2)
    assert "ulimit -f" in caught.value.cure and "free" not in caught.value.cure
    assert before == {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    assert snapshots.newest_whole(tmp_path) == (1, [])
    snapshots.take(solver, tmp_path, {"best_iteration": None}, 2)  # there is room again
    assert snapshots.newest_whole(tmp_path) == (2, [])


def test_caffe_says_why_it_cannot_write(solver, tmp_path):
    """Its own words were `cannot write`, and which file."""
    program = (
        "import resource, sys, caffe\n"
        "solver = caffe.get_solver(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "solver.snapshot()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "solver.prototxt")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGABRT
    assert re.search(r"cannot write \S+\.caffemodel: File too large", done.stderr), done.stderr[-500:]


def test_a_snapshot_that_did_not_reach_the_disk_is_none(solver, tmp_path, monkeypatch):
    """Its last step failed, the names' own way to the disk: the next run took it, and never dropped the oldest."""

    def fail(folder):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(folder))

    take(solver, tmp_path, steps=2)
    before = names(tmp_path)
    solver.step(1)
    with monkeypatch.context() as patched:
        patched.setattr("pysrn.whole_files.sync_folder", fail)
        with pytest.raises(SrnError, match=r"iteration 3 .* that of iteration 2 is kept"):
            snapshots.take(solver, tmp_path, {"best_iteration": None}, 2)
    assert names(tmp_path) == before
    snapshots.take(solver, tmp_path, {"best_iteration": None}, 2)
    assert snapshots.iterations(tmp_path) == [3, 2]


def test_files_that_caffe_wrote_short_are_no_snapshot(solver, tmp_path):
    take(solver, tmp_path)

    class Short:
        """The solver on a disk that loses the end of a file without a word, as a network disk may."""

        iter, net = 2, solver.net

        def snapshot(self):
            solver.step(1)
            solver.snapshot()
            path = tmp_path / "partial_iter_2.caffemodel"
            path.write_bytes(path.read_bytes()[:-3])

    with pytest.raises(SrnError, match="Caffe wrote less"):
        snapshots.take(Short(), tmp_path, {"best_iteration": None}, 2)
    assert snapshots.iterations(tmp_path) == [1] and len(names(tmp_path)) == 3


def test_a_snapshot_takes_less_memory_than_the_weights(tmp_path):
    """A net of one product with many weights: neither they nor their momentum are copied."""
    wide, blob = 2**24, 4 * 2**24  # weights; bytes
    layers = NET.replace("dim: 300", f"dim: {wide // 50}").replace("std: 0.1", "std: 0.001")
    (tmp_path / "net.prototxt").write_text(layers)
    (tmp_path / "solver.prototxt").write_text(SOLVER.format(folder=tmp_path))
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    solver.step(2)
    carried = tmp_path / "carried.caffemodel"
    with open(carried, "wb") as file:  # a field that no message has, as long as the weights
        file.write(head(1000, blob) + bytes(blob))
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    snapshots.take(solver, tmp_path, {"best_iteration": None}, 2, carried)
    assert memory("VmHWM") - before < blob / 4
    written = caffe_pb2.NetParameter.FromString(
        snapshots.file_of(tmp_path, 2, snapshots.WEIGHTS).read_bytes()[carried.stat().st_size :]
    )
    weights = next(layer for layer in written.layer if layer.name == "fc").blobs[0].data
    assert np.array(weights, np.float32).tobytes() == solver.net.params["fc"][0].data.tobytes()
    state = caffe_pb2.SolverState.FromString(snapshots.file_of(tmp_path, 2, snapshots.STATE).read_bytes())
    assert state.iter == 2 and not state.HasField("learned_net") and len(state.history[0].data) == wide // 50 * 50
    assert state.SerializeToString() == snapshots.file_of(tmp_path, 2, snapshots.STATE).read_bytes()


def memory(what):
    """Bytes of this process, by the name that proc(5) has for them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024
