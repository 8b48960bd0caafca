"""Real ImageNet caffemodels through our Caffe: on COCO photos of one kind of thing they name that thing."""

import csv

import caffe
import cv2
import numpy as np
import pytest

# COCO label -> numbers of the ImageNet classes that mean it (ILSVRC 2012, in the order of every public classifier)
MEANINGS = {
    "airplane": {404, 895},
    "train": {466, 547, 705, 820},
    "bird": {*range(7, 25), *range(80, 101), *range(127, 147)},
    "cat": set(range(281, 288)),
    "dog": set(range(151, 269)),
    "elephant": {101, 385, 386},
    "bear": {294, 295, 296, 297},
    "zebra": {340},
    "pizza": {963},
    "toilet": {861},
    "bus": {654, 779, 874},
    "teddy_bear": {850},
    "clock": {409, 530, 892},
}
SQUEEZENET, RESNET50 = "squeezenet_v1.1", "resnet50_msra"
NETS = {
    SQUEEZENET: ("squeezenet_v1.1/deploy.prototxt", "squeezenet_v1.1/squeezenet_v1.1-from-ndf.caffemodel", 227),
    RESNET50: (
        "deep-residual-networks_prototxt/ResNet-50-deploy.prototxt",
        "resnet50_msra/ResNet-50-model.caffemodel",
        224,
    ),
}
PHOTOS = 24


@pytest.fixture(scope="module")
def photos(shared_data):
    """(image, meaning) of COCO photos whose only label is one of MEANINGS."""
    root = shared_data / "coco_images"
    found = {}
    with open(root / "manifest.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            labels = [name for name, value in row.items() if value == "1"]
            if len(labels) == 1 and labels[0] in MEANINGS:
                found[row["coco2014_name"]] = (root / row["file"], MEANINGS[labels[0]])
    chosen = [found[name] for name in sorted(found)][:PHOTOS]
    return [(cv2.imread(str(path)), meaning) for path, meaning in chosen]


@pytest.mark.parametrize(("name", "top_1", "top_5"), [(SQUEEZENET, 0.5, 0.75), (RESNET50, 0.65, 0.85)])
def test_public_caffemodels_classify_as_they_should(shared_data, photos, name, top_1, top_5):
    prototxt, weights, size = NETS[name]
    root = shared_data / "pretrained"
    net = caffe.Net(str(root / prototxt), caffe.TEST, weights=str(root / weights))
    net.blobs["data"].reshape(1, 3, size, size)
    first = fifth = 0
    for image, meaning in photos:
        scaled = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        net.blobs["data"].data[0] = scaled.transpose(2, 0, 1) - np.float32([104, 117, 123])[:, None, None]
        best = np.argsort(-net.forward()["prob"].ravel())[:5]
        first += best[0] in meaning
        fifth += bool(meaning & set(best.tolist()))
    print(f"{name}: {len(photos)} photos, top 1 {first}, top 5 {fifth}")
    assert len(photos) == PHOTOS
    assert first >= top_1 * PHOTOS and fifth >= top_5 * PHOTOS
