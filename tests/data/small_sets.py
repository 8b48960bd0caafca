"""Small data sets in every genuine format, written for `test_broken_inputs.py` from one table of images."""

import json

import numpy as np

from pysrn.data.readers.options import ReaderOptions
from pysrn.recipes import class_names

OWN_CLASSES = ("cat", "dog", "bird", "fish", "cow")
FORMATS = ("coco", "voc2007", "wider_attribute", "nus_wide", "lists", "folder")
SPLITS = ("train", "test")
# As the distributed file of WIDER-Attribute spells them.
ATTRIBUTES = [
    "Male",
    "longHair",
    "sunglass",
    "Hat",
    "Tshirt",
    "longSleeve",
    "formal",
    "shorts",
    "jeans",
    "longPants",
    "skirt",
    "faceMask",
    "logo",
    "stripe",
]


def dataset_of(form):
    """The data set that is asked for: list files come with the images of any."""
    return "wider_attribute" if form == "lists" else form


def options_of(form, root):
    return ReaderOptions(lists=root / "lists") if form == "lists" else ReaderOptions()


def labels_of(form, number):
    """The labels of image `number`: two positives, and one unspecified where the format can say so."""
    count = len(OWN_CLASSES) if form == "folder" else len(class_names(dataset_of(form)))
    labels = np.full(count, -1, np.int8)
    labels[(3 * number + 2) % count] = 0 if form in ("voc2007", "wider_attribute", "lists", "folder") else -1
    labels[[number % count, (number + 1) % count]] = 1
    return labels


def write_set(form, root, images):
    """Write {split: {name: (number, bytes or maker)}} with its annotation; names come without an ending."""
    for split in SPLITS:
        folder = root / IMAGE_FOLDERS[form][split]
        folder.mkdir(parents=True, exist_ok=True)
        for name, (_, content) in images[split].items():
            path = folder / f"{name}.jpg"
            path.write_bytes(content) if isinstance(content, bytes) else content(path)
        WRITERS[form](root, split, {name: labels_of(form, number) for name, (number, _) in images[split].items()})


IMAGE_FOLDERS = {
    "coco": {"train": "train2014", "test": "val2014"},
    "voc2007": dict.fromkeys(SPLITS, "VOC2007/JPEGImages"),
    "wider_attribute": {"train": "Image/train", "test": "Image/test"},
    "nus_wide": dict.fromkeys(SPLITS, "Flickr/actor"),
    "lists": dict.fromkeys(SPLITS, "."),
    "folder": dict.fromkeys(SPLITS, "images"),
}


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def write_coco(root, split, rows):
    images = [{"id": 100 + number, "file_name": f"{name}.jpg"} for number, name in enumerate(rows)]
    annotations = [
        {"id": 1000 * number + int(label), "image_id": 100 + number, "category_id": int(label) + 1,
         "bbox": [1, 1, 9.5, 9], "iscrowd": 0, "segmentation": [[1, 1, 9, 1, 9, 9]]}
        for number, labels in enumerate(rows.values())
        for label in np.flatnonzero(labels == 1)
    ]  # fmt: skip
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(class_names("coco"))]
    content = {"images": images, "annotations": annotations, "categories": categories}
    part = {"train": "train", "test": "val"}[split]
    write_text(root / f"annotations/instances_{part}2014.json", json.dumps(content))


def write_voc2007(root, split, rows):
    listed = {"train": "trainval", "test": "test"}[split]
    write_text(root / f"VOC2007/ImageSets/Main/{listed}.txt", "".join(f"{name}\n" for name in rows))
    bounds = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    for name, labels in rows.items():
        objects = "".join(
            f"<object><name>{label}</name><difficult>{int(value == 0)}</difficult>{bounds}</object>\n"
            for label, value in zip(class_names("voc2007"), labels, strict=True)
            if value >= 0
        )
        write_text(root / f"VOC2007/Annotations/{name}.xml", f"<annotation>\n{objects}</annotation>\n")


def write_wider_attribute(root, split, rows):
    images = [
        {"file_name": f"{split}/{name}.jpg", "scene_id": 0,
         "targets": [{"attribute": labels.tolist(), "bbox": [0, 0, 40, 40]}]}
        for name, labels in rows.items()
    ]  # fmt: skip
    content = {"images": images, "attribute_id_map": {str(n): name for n, name in enumerate(ATTRIBUTES)}}
    part = {"train": "trainval", "test": "test"}[split]
    write_text(root / f"wider_attribute_{part}.json", json.dumps(content))


def write_nus_wide(root, split, rows):
    part = split.capitalize()
    write_text(root / "ConceptsList/Concepts81.txt", "".join(f"{name}\n" for name in class_names("nus_wide")))
    write_text(root / f"ImageList/{part}Imagelist.txt", "".join(f"actor\\{name}.jpg\n" for name in rows))
    for column, concept in enumerate(class_names("nus_wide")):
        text = "".join(f"{int(labels[column] == 1)}\n" for labels in rows.values())
        write_text(root / f"TrainTestLabels/Labels_{concept}_{part}.txt", text)


def write_lists(root, split, rows):
    names = "".join(f"{name}.jpg {labels.sum()}\n" for name, labels in rows.items())
    write_text(root / f"lists/wider_att_{split}_imglist.txt", names)
    write_text(
        root / f"lists/wider_att_{split}_label.txt", "".join(" ".join(map(str, row)) + "\n" for row in rows.values())
    )


def write_folder(root, split, rows):
    lines = [",".join((f"{name}.jpg", *map(str, labels))) for name, labels in rows.items()]
    write_text(root / f"{split}.csv", "\n".join((",".join(("file", *OWN_CLASSES)), *lines, "")))


WRITERS = {
    "coco": write_coco,
    "voc2007": write_voc2007,
    "wider_attribute": write_wider_attribute,
    "nus_wide": write_nus_wide,
    "lists": write_lists,
    "folder": write_folder,
}
