"""The COCO reader on hand-made files, on genuine ones and on the full-size label lists."""

import csv
import gzip
import json
import tracemalloc
from pathlib import PurePath

import numpy as np
import pytest

from pysrn import json_file
from pysrn.console import MissingError, SrnError
from pysrn.data.readers.annotation_checks import KEY_BYTES, key_names
from pysrn.data.readers.coco import read_coco
from pysrn.recipes import class_names

CONTENT = {
    "images": [{"id": 9, "file_name": "b.jpg"}, {"id": 4, "file_name": "sub/a.jpg"}],
    "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 7, "bbox": [1, 2, 3.5, 4]},
        {"id": 2, "image_id": 9, "category_id": 7, "bbox": [5, 6, 7, 8]},
    ],
}


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "instances.json"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path, tmp_path

    return write


def changed(part, number, **fields):
    """CONTENT with other fields in a row; number -1 adds the row."""
    content = json.loads(json.dumps(CONTENT))
    if number < 0:
        content[part].append(fields)
    else:
        content[part][number] |= fields
    return content


def without(part, row=None, name=None):
    content = json.loads(json.dumps(CONTENT))
    if name:
        del content[part][row][name]
    else:
        del content[part]
    return content


def test_labels_boxes_and_order(write):
    path, images = write(CONTENT)
    found = read_coco(path, images)
    assert found.classes == ("cat", "dog")  # by category id
    assert [s.key_name for s in found.samples] == ["sub_a", "b"]  # by image id
    assert [s.path for s in found.samples] == [images / "sub/a.jpg", images / "b.jpg"]
    np.testing.assert_array_equal([s.labels for s in found.samples], [[-1, -1], [-1, 1]])
    assert found.samples[0].labels.dtype == np.int8
    assert found.boxes["sub_a"] == []
    assert [(b.label, b.box) for b in found.boxes["b"]] == [(1, (1, 2, 3.5, 4)), (1, (5, 6, 7, 8))]
    assert (found.left_out, found.sources) == ([], (path,))


def test_the_order_of_the_classes_can_be_given(write):
    found = read_coco(*write(CONTENT), classes=["dog", "cat"])
    assert found.classes == ("dog", "cat")
    np.testing.assert_array_equal(found.samples[1].labels, [1, -1])


def test_unlabelled_images_are_dropped_on_demand(write):
    path, images = write(CONTENT)
    found = read_coco(path, images, drop_unlabelled=True)
    assert [s.key_name for s in found.samples] == ["b"] == list(found.boxes)
    assert found.left_out == [(str(images / "sub/a.jpg"), "no label")]
    with pytest.raises(SrnError, match="none of what it lists can be used"):
        read_coco(*write({**CONTENT, "annotations": []}), drop_unlabelled=True)


def test_a_byte_order_mark_and_other_fields_do_no_harm(write):
    row = {**CONTENT["annotations"][0], "segmentation": [[1, 2, 3, 4]], "area": float("nan"), "note": {"bbox": 1}}
    found = read_coco(*write(b"\xef\xbb\xbf" + json.dumps({**CONTENT, "annotations": [row]}).encode()))
    assert [len(found.boxes[s.key_name]) for s in found.samples] == [0, 1]


REFUSED = {
    "no JSON": ('{"images": [', "not a JSON file"),
    "empty": ("", "not a JSON file"),
    "an image": (b"\xff\xd8\xff\xe0" * 9, "not a JSON file"),
    "Latin-1": (json.dumps(CONTENT).replace("dog", "ch\xe8vre").encode("latin-1"), "not a JSON file"),
    "UTF-16": (json.dumps(CONTENT).encode("utf-16"), "not a JSON file"),
    "cut off": (json.dumps(CONTENT)[:-30], "not a JSON file"),
    "nested deeply": ("[" * 200_000, "not a JSON file"),
    "nested deeply, closed": ('{"images": ' + "[" * 9999 + "]" * 9999 + "}", "not a JSON file"),
    "number of 5,000 digits": (json.dumps(CONTENT).replace("3.5", "9" * 5000), "not a JSON file"),
    "two lists of annotations": (
        json.dumps(CONTENT)[:-1] + ', "annotations": []}',
        "the field annotations stands twice in one object",
    ),
    "two categories of one annotation": (
        json.dumps(CONTENT).replace('"category_id": ', '"category_id": 1, "category_id": ', 1),
        "the field category_id stands twice in one object",
    ),
    "a list": ([], "no JSON object"),
    "a number": ("7", "no JSON object"),
    "no images": (without("images"), 'no list "images"'),
    "images are an object": ({**CONTENT, "images": {}}, 'no list "images"'),
    "no annotations": (without("annotations"), 'no list "annotations"'),
    "no categories": (without("categories"), 'no list "categories"'),
    "empty categories": ({**CONTENT, "categories": []}, "no categories"),
    "category without name": (without("categories", 1, "name"), '"categories" row 1 has no valid "name"'),
    "category without id": (without("categories", 0, "id"), '"categories" row 0 has no valid "id"'),
    "category of two lines": (changed("categories", 0, name="a\nb"), '"categories" row 0 has no valid "name"'),
    "category of half a character": (changed("categories", 0, name="\ud800"), "no valid"),
    "category is a list": ({**CONTENT, "categories": [[]]}, '"categories" row 0 has no valid "id"'),
    "category id twice": (changed("categories", 0, id=3), "a category id or name is used twice"),
    "category name twice": (changed("categories", 0, name="cat"), "a category id or name is used twice"),
    "image id twice": (
        {**CONTENT, "images": CONTENT["images"][:1] * 2},
        '"images" row 1: the image id 9 is used twice',
    ),
    "annotation is null": ({**CONTENT, "annotations": [None]}, '"annotations" row 0 has no valid "image_id"'),
    "annotation of no image": (without("annotations", 1, "image_id"), '"annotations" row 1 has no valid "image_id"'),
    "annotation of true": (changed("annotations", 1, image_id=True), '"annotations" row 1 has no valid "image_id"'),
    "annotation of a list": (changed("annotations", 1, image_id=[9]), '"annotations" row 1 has no valid "image_id"'),
    "annotation of an unlisted image": (changed("annotations", 1, image_id=5), "row 1 names image 5: not listed"),
    "of a very large id": (changed("annotations", 1, image_id=10**4000), "names image 1000.*0: not listed"),
    "image without id": (without("images", 0, "id"), "row 0 names image 9: not listed"),
    "a thousand other categories": (
        {**CONTENT, "categories": [{"id": n, "name": f"{n:04}"} for n in range(1000)]},
        "differing: 0000, .*, 0008$",
    ),
    "file name of two lines": (
        {**CONTENT, "images": [{"id": 9, "file_name": "a\nb" * 999}], "annotations": [{"image_id": 9}]},
        r"none .* can be used \(1\); first, '.*names category None: not listed'$",
    ),
    "no image can be used": (
        {**CONTENT, "annotations": [], "images": [{"id": 1, "file_name": 5}, 3]},
        r'none .* can be used \(2\); first, "images" row 0: file_name 5 is no file name',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_damaged_files_are_refused_by_name(write, case):
    content, words = REFUSED[case]
    path, images = write(content)
    with pytest.raises(SrnError, match=words) as caught:
        read_coco(path, images, ("cat", "dog") if "other" in case else None)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


NAN, INFINITY = float("nan"), float("inf")
BAD_BOXES = {
    "no list": None,
    "one number": [1],
    "five numbers": [1, 2, 3, 4, 5],
    "text": ["1", 2, 3, 4],
    "truth": [1, 2, True, 4],
    "NaN": [1, NAN, 3, 4],
    "infinite": [1, 2, INFINITY, 4],
    "negative width": [1, 2, -3, 4],
    "negative height": [1, 2, 3, -0.5],
    "larger than a float": [1, 2, 10**400, 4],
    "sum larger than a float": [1.7e308, 2, 1.7e308, 4],
    "nested": [[1, 2, 3, 4]],
}
LEFT_OUT = {  # name of what is left out, a word of the reason, the content
    **{f"bbox: {name}": ("b.jpg", "bbox", changed("annotations", 1, bbox=box)) for name, box in BAD_BOXES.items()},
    "no bbox": ("b.jpg", "bbox", without("annotations", 1, "bbox")),
    "no category": ("b.jpg", '"annotations" row 1 names category None', without("annotations", 1, "category_id")),
    "category true": ("b.jpg", "category True", changed("annotations", 1, category_id=True)),
    "category a list": ("b.jpg", "category", changed("annotations", 1, category_id=[7])),
    "category not listed": ("b.jpg", "category 99: not listed", changed("annotations", 1, category_id=99)),
    "no file name": ('"images" row 0', "no file name", without("images", 0, "file_name")),
    "empty file name": ('"images" row 0', "no file name", changed("images", 0, file_name="")),
    "file name is a dot": ('"images" row 0', "no file name", changed("images", 0, file_name=".")),
    "file name is a number": ('"images" row 0', "no file name", changed("images", 0, file_name=9)),
    "file name is a list": ('"images" row 0', "no file name", changed("images", 0, file_name=["b.jpg"])),
    "absolute": ('"images" row 0', "out of the image folder", changed("images", 0, file_name="/etc/passwd")),
    "upwards": ('"images" row 0', "out of the image folder", changed("images", 0, file_name="a/../../b.jpg")),
    "NUL": ('"images" row 0', "NUL", changed("images", 0, file_name="b\0.jpg")),
    "half a character": ('"images" row 0', "Unicode", changed("images", 0, file_name="b\udcff.jpg")),
    "very long": ('"images" row 0', "out of", changed("images", 0, file_name="/" + "b" * 10**6)),
    "image is null": ('"images" row 2', "no valid id", {**CONTENT, "images": [*CONTENT["images"], None]}),
    "image id is true": ("c.jpg", "no valid id", changed("images", -1, id=True, file_name="c.jpg")),
    "image id is text": ("c.jpg", "no valid id", changed("images", -1, id="9", file_name="c.jpg")),
    "listed twice, other labels": ("b.jpg", "different labels", changed("images", -1, id=1, file_name="./b.jpg")),
    "listed twice, same labels": ("sub/a.jpg", "image 11", changed("images", -1, id=11, file_name="sub//a.jpg")),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_damaged_record_is_left_out_and_the_others_stay(write, case):
    name, word, content = LEFT_OUT[case]
    path, images = write(content)
    found = read_coco(path, images)
    files, reasons = zip(*found.left_out, strict=True)
    assert any(name in file for file in files) and all(word in reason for reason in reasons)
    assert all("\n" not in reason and len(reason) < 200 for reason in reasons)
    keys = [sample.key_name for sample in found.samples]
    assert keys == list(found.boxes) and "sub_a" in keys
    assert ("b" in keys) == ("b.jpg" not in name and name != '"images" row 0')


def test_a_box_without_width_counts_as_in_coco(write):
    found = read_coco(*write(changed("annotations", 1, bbox=[1, 2, 0.0, 4])))
    assert len(found.boxes["b"]) == 2 and not found.left_out


def test_names_that_come_to_the_same_key_keep_their_own_boxes(write):
    files = ["a_x.jpg", "a/x.jpg", "a_x.png", "a_x~2.jpg", "é" * 400 + ".jpg", "é" * 401 + ".jpg"]
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(files)],
        "categories": CONTENT["categories"],
        "annotations": [{"image_id": n, "category_id": 3, "bbox": [n, 0, 1, 1]} for n in range(len(files))],
    }
    found = read_coco(*write(content))
    assert [s.key_name for s in found.samples][:4] == ["a_x", "a_x~2", "a_x~3", "a_x~2~2"]
    assert [found.boxes[s.key_name][0].box[0] for s in found.samples] == list(range(len(files)))
    assert max(len(s.key_name.encode()) for s in found.samples) <= KEY_BYTES + 10
    assert key_names([PurePath("caf\udce9.jpg")]) == ["caf?"]  # a file name in Latin-1
    assert len(set(key_names([PurePath("a.jpg")] * 30_000))) == 30_000  # and in no time


def test_empty_missing_and_foreign(write, tmp_path, monkeypatch):
    with pytest.raises(MissingError, match="empty"):
        read_coco(*write({**CONTENT, "images": [], "annotations": []}))
    path, images = write(CONTENT)
    with pytest.raises(MissingError, match="no file"):
        read_coco(tmp_path / "other.json", images)
    with pytest.raises(MissingError, match="no file"):
        read_coco(tmp_path, images)
    with pytest.raises(MissingError, match="no folder"):
        read_coco(path, tmp_path / "nowhere")
    with pytest.raises(SrnError, match="differing: dog, horse"):
        read_coco(path, images, classes=["cat", "horse"])
    monkeypatch.setattr(json_file, "LARGEST_FILE", path.stat().st_size - 1)
    with pytest.raises(SrnError, match="too large"):
        read_coco(path, images)


def test_polygons_are_forgotten_while_parsing(write):
    polygon = [number / 8 for number in range(400)]
    rows = [{**CONTENT["annotations"][0], "id": n, "segmentation": [polygon]} for n in range(1000)]
    path, images = write({**CONTENT, "annotations": rows})
    tracemalloc.start()
    read_coco(path, images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The bytes and their text; the polygons alone would be 1000 * 400 numbers of 32 bytes more.
    assert peak < 2 * path.stat().st_size + 2e6


@pytest.mark.parametrize(("part", "images", "boxes"), [("train2017", 80, 739), ("val2017", 79, None)])
def test_genuine_annotations_agree_with_the_independent_label_rows(shared_data, part, images, boxes):
    folder = shared_data / "coco_images"
    annotation = folder / "coco_mini" / "annotations" / f"instances_{part}.json"
    found = read_coco(annotation, folder / "coco_mini" / part, class_names("coco"))
    assert len(found.samples) == images and not found.left_out
    if boxes:
        assert sum(map(len, found.boxes.values())) == boxes
    with (folder / "manifest.csv").open() as stream:
        rows = {row[0]: np.array(row[3:], int) for row in list(csv.reader(stream))[1:]}
    for sample in found.samples:
        np.testing.assert_array_equal(sample.labels == 1, rows[f"coco_mini/{part}/{sample.path.name}"] == 1)
        assert sample.path.is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("part", "labelled", "images"), [("train", 82_081, 82_783), ("val", 40_137, 40_504)])
def test_the_full_size_labels_come_back(shared_data, tmp_path, part, labelled, images):
    """Instances files of the published sizes, made of the label lists: one annotation for a label."""
    lists = shared_data / "coco2014_labels"
    with gzip.open(lists / f"{part}2014_labels.txt.gz", "rt") as stream:
        lines = [line.strip().partition(" ") for line in stream]
    matrix = np.stack([np.frombuffer(flags.encode(), "S1")[::2] == b"1" for _, _, flags in lines])
    names = [name for name, _, _ in lines] + [f"unlabelled_{number:06d}.jpg" for number in range(images - labelled)]
    categories = [line for line in (lists / "categories_coco_id_order.txt").read_text().split("\n") if line]
    identities = np.random.RandomState(0).permutation(images).tolist()  # COCO's rows are in no order either
    content = {
        "images": [
            {"id": identity, "file_name": name, "height": 480, "width": 640}
            for identity, name in zip(identities, names, strict=True)
        ],
        "annotations": [
            {"id": number, "image_id": identities[row], "category_id": 2 * column + 1, "bbox": [0.5, 1, 2, 3]}
            for number, (row, column) in enumerate(np.argwhere(matrix).tolist())
        ],
        "categories": [{"id": 2 * number + 1, "name": name} for number, name in enumerate(categories)],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))

    for drop in (False, True):
        found = read_coco(path, tmp_path, class_names("coco"), drop_unlabelled=drop)
        assert len(found.samples) == (labelled if drop else images)
        assert len(found.left_out) == (images - labelled if drop else 0)
        assert len({sample.key_name for sample in found.samples}) == len(found.samples)
        labels = np.stack([sample.labels for sample in found.samples])
        np.testing.assert_array_equal((labels == 1).sum(0), matrix.sum(0))
        row_of = {sample.path.name: labels[number] for number, sample in enumerate(found.samples)}
        np.testing.assert_array_equal([row_of[name] for name in names[:labelled]], np.where(matrix, 1, -1))
        assert drop or (np.stack([row_of[name] for name in names[labelled:]]) == -1).all()
