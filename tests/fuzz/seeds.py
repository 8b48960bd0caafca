"""Whole files of every format that the project reads, and the folders that they belong into."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

CLASSES = ("cat", "dog", "zebra crossing")


def picture(kind: str = ".png") -> bytes:
    """A small colour image in a file format of OpenCV's."""
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    return cv2.imencode(kind, pixels)[1].tobytes()


def photographs(*names: str) -> Callable[[Path], None]:
    """What puts the picture below a folder, under each name."""

    def prepare(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(picture())

    return prepare


def caffemodel_seeds() -> list[bytes]:
    """A net in each of the three forms of weights."""
    from pysrn.nets.messages import NetParameter, V1LayerParameter

    weights = np.arange(6, dtype=np.float32)
    net = NetParameter(name="net")
    layer = net.layer.add(name="fc", type="InnerProduct", bottom=["data"], top=["fc"])
    layer.blobs.add(data=weights).shape.dim.extend([2, 3])
    older = NetParameter(name="old")
    layer = older.layers.add(name="conv", type=V1LayerParameter.CONVOLUTION)
    layer.blobs.add(num=1, channels=1, height=2, width=3, data=weights)
    doubles = NetParameter(name="double")
    doubles.layer.add(name="fc", type="InnerProduct").blobs.add(double_data=weights).shape.dim.extend([6])
    return [message.SerializeToString() for message in (net, older, doubles)]


def prototxt_seeds() -> list[bytes]:
    """Two nets."""
    layer = 'layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 2 } }'
    return [f'name: "n" input: "data" {layer} # words\n'.encode(), b"layer { include { phase: TRAIN } }"]


def datum_seeds() -> list[bytes]:
    """An encoded image and a raw one."""
    from pysrn.data.pair.datum import encoded_image, raw_image

    return [encoded_image(picture(".jpg"), 12, 16), raw_image(np.zeros((4, 4, 3), np.uint8))]


def pair_folder(folder: Path, split: str = "test") -> None:
    """An LMDB pair of three images."""
    from pysrn.data.pair.lmdb_pair import write_pair
    from pysrn.data.readers.records import Sample

    source = folder / "source.png"
    source.write_bytes(picture())
    samples = [Sample(f"{n}.png", source, np.array([1, -1, 0], np.int8)) for n in range(3)]
    write_pair(samples, folder, split, CLASSES, 0, dataset="own", workers=1)


def made_by(folder_of: Callable[[Path], None], place: str) -> Callable[[], list[bytes]]:
    """The file at `place` in what `folder_of` makes, as a list of one."""

    def seeds() -> list[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            folder_of(Path(folder))
            return [(Path(folder) / place).read_bytes()]

    return seeds


def predictions_folder(folder: Path) -> None:
    """Predictions of two images."""
    from pysrn.predict.predictions import Predictions

    scores = {"score": np.zeros((2, 3), np.float32)}
    labels = np.array([[1, -1, 0], [1, 1, 1]], np.int8)
    Predictions(("00000000_a", "00000001_b"), CLASSES, scores, labels).save(folder / "predictions_test.npz")


def safetensors_seeds() -> list[bytes]:
    """Weights in two precisions."""
    import safetensors.numpy

    return [safetensors.numpy.save({"fc.weight": np.zeros((2, 3), np.float32), "fc.bias": np.ones(2, np.float16)})]


def torch_seeds() -> list[bytes]:
    """A checkpoint, and a file of PyTorch's older form."""
    import torch

    values, older = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": {"module.fc.weight": torch.zeros(2, 3)}}, values)
    torch.save({"fc.weight": torch.zeros(2)}, older, _use_new_zipfile_serialization=False)
    return [values.getvalue(), older.getvalue()]


def coco_seeds() -> list[bytes]:
    """Annotations of two images."""
    thing = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3.5, 4]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 16, "height": 12}, {"id": 2, "file_name": "b.png"}],
        "categories": [{"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [thing, {**thing, "id": 2, "image_id": 2, "category_id": 3}],
    }
    return [json.dumps(content).encode()]


def coco_folder(folder: Path) -> None:
    """Two splits with their images."""
    photographs("train/a.png", "train/b.png", "test/a.png", "test/b.png")(folder)
    (folder / "train" / "_annotations.coco.json").write_bytes(coco_seeds()[0])


def voc_seeds() -> list[bytes]:
    """One image's annotation."""
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
    thing = f"<object><name>cat</name><difficult>0</difficult>{box}</object>"
    size = "<size><width>16</width><height>12</height></size>"
    return [f'<?xml version="1.0"?><annotation><filename>a.png</filename>{size}{thing}</annotation>'.encode()]


def voc_folder(folder: Path) -> None:
    """Two splits with their images."""
    photographs("train/a.png", "train/b.png", "test/a.png")(folder)
    for place in ("train/b.xml", "test/a.xml"):
        (folder / place).write_bytes(voc_seeds()[0].replace(b"a.png", Path(place).stem.encode() + b".png"))


def yolo_folder(folder: Path) -> None:
    """Two splits with their images."""
    photographs("train/images/a.png", "train/images/b.png", "test/images/a.png")(folder)
    for place in ("train/labels", "test/labels"):
        (folder / place).mkdir()
        (folder / place / "a.txt").write_text("0 0.5 0.5 0.2 0.3\n")
    (folder / "data.yaml").write_bytes(yaml_seeds()[0])


def yolo_seeds() -> list[bytes]:
    """Boxes, outlines, and nothing."""
    return [b"0 0.5 0.5 0.2 0.3\n1 0.1 0.2 0.1 0.1\n", b"1 0.1 0.1 0.5 0.1 0.5 0.5\n", b""]


def yaml_seeds() -> list[bytes]:
    """Names as a list and by number."""
    places = "train: train/images\nval: test/images\n"
    return [f"{places}nc: 2\nnames: [cat, dog]\n".encode(), f"{places}names:\n  0: cat\n  1: dog\n".encode()]


def table_folder(folder: Path) -> None:
    """Images, and the table of the test split."""
    photographs("images/a.png", "images/b.png")(folder)
    (folder / "test.csv").write_bytes(table_seeds()[0])


def both_tables(folder: Path) -> None:
    """Images and both tables."""
    table_folder(folder)
    (folder / "train.csv").write_bytes(table_seeds()[0])


def table_seeds() -> list[bytes]:
    """A column a class, and a column of labels."""
    column_a_class = b"file,cat,dog\na.png,1,0\nb.png,0,-1\n"
    return [column_a_class, b'file,labels\n"a.png",cat;dog\nb.png,dog\n']


def check_folder(folder: Path) -> None:
    """Stored tensors of one image."""
    from pysrn.convert.check_tensors import write_check

    write_check(
        folder / "check.npz", np.zeros((1, 3, 4, 4), np.float32), {"score": np.zeros((1, 3), np.float32)}, "0" * 64
    )


def archive_seeds() -> list[bytes]:
    """Two images and another file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("a.png", "below/b.jpg", "notes.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = len(picture())
            archive.addfile(entry, io.BytesIO(picture()))
    return [stream.getvalue()]


def image_seeds() -> list[bytes]:
    """A picture in each format."""
    return [picture(kind) for kind in (".png", ".jpg", ".bmp", ".webp", ".tiff", ".ppm")]
