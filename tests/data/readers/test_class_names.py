"""The label names in git against the data sets' own lists."""

import csv
import gzip

import pytest

from pysrn.data.shapes.scene import CLASSES
from pysrn.recipes import DATASETS, class_names

COUNTS = {"coco": 80, "nus_wide": 81, "wider_attribute": 14, "voc2007": 20, "apparel": 11, "shapes": 16}


@pytest.mark.parametrize("dataset", DATASETS)
def test_names_are_unique_and_as_many_as_documented(dataset):
    names = class_names(dataset)
    assert len(set(names)) == len(names) == COUNTS[dataset]
    assert all(name == name.strip() and name for name in names)


def test_shapes_names_are_those_of_the_scenes():
    assert class_names("shapes") == CLASSES


def test_coco_is_in_category_id_order(shared_data):
    listed = (shared_data / "coco2014_labels" / "categories_coco_id_order.txt").read_text().split("\n")
    assert list(class_names("coco")) == [line for line in listed if line]
    header = next(csv.reader((shared_data / "coco_images" / "manifest.csv").open()))
    assert [name.replace(" ", "_") for name in class_names("coco")] == header[3:]


def test_nus_wide_is_concepts81(shared_data):
    assert list(class_names("nus_wide")) == (shared_data / "nuswide_labels" / "Concepts81.txt").read_text().split()
    # and it is the order of the label columns: 'clouds' and 'person' are the commonest but 'sky'
    with gzip.open(shared_data / "nuswide_labels" / "nus_wide_train_label.txt.gz", "rt") as stream:
        rows = [next(stream).split() for _ in range(3000)]
    sums = dict(zip(class_names("nus_wide"), map(sum, zip(*(map(int, row) for row in rows), strict=True)), strict=True))
    assert set(sorted(sums, key=sums.get)[-3:]) == {"sky", "clouds", "person"}


def test_wider_attribute_fits_the_positive_rates(shared_data):
    folder = shared_data / "wider_attribute_labels"
    with gzip.open(folder / "WIDER_train_list.txt.gz", "rt") as stream:
        rows = [line.split(" ")[1].strip().rstrip(",").split(",") for line in stream]
    names = class_names("wider_attribute")
    assert {len(row) for row in rows} == {len(names)}
    rates = {name: sum(row[i] == "1" for row in rows) / len(rows) for i, name in enumerate(names)}
    # Positive rates of the training set, in the documented order of the attributes.
    documented = [
        0.563,
        0.224,
        0.051,
        0.228,
        0.218,
        0.468,
        0.074,
        0.147,
        0.085,
        0.364,
        0.102,
        0.034,
        0.266,
        0.053,
    ]
    assert list(rates.values()) == pytest.approx(documented, abs=1e-3)
    assert names[0] == "Male" and names[-1] == "Plaid"


def test_voc2007_is_the_order_of_the_label_lists(shared_data):
    for name in ("trainval", "classification_test"):
        header = next(csv.reader((shared_data / "voc2007_labels" / f"{name}.csv").open()))
        assert list(class_names("voc2007")) == header[1:]
