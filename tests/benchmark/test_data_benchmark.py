"""The data benchmarks on tiny inputs: that they measure what they say, not how fast anything is."""

import json
import shutil
import time

import cv2
import numpy as np
import pytest

from pysrn.benchmark import timing
from pysrn.benchmark.data import building, feeding, waiting
from pysrn.console import MissingError, SrnError, ToleranceError
from pysrn.data.pair.lmdb_pair import PairReader
from tests.srn import feed
from tools import benchmark


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """12 made pictures and their list."""
    folder = tmp_path_factory.mktemp("material") / "photos"
    building.make_photos(folder, 12)
    building.write_list(folder, 16)
    return folder


@pytest.fixture(scope="module")
def pairs(photos, tmp_path_factory):
    """The pair of the pictures in both encodings."""
    folder = tmp_path_factory.mktemp("pairs")
    for encoding in ("jpeg", "raw"):
        building.build(photos, folder / encoding, "shapes", encoding, 1)
    return folder


def test_contestants_take_turns():
    calls = []

    def contestant(name):
        return lambda: calls.append(name) or float(len(calls))

    figures = timing.alternate({name: contestant(name) for name in "abc"}, 3)
    assert "".join(calls) == "abcbcacab"
    assert figures == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_ratios_are_medians_of_rounds():
    found = timing.summary({"ours": [4.0, 9.0, 2.0], "peer": [2.0, 3.0, 2.0]}, "ours")
    assert found["median"] == {"ours": 4.0, "peer": 2.0}
    assert found["ratio"] == {"peer": {"median": 2.0, "least": 1.0, "most": 3.0}}


def test_the_machine_is_described():
    machine = timing.describe_machine()
    assert machine["cores"] >= 1 and machine["versions"]["numpy"] == np.__version__
    assert "jpeg" in machine["jpeg_library"].lower()


def test_made_photos_are_the_same_again_and_like_photos(photos, tmp_path):
    building.make_photos(tmp_path / "again", 2)
    for number in range(2):
        name = f"{number:06d}.jpg"
        assert (tmp_path / "again" / name).read_bytes() == (photos / name).read_bytes()
    sizes = [path.stat().st_size for path in photos.glob("*.jpg")]
    assert len(sizes) == 12 and 130_000 < np.mean(sizes) < 190_000  # MS-COCO: 160 kB
    image = cv2.imread(str(photos / "000000.jpg"))
    assert image.shape == (480, 640, 3) and image.std() > 20
    assert len({path.read_bytes() for path in photos.glob("*.jpg")}) == 12


def test_photos_of_a_user_are_repeated_under_other_names(photos, tmp_path):
    building.copy_photos(photos, tmp_path / "copies", 15)
    assert (tmp_path / "copies/000012.jpg").read_bytes() == (photos / "000000.jpg").read_bytes()
    (tmp_path / "none").mkdir()
    with pytest.raises(MissingError, match="no JPEG"):
        building.copy_photos(tmp_path / "none", tmp_path / "other", 1)


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
@pytest.mark.parametrize("workers", [0, 1])
def test_the_opencv_peer_feeds_our_pixels(pairs, encoding, workers):
    pytest.importorskip("torch")
    feeding.check_same_pixels(feed(str(pairs / encoding), "train", 5, seed=3, workers=workers), batches=4)


def test_other_pixels_make_the_comparison_void(pairs, monkeypatch):
    pytest.importorskip("torch")
    from pysrn.benchmark.data import peers

    monkeypatch.setattr(peers, "OpenCVPhotos", peers.PillowPhotos)
    with pytest.raises(ToleranceError, match="void"):
        feeding.check_same_pixels(feed(str(pairs / "raw"), "train", 4, workers=0))


def test_the_pillow_peer_sees_the_same_crops(pairs):
    """Its pixels differ by its own way to resize and are scaled; where nothing is resized they are ours."""
    pytest.importorskip("torch")
    from pysrn.benchmark.data.peers import IMAGENET_MEAN, IMAGENET_STD

    settings = feed(str(pairs / "raw"), "train", 6, scale_ratios=(0.875,), workers=0)
    feeds = feeding.open_feeds(settings)
    ours, labels = feeds[feeding.OURS].next_batch()
    theirs, their_labels = feeds[feeding.OTHER_PIXELS].next_batch()
    rgb = (ours + np.array(settings.mean, np.float32).reshape(3, 1, 1))[:, ::-1] / 255
    expected = (rgb - np.array(IMAGENET_MEAN).reshape(3, 1, 1)) / np.array(IMAGENET_STD).reshape(3, 1, 1)
    np.testing.assert_allclose(theirs, expected, atol=1e-5)
    np.testing.assert_array_equal(their_labels, labels)


def test_feeding_is_measured(pairs):
    pytest.importorskip("torch")
    started = time.perf_counter()
    found = feeding.compare_feeding(pairs / "jpeg", "train", 4, 1, 3, 2)
    least = 3 * 4 / (time.perf_counter() - started)  # images/s of a round that takes as long as all of them
    names = [feeding.SAME_PIXELS, feeding.OTHER_PIXELS, feeding.OURS]
    assert list(found["median"]) == names and list(found["ratio"]) == names[:2]
    assert all(len(rates) == 2 and min(rates) > least for rates in found["rounds"].values())


def test_building_is_measured(photos, tmp_path):
    if shutil.which(building.PEER) is None:
        pytest.skip(f"{building.PEER} is not in PATH")
    found = building.compare_building(photos, tmp_path, 1, 1)
    assert found["images"] == 12 and min(found["median"].values()) > 0
    assert not list(tmp_path.iterdir())


def test_both_builders_store_the_same_images(photos, pairs, tmp_path):
    """Equal work: the peer's records are of the same size in pixels and bytes, and the pictures alike."""
    program = shutil.which(building.PEER)
    if program is None:
        pytest.skip(f"{building.PEER} is not in PATH")
    import lmdb

    from pysrn.data.pair.datum import Datum

    building.run(building.peer_command(program, photos, tmp_path / "peer"))
    with lmdb.open(str(tmp_path / "peer"), readonly=True, lock=False) as environment, environment.begin() as records:
        theirs = {key.decode().partition("_")[2]: Datum.FromString(value) for key, value in records.cursor()}
    reader = PairReader(pairs / "jpeg", "train")
    for index, key in enumerate(reader.keys):
        record = theirs[f"{key.partition('_')[2]}.jpg"]
        image = cv2.imdecode(np.frombuffer(record.data, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (256, 256, 3)
        assert np.abs(image.astype(int) - reader.image(index)).mean() < 2  # two JPEG libraries
        _, again = cv2.imencode(".jpg", reader.image(index), [cv2.IMWRITE_JPEG_QUALITY, 95])
        assert abs(len(again) / len(record.data) - 1) < 0.05  # the same quality


def test_waiting_is_measured_on_the_real_net(pairs, tmp_path):
    pytest.importorskip("caffe")
    found = waiting.measure_waiting("shapes", pairs / "jpeg", steps=2, rounds=1, batch_size=2)
    assert found["batch_size"] == 2 and found["net"] == "resnet14, shapes, stage 1"
    assert 0 < found["waited_seconds"] < found["step_seconds"]
    assert found["waited_share"] == pytest.approx(found["waited_seconds"] / found["step_seconds"])
    assert found["slowdown"] == pytest.approx(found["step_seconds"] / found["constant_step_seconds"])
    with pytest.raises(SrnError, match="exit code"):
        waiting.measure_waiting("shapes", tmp_path / "nowhere", steps=1, rounds=1)


def test_the_command_prints_and_writes_its_figures(photos, tmp_path, capsys):
    if shutil.which(building.PEER) is None:
        pytest.skip(f"{building.PEER} is not in PATH")
    words = ["data", "--images", str(photos), "--count", "6", "--rounds", "1", "--only", "build"]
    assert benchmark.main([*words, "--json", str(tmp_path / "found.json")]) == 0
    out = capsys.readouterr().out
    assert "building, images/s" in out and "convert_imageset" in out and "ours is" in out
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["machine"]["cores"] and report["building, images/s"]["images"] == 6


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["data", "--rounds", "0"], 2, "--rounds"),
        (["data", "--images", "nowhere", "--only", "build"], 3, "nowhere"),
        (["data", "--data", "nowhere", "--count", "1", "--only", "feed"], 3, "nowhere"),
    ],
)
def test_mistakes_are_one_line(words, code, said, capsys):
    assert benchmark.main(words) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and said in errors[0]
