"""Every reader of files that come from elsewhere, as a function of bytes, with files that it takes.

A reader may refuse what it gets with SrnError, or BadImage where an image is meant. Anything else is a fault.
Each imports what it needs when it is called, so that tests/fuzz/fuzz.py sees the code for the first time.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pysrn.console import SrnError
from pysrn.data.pair.pixels import BadImage
from tests.fuzz import seeds
from tests.fuzz.seeds import CLASSES, made_by

REFUSALS = (SrnError, BadImage)


@dataclass(frozen=True)
class Reader:
    """`place`: where the bytes are put, below a folder; `read`: reads the folder; `seeds`: whole files.

    `prepare` puts what else the folder must have.
    """

    place: str
    read: Callable[[Path], object]
    seeds: Callable[[], list[bytes]]
    prepare: Callable[[Path], None] = lambda folder: None

    def __call__(self, content: bytes, folder: Path) -> bool:
        """Whether it took the bytes; raises what is no refusal. `folder` is as `prepare` left it."""
        path = folder / self.place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                self.read(folder)
        except REFUSALS:
            return False
        return True


def _caffemodel(folder: Path) -> None:
    from pysrn.nets.caffemodel import read_net

    read_net(folder / "weights.caffemodel")


def _prototxt(folder: Path) -> None:
    from pysrn.nets.messages import NetParameter
    from pysrn.nets.prototxt import check_net, read_message

    check_net(read_message(folder / "net.prototxt", NetParameter))


def _datum(folder: Path) -> None:
    from google.protobuf.message import DecodeError

    from pysrn.data.pair.datum import Datum
    from pysrn.data.pair.pair_reader import _pixels

    try:
        record = Datum.FromString((folder / "datum").read_bytes())
    except DecodeError as error:  # as PairReader has it
        raise SrnError(str(error)) from None
    _pixels(record)


def _pair(folder: Path) -> None:
    from pysrn.data.pair.lmdb_pair import PairReader

    pair = PairReader(folder, "test")
    pair.all_labels()
    for index in range(len(pair)):
        pair.image(index)


def _image(folder: Path) -> None:
    from pysrn.data.pair.pixels import decode_file

    decode_file(folder / "image")


def _predictions(folder: Path) -> None:
    from pysrn.predict.predictions import load_predictions

    load_predictions(folder / "predictions_test.npz")


def _state_dict(folder: Path) -> None:
    from pysrn.convert.torch_files import read_state_dict

    read_state_dict(folder / "weights")


def _own(folder: Path) -> None:
    from pysrn.data.readers.own.formats import read_own

    read_own(folder)


def _log(folder: Path) -> None:
    from pysrn.pictures.curves import read_log, read_validation

    read_log(folder / "validation.csv")
    read_validation(folder)


def _record(folder: Path) -> None:
    from pysrn.train.run_folder import read_record

    read_record(folder / "manifest.json", {"number": int, "weights": str})


def _vectors(folder: Path) -> None:
    from pysrn.systems.msrn.labels.vectors import read_vectors

    read_vectors(folder / "vectors.txt", CLASSES, 3)


def _official(folder: Path) -> None:
    from pysrn.predict.official_text import read_text

    read_text(folder / "scores.txt", 3, 2, "the list")


def _check(folder: Path) -> None:
    from pysrn.convert.check_tensors import read_check

    read_check(folder / "check.npz")


def _archive(folder: Path) -> None:
    from pysrn.predict.photo_files import content_of, members

    for member in members(folder / "photos.tar"):
        content_of(member)


READERS: dict[str, Reader] = {
    "caffemodel": Reader("weights.caffemodel", _caffemodel, seeds.caffemodel_seeds),
    "prototxt": Reader("net.prototxt", _prototxt, seeds.prototxt_seeds),
    "datum": Reader("datum", _datum, seeds.datum_seeds),
    "lmdb_images": Reader(
        "test_image.lmdb/data.mdb", _pair, made_by(seeds.pair_folder, "test_image.lmdb/data.mdb"), seeds.pair_folder
    ),
    "lmdb_labels": Reader(
        "test_label.lmdb/data.mdb", _pair, made_by(seeds.pair_folder, "test_label.lmdb/data.mdb"), seeds.pair_folder
    ),
    "pair_manifest": Reader("manifest.json", _pair, made_by(seeds.pair_folder, "manifest.json"), seeds.pair_folder),
    "image": Reader("image", _image, seeds.image_seeds),
    "predictions": Reader(
        "predictions_test.npz", _predictions, made_by(seeds.predictions_folder, "predictions_test.npz")
    ),
    "safetensors": Reader("weights", _state_dict, seeds.safetensors_seeds),
    "torch": Reader("weights", _state_dict, seeds.torch_seeds),
    "check_tensors": Reader("check.npz", _check, made_by(seeds.check_folder, "check.npz")),
    "coco": Reader("test/_annotations.coco.json", _own, seeds.coco_seeds, seeds.coco_folder),
    "voc": Reader("train/a.xml", _own, seeds.voc_seeds, seeds.voc_folder),
    "yolo": Reader("test/labels/a.txt", _own, seeds.yolo_seeds, seeds.yolo_folder),
    "yolo_yaml": Reader("data.yaml", _own, seeds.yaml_seeds, seeds.yolo_folder),
    "table": Reader("train.csv", _own, seeds.table_seeds, seeds.table_folder),
    "class_list": Reader("classes.txt", _own, lambda: [b"cat\ndog\n"], seeds.both_tables),
    "log": Reader("validation.csv", _log, lambda: [b"iteration,loss\n10,0.5\n20,0.25\n"]),
    "record": Reader("manifest.json", _record, lambda: [b'{"number": 1, "weights": "a"}']),
    "vectors": Reader("vectors.txt", _vectors, lambda: [b"cat 1 2 3\ndog 4 5 6\nzebra 7 8 9\ncrossing 1 2 3\n"]),
    "official_scores": Reader("scores.txt", _official, lambda: [b"0.5 -1 2\n1e3 0 -0.25\n"]),
    "archive": Reader("photos.tar", _archive, seeds.archive_seeds),
}


@contextlib.contextmanager
def prepared(name: str, folder: Path) -> Iterator[tuple[Reader, Path]]:
    """The reader and its folder, made below `folder` and removed again."""
    reader, place = READERS[name], folder / name
    place.mkdir(parents=True)
    try:
        reader.prepare(place)
        yield reader, place
    finally:
        shutil.rmtree(place, ignore_errors=True)
