"""Lay out the COCO photos of ../shared/data as one data set with boxes: `coco_photos.py COCO_IMAGES OUT`.

OUT/train and OUT/test get links to the photos and one COCO file each, as `tools/make_lmdb.py folder --root OUT` reads
them. All photos of the test split have boxes. Of some for training only the labels are known: their boxes are empty.
"""

import csv
import json
import sys
from pathlib import Path

import cv2
import numpy as np

TEST_PHOTOS = 126  # as many as the check of the recipes for few photographs has (docs/training.md)


def known_boxes(root: Path) -> dict[str, list[tuple[str, list[float]]]]:
    """COCO number of a photo -> (class, x, y, width, height in pixels) of each of its objects."""
    found = {}
    for file in sorted((root / "coco_mini/annotations").glob("instances_*.json")):
        content = json.loads(file.read_text())
        names = {one["id"]: one["name"].replace(" ", "_") for one in content["categories"]}
        own = {one["id"]: Path(one["file_name"]).stem for one in content["images"]}
        found |= {number: [] for number in own.values()}
        for thing in content["annotations"]:
            found[own[thing["image_id"]]].append((names[thing["category_id"]], thing["bbox"]))
    names = class_names(root)
    for photo in sorted((root / "coco128").glob("*2017/*.jpg")):
        file = root / "coco128/yolo_labels" / photo.parent.name / f"{photo.stem}.txt"
        if photo.stem in found or not file.is_file():
            continue
        size = np.array(cv2.imread(str(photo)).shape[1::-1])
        found[photo.stem] = []
        for line in file.read_text().splitlines():
            number, x, y, w, h = line.split()
            middle, extent = np.array([x, y], float) * size, np.array([w, h], float) * size
            found[photo.stem].append((names[int(number)], [*(middle - extent / 2), *extent]))
    return found


def class_names(root: Path) -> list[str]:
    """The 80 labels in COCO's order, which is the numbers' order of the YOLO files, too."""
    with open(root / "manifest.csv", newline="", encoding="utf-8") as file:
        return next(csv.reader(file))[3:]


def main(root: Path, out: Path) -> None:
    """Write both splits; the same photos every time."""
    classes, boxes, photos = class_names(root), known_boxes(root), {}
    with open(root / "manifest.csv", newline="", encoding="utf-8") as file:
        for row in list(csv.reader(file))[1:]:
            labels = [name for name, cell in zip(classes, row[3:], strict=True) if cell == "1"]
            photos.setdefault(row[1].rpartition("_")[2].removesuffix(".jpg"), (root / row[0], labels))
    boxed = sorted(number for number in photos if number in boxes)
    test = set(np.random.default_rng(0).permutation(boxed)[:TEST_PHOTOS])
    for split in ("train", "test"):
        folder = out / split
        folder.mkdir(parents=True, exist_ok=True)
        images, things = [], []
        for number in sorted(photos):
            if (number in test) != (split == "test"):
                continue
            path, labels = photos[number]
            link = folder / f"{number}.jpg"
            link.unlink(missing_ok=True)
            link.symlink_to(path)
            images.append({"id": len(images), "file_name": link.name})
            own = boxes.get(number, [(name, []) for name in labels])
            if {name for name, _ in own} != set(labels):
                raise SystemExit(f"{path}: boxes of {sorted({n for n, _ in own})}, labels {sorted(labels)}")
            for name, box in own:
                place = {
                    "image_id": images[-1]["id"],
                    "category_id": classes.index(name),
                    "bbox": list(map(float, box)),
                }
                things.append({"id": len(things), "image_id": images[-1]["id"], **place})
        categories = [{"id": number, "name": name} for number, name in enumerate(classes)]
        content = {"categories": categories, "images": images, "annotations": things}
        (folder / "_annotations.coco.json").write_text(json.dumps(content))
        print(f"{split}: {len(images)} photos, {len(things)} boxes or labels")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
