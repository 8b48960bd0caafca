"""Weights that are no caffemodel, damaged, or of another net, in the place of a run's: one line, nothing is lost."""

import gzip
import io

import numpy as np
import pytest
import torch
from safetensors.torch import save

from pysrn.nets.caffemodel import read_layers, write_weights
from tests.systems.broken.conftest import put

LAST, FIRST = "stage2/weights.caffemodel", "stage1/weights.caffemodel"


def weights(place, run, name=LAST):
    return (place / "runs" / run / name).read_bytes()


def torch_file():
    torch.save({"a": torch.zeros(3)}, file := io.BytesIO())
    return file.getvalue()


NO_MODEL = "is damaged or no caffemodel"
FILES = {  # name -> what is there in place of the weights, and what is said of it
    "nothing in it": (lambda place, run: b"", "holds no weights"),
    "zeros": (lambda place, run: bytes(1000), NO_MODEL),
    "HDF5": (lambda place, run: b"\x89HDF\r\n\x1a\n" + bytes(500), NO_MODEL),
    "safetensors": (lambda place, run: save({"a": torch.zeros(300)}), NO_MODEL),
    "pth": (lambda place, run: torch_file(), NO_MODEL),
    "packed": (lambda place, run: gzip.compress(weights(place, run)), NO_MODEL),
    "page not found": (lambda place, run: b"<html>404</html>", NO_MODEL),
    "prototxt": (lambda place, run: weights(place, run, "stage2/deploy.prototxt"), NO_MODEL),
    "half": (lambda place, run: weights(place, run)[: len(weights(place, run)) // 2], "beyond what it is in"),
    "cut off": (lambda place, run: weights(place, run)[:-1000], "beyond what it is in"),
    "solver's state": (lambda place, run: weights(place, run, "stage2/iter_000001.solverstate"), "holds no weights"),
    "another system's": (
        lambda place, run: weights(place, "graph" if run == "path" else "path"), "it has "),
    "another cell's": (lambda place, run: weights(place, "cell"), "it has "),
}  # fmt: skip
DOORS = {
    "predict": ("predict", "runs/{}"),
    "pictures": ("visualize", "labels", "runs/{}"),
    "PyTorch": ("to_torch", "runs/{}"),
    "nets": ("make_prototxt", "--run", "runs/{}", "--stage", "2"),
}


@pytest.mark.parametrize("run", ["path", "graph"])
@pytest.mark.parametrize("name", FILES)
def test_files_that_are_refused(refused, place, name, run):
    content, said = FILES[name]
    put(place / "runs" / run / LAST, content(place, run))
    door = list(DOORS)[list(FILES).index(name) % len(DOORS)]  # each file at one door, each door with several
    tool, *words = DOORS[door]
    refused(1, said, tool, *(word.format(run) for word in words))


@pytest.mark.parametrize("door", DOORS)
def test_a_folder_is_no_file(refused, place, door):
    (place / "runs/path" / LAST).unlink()
    (place / "runs/path" / LAST).mkdir()
    tool, *words = DOORS[door]
    refused(3, "no file runs/path/stage2/weights.caffemodel", tool, *(word.format("path") for word in words))


def blob(layer, change, number=0):
    """Change one blob of a layer."""

    def changed(layers):
        kind, blobs = layers[layer]
        layers[layer] = kind, [change(one) if n == number else one for n, one in enumerate(blobs)]

    return changed


def without(*layers):
    return lambda found: [found.pop(layer) for layer in layers]


def more(*room):
    """One more along these axes."""
    return lambda values: np.pad(values, [(0, int(axis in room)) for axis in range(values.ndim)])


def copy_differs(layers):
    kind, (embedding,) = layers["rnn_embed"]
    layers["rnn_scores"] = kind, [embedding + 1]


NO_NET, SMALL = "does not hold the weights of this net", "contradicts itself"
NO_NUMBER = "holds NaN or infinity"
CHANGES = {
    "embedding wider": ("path", blob("rnn_embed", more(1)), NO_NET),
    "a label more": ("path", blob("rnn_embed", more(0)), "predicts 17 labels, data has 16"),
    "END alone": ("path", blob("rnn_embed", lambda values: values[:1]), SMALL),
    "no embedding": ("path", blob("rnn_embed", lambda values: values[:0]), SMALL),
    "embedding flat": ("path", blob("rnn_embed", np.ravel), SMALL),
    "embedding gone": ("path", without("rnn_embed"), "it has only the trunk"),
    "cell short": ("path", blob("rnn_lstm", lambda values: values[:-1]), NO_NET),
    "cell of no width": ("path", blob("rnn_lstm", lambda values: values[:0]), SMALL),
    "cell flat": ("path", blob("rnn_lstm", np.ravel), SMALL),
    "cell gone": ("path", without("rnn_lstm"), SMALL),
    "cell of one blob": ("path", lambda found: found["rnn_lstm"][1].__delitem__(slice(1, None)), "rnn_lstm has blobs"),
    "projection gone": ("path", without("rnn_project_state"), "can compute no score"),
    "projection narrow": ("path", blob("rnn_project_image", lambda values: values[:, 1:]), "64x255 + 64"),
    "trunk gone": ("path", without("conv1"), "it fits no trunk"),
    "NaN in the path": ("path", blob("rnn_embed", lambda values: values * np.nan), f"rnn_embed {NO_NUMBER}"),
    "infinity in the trunk": ("path", blob("conv1", lambda values: values * np.inf), f"conv1 {NO_NUMBER}"),
    "too large to compute": ("path", blob("rnn_embed", lambda values: np.full_like(values, 3e38)), "not finite"),
    "shared weights differ": ("path", copy_differs, "two different copies of what rnn_embed and rnn_scores share"),
    "unknown layer": ("path", lambda found: found.update(extra=found["conv1"]), "it has extra"),
    "vectors of another label": ("graph", blob("emb_vectors", more(0)), "emb_graph has blobs 16x16, the net wants"),
    "vectors flat": ("graph", blob("emb_vectors", np.ravel), SMALL),
    "vectors of no label": ("graph", blob("emb_vectors", lambda values: values[:0]), SMALL),
    "graph of other classes": ("graph", blob("emb_graph", lambda values: values[:3, :3]), "emb_graph has blobs 3x3"),
    "graph not square": ("graph", blob("emb_graph", lambda values: values[:-1]), "emb_graph has blobs 15x16"),
    "NaN in the graph": ("graph", blob("emb_graph", lambda values: values * np.nan), f"emb_graph {NO_NUMBER}"),
    "graph gone": ("graph", without("emb_graph"), "can compute no score"),
    "vectors gone": ("graph", without("emb_vectors"), "it has only the trunk"),
    "no group": ("graph", blob("emb_gats_W", lambda values: values[:0]), NO_NET),
    "group too many": ("graph", blob("emb_gats_W", more(0)), "emb_gats_a1 has blobs"),
    "tap wider": ("graph", blob("tap_project1", more(0)), NO_NET),
    "tap gone": ("graph", without("tap_project2"), "can compute no score"),
    "fusion gone": ("graph", without("fuse_fc1", "fuse_fc2"), SMALL),
    "fusion short": ("graph", blob("fuse_fc1", lambda values: values[:, 1:]), "fuse_fc1 has blobs"),
    "layer of labels flat": ("graph", blob("emb_gat1_W", np.ravel), SMALL),
    "many labels": ("graph", blob("emb_vectors", lambda values: np.pad(values, ((0, 2000), (0, 0)))), NO_NET),
}


@pytest.mark.parametrize("name", CHANGES)
def test_weights_that_contradict_themselves_or_their_run(refused, place, name):
    run, change, said = CHANGES[name]
    path = place / "runs" / run / LAST
    layers = dict(read_layers(path))
    change(layers)
    path.unlink()
    write_weights(path, "net", layers)
    refused(1, said, "predict", f"runs/{run}")


@pytest.mark.parametrize(
    ("system", "content", "said"),
    [
        ("cnn_rnn", lambda place: weights(place, "graph"), "of its layers are unknown to the net: emb_vectors"),
        ("msrn", lambda place: weights(place, "path"), "of its layers are unknown to the net: rnn_embed"),
        ("msrn", lambda place: weights(place, "path")[:5000], "beyond what it is in"),
        ("cnn_rnn", lambda place: b"", "holds no weights"),
        ("cnn_rnn", lambda place: save({"a": torch.zeros(300)}), NO_MODEL),
    ],
)
def test_first_weights_of_another_net(refused, place, system, content, said):
    put(place / "first.caffemodel", content(place))
    words = ("--system", system, "--data", "data", "--run", "new", "--weights", "first.caffemodel")
    refused(1, said, "run_stage", "1", *words)


@pytest.mark.parametrize("run", ["path", "graph"])
def test_damaged_weights_of_a_finished_stage_are_made_again_from_its_snapshot(doors, place, run):
    whole = weights(place, run)
    put(place / "runs" / run / LAST, whole[:999])
    done = doors.call(place, "run_stage", "--run", run)
    assert done.code == 0 and "is not the file that the stage ended with; it is made again" in done.err, done.err
    assert weights(place, run) == whole
