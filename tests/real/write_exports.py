"""Write one data set by other people's tools, each in its own form: `write_exports.py SOURCE OUT NAME`.

SOURCE is a JSON file: `classes`, and `splits` of images with `file` and `objects` of `name` and `box` (x, y, width,
height in pixels). This runs in an environment that has the tool; exit code 3 says that it has not.
"""

import json
import sys
from pathlib import Path

import numpy as np

WRITERS = {}


def writer(function):
    """Enter a function under its name."""
    WRITERS[function.__name__] = function
    return function


def _supervision(source, split):
    import supervision as sv

    classes, annotations, files = source["classes"], {}, []
    for image in source["splits"][split]:
        boxes = np.array([thing["box"] for thing in image["objects"]], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        numbers = np.array([classes.index(thing["name"]) for thing in image["objects"]], int)
        annotations[image["file"]] = (
            sv.Detections(xyxy=boxes, class_id=numbers) if len(boxes) else sv.Detections.empty()
        )
        files.append(image["file"])
    return sv.DetectionDataset(classes=classes, images=files, annotations=annotations)


@writer
def supervision_coco(source, out):
    for split in source["splits"]:
        folder = out / split
        _supervision(source, split).as_coco(str(folder), str(folder / "_annotations.coco.json"))


@writer
def supervision_voc(source, out):
    for split in source["splits"]:
        _supervision(source, split).as_pascal_voc(str(out / split), str(out / split))


@writer
def supervision_yolo(source, out):
    for split in source["splits"]:
        folder = out / split
        _supervision(source, split).as_yolo(str(folder / "images"), str(folder / "labels"), str(out / "data.yaml"))


def _datumaro(source, out, form):
    import datumaro as dm

    items = [
        dm.DatasetItem(
            id=Path(image["file"]).stem,
            subset=split,
            media=dm.Image.from_file(path=image["file"]),
            annotations=[
                dm.Bbox(*thing["box"], label=source["classes"].index(thing["name"]), id=number, group=number)
                for number, thing in enumerate(image["objects"], 1)
            ],
        )
        for split, images in source["splits"].items()
        for image in images
    ]
    dm.Dataset.from_iterable(items, categories=source["classes"]).export(str(out), form, save_media=True)


@writer
def datumaro_coco(source, out):
    _datumaro(source, out, "coco_instances")


@writer
def datumaro_voc(source, out):
    _datumaro(source, out, "voc_detection")


@writer
def datumaro_yolo(source, out):
    splits = dict(zip(("train", "val"), source["splits"].values(), strict=True))  # it writes no data set without val
    _datumaro(source | {"splits": splits}, out, "yolo_ultralytics")


def _fiftyone(source, export):
    import fiftyone as fo

    for split, images in source["splits"].items():
        with export(split) as exporter:
            for image in images:
                width, height = image["size"]
                sides = np.array([width, height, width, height])
                things = [
                    fo.Detection(label=thing["name"], bounding_box=[*(np.array(thing["box"]) / sides)])
                    for thing in image["objects"]
                ]
                metadata = fo.ImageMetadata(width=width, height=height, num_channels=3)
                exporter.export_sample(image["file"], fo.Detections(detections=things), metadata=metadata)


@writer
def fiftyone_coco(source, out):
    from fiftyone.utils.coco import COCODetectionDatasetExporter

    _fiftyone(source, lambda split: COCODetectionDatasetExporter(str(out / split), classes=source["classes"]))


@writer
def fiftyone_voc(source, out):
    from fiftyone.utils.voc import VOCDetectionDatasetExporter

    _fiftyone(source, lambda split: VOCDetectionDatasetExporter(str(out / split)))


@writer
def fiftyone_yolo(source, out):
    from fiftyone.utils.yolo import YOLOv5DatasetExporter

    options = {"classes": source["classes"]}
    _fiftyone(source, lambda split: YOLOv5DatasetExporter(str(out), split=split, **options))


@writer
def pycocotools_rle(source, out):
    """Masks in place of boxes, as RLE; ids are text, and categories are numbered with gaps."""
    from pycocotools import mask

    out.mkdir(parents=True)
    number = {name: 3 * index + 5 for index, name in enumerate(source["classes"])}
    for split, images in source["splits"].items():
        rows = []
        for image in images:
            width, height = image["size"]
            for thing in image["objects"]:
                left, top, wide, high = thing["box"]
                pixels = np.zeros((height, width), np.uint8, order="F")
                pixels[int(top) : int(top + high) + 1, int(left) : int(left + wide) + 1] = 1
                packed = mask.encode(pixels)
                packed["counts"] = packed["counts"].decode()
                rows.append({"image_id": image["file"], "category_id": number[thing["name"]], "segmentation": packed})
        content = {
            "images": [{"id": image["file"], "file_name": image["file"]} for image in images],
            "categories": [{"id": own, "name": name} for name, own in number.items()],
            "annotations": [{"id": index, **row} for index, row in enumerate(rows)],
        }
        (out / f"{split}.json").write_text(json.dumps(content))


def main() -> int:
    """Write one form."""
    source, out, name = sys.argv[1:]
    try:
        WRITERS[name](json.loads(Path(source).read_text("utf-8")), Path(out))
    except ModuleNotFoundError as error:
        print(f"no package {error.name}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
