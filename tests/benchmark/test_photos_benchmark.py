"""From photos to scores: that all contestants read every photo and write the same scores, and the sums."""

import dataclasses
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from pysrn.benchmark.photos import figures
from pysrn.benchmark.photos.figures import COMPILED, EAGER, PEER, Photos
from pysrn.benchmark.photos.job import PhotoJob, filled
from pysrn.benchmark.whole_process import Ended, Scale, family, run_to_end
from pysrn.console import SrnError, ToleranceError
from pysrn.data.pair.pixels import decode_file, warp
from pysrn.predict.splits import view_of
from pysrn.systems.registry import default_system
from tools import benchmark

pytest.importorskip("torch")
pytest.importorskip("caffe")
SMALL = {"count": 3, "rounds": 1, "batch": 2, "threads": 1, "workers": 1, "trunk": "resnet14", "compiled": False}


def test_contestants_write_the_same_scores_of_every_photo(tmp_path, capsys):
    words = [
        word for name in ("count", "rounds", "batch", "threads", "trunk") for word in (f"--{name}", str(SMALL[name]))
    ]
    assert benchmark.main(["photos", *words, "--no-compile", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["photos"]
    assert set(found["agreement"]) == {"ours", EAGER} == set(found["peak_mb"])
    # Two programs never agree to the last bit: it is the peer that was compared.
    assert found["agreement"]["ours"]["scores"] == 0 < found["agreement"][EAGER]["scores"] < 1e-5
    assert all(50 < peak < 3000 for peak in found["peak_mb"].values())
    said = capsys.readouterr().out
    assert "photos: 3 of made ones, batch 2" in said and EAGER in said


@pytest.mark.slow
@pytest.mark.parametrize(("name", "more"), [(PEER, {"peers": (PEER,)}), (COMPILED, {"compiled": True})])
def test_the_other_peers_write_them_too(name, more):
    if name == PEER:
        pytest.importorskip("openvino")
        pytest.importorskip("onnx")
    found = figures.measure(Photos(**SMALL | more))
    assert 0 < found["agreement"][name]["scores"] < 1e-4


def test_rates_are_photos_by_seconds(monkeypatch):
    """A photo takes ours 0.1 s and the peer 0.2 s; starting takes 1 s and 3 s."""
    ran = []

    def run(words, environment, name, weighed=False):
        job = told[name]
        ran.append((name, weighed))
        count = len(list(job.files()))
        np.savez(job.out, **{score: np.ones((count, 2)) for score in job.scores})
        return Ended(1 + 0.1 * count if name == "ours" else 3 + 0.2 * count, 500.0 if weighed else None)

    told = {}
    made = figures._material

    def material(plan, work):
        few, job, commands = made(plan, work)
        return few, job, {name: lambda asked, name=name: told.update({name: asked}) or [] for name in commands}

    monkeypatch.setattr(figures, "run_to_end", run)
    monkeypatch.setattr(figures, "_material", material)
    found = figures.measure(Photos(**SMALL | {"count": 12, "rounds": 3}))
    assert found["whole"]["median"] == {"ours": pytest.approx(12 / 2.2), EAGER: pytest.approx(12 / 5.4)}
    assert found["behind_start"]["median"] == {"ours": pytest.approx(10), EAGER: pytest.approx(5)}
    assert found["behind_start"]["ratio"][EAGER]["median"] == pytest.approx(2)
    assert found["start_seconds"] == {"ours": pytest.approx(1.2), EAGER: pytest.approx(3.4)}
    assert ran[:2] == [("ours", True), (EAGER, True)] and [weighed for _, weighed in ran].count(True) == 2
    assert len(ran) == 2 + 2 * 3 * 2


def test_other_scores_end_it(monkeypatch):
    real = figures.read_scores

    def spoilt(file, scores):
        found = real(file, scores)
        return (
            found
            if spoilt.first.append(file) or len(spoilt.first) == 1
            else {name: one + 1 for name, one in found.items()}
        )

    spoilt.first = []
    monkeypatch.setattr(figures, "read_scores", spoilt)
    with pytest.raises(ToleranceError, match=EAGER):
        figures.measure(Photos(**SMALL))


def test_a_peers_pixels_are_ours(tmp_path):
    from pysrn.benchmark.data.building import make_photos

    eaten = default_system().recipe("coco", None).input
    make_photos(tmp_path / "photos", 2)
    job = PhotoJob(str(tmp_path / "photos"), "", "", "", (), batch=2, threads=1, workers=0, **PhotoJob.pixels_of(eaten))
    job = PhotoJob.from_json(job.to_json())
    mine = np.stack([job.view(file) for file in job.files()])
    square = [warp(decode_file(file), eaten.stored_size, eaten.stored_size) for file in job.files()]
    assert mine.dtype == np.float32 and np.array_equal(mine, np.stack([view_of(image, eaten) for image in square]))
    whole = filled(mine[:1], 3)
    assert whole.shape[0] == 3 and np.array_equal(whole[0], mine[0]) and not whole[1:].any()
    assert dataclasses.replace(job, compiled=True).to_json() != job.to_json()


def test_memory_of_children_counts():
    """64 MB in the process, 64 MB in its child; each page is counted once."""
    child = "import time; block = bytearray(b'x') * (64 << 20); time.sleep(1)"
    run = f"subprocess.run([sys.executable, '-c', {child!r}])"
    parent = f"import subprocess, sys; block = bytearray(b'x') * (64 << 20); {run}"
    found = run_to_end([sys.executable, "-c", parent], weighed=True)
    assert 128 < found.peak_mb < 250 and found.seconds > 1
    assert run_to_end([sys.executable, "-c", "pass"]).peak_mb is None


def test_what_fails_says_so():
    with pytest.raises(SrnError, match=r"mine ended with exit code 3: no such thing"):
        run_to_end(
            [sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"], name="mine"
        )


def test_the_family_of_a_process():
    with subprocess.Popen(["sleep", "5"]) as process:
        assert {os.getpid(), process.pid} <= set(family(os.getpid()))
        process.kill()
    scale = Scale(process.pid)  # it has ended: nothing to weigh
    time.sleep(0.01)
    assert scale.end() == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(["--count", "16"], 2, "--count"), (["--workers", "0"], 2, "--workers"), (["--run", "nowhere"], 3, "nowhere")],
)
def test_mistakes_are_one_line(words, code, said, capsys):
    assert benchmark.main(["photos", *words]) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and said in errors[0]
