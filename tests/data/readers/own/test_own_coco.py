"""COCO JSON with classes of one's own: what annotation tools make of ids, names, boxes and folders."""

import json
import os
import unicodedata

import pytest

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.data.readers.own.formats import read_own
from tests.data.readers.own.exported import EXPECTED, PARTS, TEST, TRAIN, coco, shown, write_coco, write_image


def changed(root, change, part="train"):
    """Apply `change` to the JSON of a part."""
    path = root / part / "_annotations.coco.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


def ids(*lists):
    """Each id of `kind` by a function."""

    def change(function):
        def apply(content):
            for rows, key in lists:
                for row in content[rows]:
                    row[key] = function(row[key])

        return apply

    return change


image_ids, category_ids = (
    ids(("images", "id"), ("annotations", "image_id")), ids(("categories", "id"), ("annotations", "category_id")),
)  # fmt: skip
SAME = {  # nothing of it changes a label
    "categories from 0": category_ids(lambda number: number - 1),
    "categories with gaps": category_ids(lambda number: 90 - number * 7),
    "ids as text": image_ids(str),
    "ids as words": image_ids(lambda number: f"img-{number}"),
    "ids with zeros": image_ids(lambda number: f"{number:03}"),
    "ids with zeros in one list only": ids(("annotations", "image_id"), ("annotations", "category_id"))("{:03}".format),
    "listed ids with zeros": ids(("images", "id"), ("categories", "id"))("{:02}".format),
    "ids as floats": image_ids(float),
    "ids with fractions": image_ids(lambda number: number + 0.5),
    "categories as text": category_ids(str),
    "categories as words": category_ids(lambda number: "xyz"[number - 1]),
    "ids as text in one list only": ids(("annotations", "image_id"), ("annotations", "category_id"))(str),
    "huge ids": image_ids(lambda number: number + 10**30),
    "no bbox": lambda c: [row.pop("bbox") for row in c["annotations"]] and None,
    "no images' sizes": lambda c: [row.pop("width") for row in c["images"]] and None,
    "./": ids(("images", "file_name"))(lambda name: f"./{name}"),
    "folders": ids(("images", "file_name"))(lambda name: f"export/train/{name}"),
    "backslashes": ids(("images", "file_name"))(lambda name: f"export\\train\\{name}"),
    "Windows": ids(("images", "file_name"))(lambda name: f"C:\\Users\\me\\train\\{name}"),
    "upwards": ids(("images", "file_name"))(lambda name: f"../../label-studio/media/{name}"),
    "another machine": ids(("images", "file_name"))(lambda name: f"/home/me/photos/{name}"),
    "URL-encoded": ids(("images", "file_name"))(lambda name: name.replace(" ", "%20")),
    "a doubled image": lambda c: c["images"].append(c["images"][0]),
    "crowds": lambda c: [row.update(iscrowd=1) for row in c["annotations"]] and None,
    "no other fields": lambda c: {key: c[key] for key in ("images", "annotations", "categories")},
}
for name, box in {
    "null": None, "empty": [], "short": [1, 2], "text": ["1", "2", "3", "4"], "zero": [0, 0, 0, 0],
    "negative": [5, 5, -3, 2], "not finite": [float("nan"), 1, 2, 3], "an object": {"x": 1},
}.items():  # fmt: skip
    SAME[f"bbox {name}"] = lambda c, box=box: [row.update(bbox=box) for row in c["annotations"]] and None
RLE = {"size": [40, 60], "counts": "PX1"}
for name, outline in {
    "compressed RLE": RLE, "RLE": RLE | {"counts": [3, 4, 2393]}, "nothing": [], "null": None, "text": "mask",
    "odd polygons": [[1], ["a", 2], None],
}.items():  # fmt: skip
    SAME[f"segmentation {name}"] = lambda c, value=outline: (
        [(row.pop("bbox"), row.update(segmentation=value)) for row in c["annotations"]] and None
    )


@pytest.mark.parametrize("case", SAME)
def test_no_label_is_lost(case, tmp_path):
    write_coco(tmp_path)
    changed(tmp_path, SAME[case])
    found = read_own(tmp_path)
    assert shown(found) == EXPECTED and not found["train"].left_out


def test_the_classes_stand_in_the_order_of_their_ids(tmp_path):
    write_coco(tmp_path)
    changed(tmp_path, category_ids(lambda number: 90 - number * 7))
    assert read_own(tmp_path)["train"].classes == ("no", "Traffic Light", "cat")


def test_labels_without_a_box_are_counted(tmp_path, capsys):
    write_coco(tmp_path)
    changed(tmp_path, SAME["bbox null"])
    found = read_own(tmp_path)
    assert not any(found["train"].boxes.values()) and all(found["test"].boxes.values())
    assert "train/_annotations.coco.json: 3 annotations have no valid box: their labels are kept" in (
        capsys.readouterr().err
    )


def test_the_box_of_an_outline(tmp_path):
    write_coco(tmp_path)
    outline = [[5, 6, 9, 6, 9, 12.5], [1, 8, 4, 8, 4, 9]]
    changed(tmp_path, lambda c: c["annotations"][0].update(bbox=[], segmentation=outline))
    changed(tmp_path, lambda c: c["annotations"][1].update(segmentation=outline))
    boxes = read_own(tmp_path)["train"].boxes
    assert boxes["a"][0].box == (1, 6, 8, 6.5) and boxes["b c"][0].box == (0, 0, 30, 20)


def test_a_root_category_is_no_class_unless_it_is_annotated_or_listed(tmp_path, capsys):
    write_coco(tmp_path)
    root = {"id": 0, "name": "animals", "supercategory": "none"}
    for part in PARTS:
        changed(tmp_path, lambda c: c["categories"].insert(0, root), part)
    found = read_own(tmp_path)
    assert found["train"].classes == ("cat", "Traffic Light", "no") and shown(found) == EXPECTED
    assert "no image has these, so they are no classes: animals" in capsys.readouterr().err
    (tmp_path / "classes.txt").write_text("cat\nTraffic Light\nno\nanimals\n")
    assert read_own(tmp_path)["test"].classes[-1] == "animals"
    (tmp_path / "classes.txt").unlink()
    changed(tmp_path, lambda c: c["annotations"].append({"image_id": 0, "category_id": 0}))
    assert read_own(tmp_path)["test"].classes[0] == "animals"


def test_ids_that_differ_by_zeros_alone_are_two(tmp_path):
    """As in "7" and "007": what an annotation names is then taken exactly."""
    write_coco(tmp_path)
    changed(tmp_path, lambda c: c["images"].append({"id": "00", "file_name": "d.jpg"}))
    write_image(tmp_path / "train" / "d.jpg")
    changed(tmp_path, lambda c: c["annotations"].append({"image_id": "00", "category_id": "3"}))
    assert shown(read_own(tmp_path))["train"] == EXPECTED["train"] | {"d.jpg": {"no": 1}}
    changed(tmp_path, lambda c: c["annotations"].append({"image_id": "000", "category_id": 3}))
    with pytest.raises(SrnError, match="names image '000'") as caught:
        read_own(tmp_path)
    assert "list it" in caught.value.cure


def test_a_name_without_its_ending_or_in_the_bytes_of_windows(tmp_path):
    """What unpacked an archive may have left the names as they were packed."""
    write_coco(tmp_path, {"train": {"caf\u00e9.jpg": {"cat": [1, 1, 2, 2]}, "x.jpg": {}}, "test": TEST})
    folder = tmp_path / "train"
    (folder / "caf\u00e9.jpg").rename(folder / os.fsdecode(b"caf\xe9.jpg"))
    changed(tmp_path, ids(("images", "file_name"))(lambda name: name.removesuffix(".jpg") if name[0] == "x" else name))
    samples = read_own(tmp_path)["train"].samples
    assert [os.fsencode(sample.path.name) for sample in samples] == [b"caf\xe9.jpg", b"x.jpg"]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_another_encoding_is_named_with_its_cure(encoding, tmp_path):
    write_coco(tmp_path)
    path = tmp_path / "test" / "_annotations.coco.json"
    path.write_bytes(path.read_text().replace("Traffic", "Trafic \u00e0").encode(encoding))
    with pytest.raises(SrnError, match=f"^{path}: not a JSON file") as caught:
        read_own(tmp_path)
    assert f"iconv -f {encoding.upper()} -t UTF-8" in caught.value.cure


def test_names_may_have_signs_that_cannot_be_printed_as_they_are(tmp_path):
    """A joiner inside a Persian word, a no-break space."""
    names = ("\u0645\u06cc\u200c\u062e", "hot\u00a0dog")
    images = {f"{name[0]}.jpg": {name: [1, 1, 2, 2]} for name in names}
    write_coco(tmp_path, {"train": images, "test": {"t.jpg": {names[0]: [1, 1, 2, 2]}}}, names)
    assert [list(one.labels) for one in read_own(tmp_path)["train"].samples] == [[1, -1], [-1, 1]]


def test_two_ids_of_one_name_are_one_class(tmp_path, capsys):
    write_coco(tmp_path)
    changed(tmp_path, lambda c: c["categories"].append({"id": 77, "name": "no"}))
    changed(tmp_path, lambda c: c["annotations"].append({"image_id": 0, "category_id": 77}))
    found = read_own(tmp_path)
    assert shown(found)["train"]["a.jpg"] == {"cat": 1, "no": 1} and len(found["train"].classes) == 3
    assert "2 categories are named no: they are one class" in capsys.readouterr().err


def test_ids_may_differ_between_the_parts(tmp_path):
    write_coco(tmp_path)
    changed(tmp_path, category_ids(lambda number: 4 - number), "test")
    assert shown(read_own(tmp_path)) == EXPECTED


def test_a_file_listed_under_two_ids_has_the_labels_of_both(tmp_path, capsys):
    write_coco(tmp_path)
    changed(tmp_path, lambda c: c["images"].append({"id": 50, "file_name": "./a.jpg"}))
    changed(tmp_path, lambda c: c["annotations"].append({"image_id": 50, "category_id": 3, "bbox": [1, 1, 2, 2]}))
    found = read_own(tmp_path)
    assert shown(found)["train"]["a.jpg"] == {"cat": 1, "no": 1} and len(found["train"].boxes["a"]) == 2
    assert "1 images are listed again: their labels are united" in capsys.readouterr().err


REFUSED = {
    "unlisted image": (
        lambda c: c["annotations"].extend([{"image_id": 99, "category_id": 1}, {"image_id": 98, "category_id": 1}]),
        '2 of 5 annotations name no listed image; the first, "annotations" row 3, names image 99',
    ),
    "no image": (lambda c: c["annotations"][1].pop("image_id"), "1 of 3 .* row 1, names image None"),
    "unlisted category": (
        lambda c: c["annotations"][2].update(category_id=7),
        '1 of 3 annotations name no listed category; the first, "annotations" row 2, names category 7',
    ),
    "no category": (lambda c: c["annotations"][2].pop("category_id"), "names category None"),
    "true for a category": (lambda c: c["annotations"][2].update(category_id=True), "names category True"),
    "an annotation is null": (lambda c: c["annotations"].append(None), "row 3, names image None"),
    "an image id of two files": (
        lambda c: c["images"].append({"id": 0, "file_name": "other.jpg"}),
        "the image id 0 means both 'a.jpg' and 'other.jpg'",
    ),
    "a category id of two names": (
        lambda c: c["categories"].append({"id": "1", "name": "dog"}),
        "the category id 1 means both 'cat' and 'dog'",
    ),
    "a category without a name": (lambda c: c["categories"][0].update(name=" "), '"categories" row 0 has no valid'),
    "a category of two lines": (lambda c: c["categories"][0].update(name="a\nb"), '"categories" row 0 has no valid'),
    "no lists": (lambda c: {**c, "images": {"annotations": 1}}, 'no list "images"'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_cost_labels_is_refused(case, tmp_path):
    write_coco(tmp_path)
    change, words = REFUSED[case]
    path = tmp_path / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    result = change(content)
    path.write_text(json.dumps(result if isinstance(result, dict) and "images" in result else content))
    with pytest.raises(SrnError, match=words) as caught:
        read_own(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_rows_that_name_no_file_are_left_out_with_their_labels(tmp_path):
    write_coco(tmp_path)
    changed(tmp_path, lambda c: c["images"][0].update(file_name=None))
    changed(tmp_path, lambda c: c["images"].append({"file_name": "a.jpg"}))
    found = read_own(tmp_path)["train"]
    assert found.left_out == [('"images" row 0', "no file name: None"), ('"images" row 3', "no valid id")]
    assert [sample.path.name for sample in found.samples] == ["b c.jpg", "empty.jpg"]


def test_a_damaged_file_is_named(tmp_path):
    write_coco(tmp_path)
    path = tmp_path / "test" / "_annotations.coco.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(SrnError, match=f"{path}: not a JSON file"):
        read_own(tmp_path)


DAMAGED = {
    "cut off": lambda text: text[:30].encode(),
    "empty": lambda text: b"",
    "UTF-16": lambda text: text.encode("utf-16"),
    "without annotations": lambda text: text.replace('"annotations"', '"rows"').encode(),
    "a list": lambda text: b"[]",
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("layout", ["{}/_annotations.coco.json", "annotations/instances_{}.json"])
def test_a_damaged_file_is_never_passed_over(damage, part, layout, tmp_path):
    """Without the test part the validation part would be the test split, in silence."""
    write_coco(tmp_path, {**PARTS, "valid": TEST})
    for name in (*PARTS, "valid"):
        (tmp_path / layout.format(name)).parent.mkdir(exist_ok=True)
        (tmp_path / name / "_annotations.coco.json").rename(tmp_path / layout.format(name))
    path = tmp_path / layout.format(part)
    path.write_bytes(DAMAGED[damage](path.read_text()))
    with pytest.raises(SrnError, match=f"^{path}: "):
        read_own(tmp_path)


@pytest.mark.parametrize("name", ["labels.json", "annotations.JSON"])
def test_a_file_in_utf_16_is_named(name, tmp_path):
    write_coco(tmp_path)
    for part in PARTS:
        path = (tmp_path / part / "_annotations.coco.json").rename(tmp_path / part / name)
        path.write_text(path.read_text(), "utf-16" if part == "train" else "utf-8")
    with pytest.raises(SrnError, match=f"^{tmp_path / 'train' / name}: not a JSON file"):
        read_own(tmp_path)


LAYOUTS = {  # JSON file and image folder of each part
    "CVAT": ("annotations/instances_{}.json", "images/{}"),
    "CVAT, a task a part": ("{}/annotations/instances_default.json", "{}/images"),
    "COCO": ("annotations/instances_{}2017.json", "{}2017"),
    "FiftyOne": ("{}/labels.json", "{}/data"),
    "Label Studio": ("{}/result.json", "{}/images"),
    "beside each other": ("{}.json", "images"),
    "Roboflow": ("{}/_annotations.coco.json", "{}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    annotation, folder = LAYOUTS[layout]
    for part, images in PARTS.items():
        for name in images:
            write_image(tmp_path / folder.format(part) / name)
        path = tmp_path / annotation.format(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(coco(images)))
    assert shown(read_own(tmp_path)) == EXPECTED


def test_names_of_the_same_photo_in_every_part_keep_their_own_file(tmp_path):
    """Bare names repeat from part to part: 000001.jpg."""
    for part in ("train", "test"):
        write_image(tmp_path / "images" / part / "1.jpg")
        path = tmp_path / "annotations" / f"instances_{part}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(coco({"1.jpg": {"cat": [1, 1, 2, 2]}})))
    found = read_own(tmp_path)
    assert [found[part].samples[0].path.parent.name for part in PARTS] == ["train", "test"]


def test_a_name_composed_otherwise_than_on_the_disk(tmp_path):
    name = unicodedata.normalize("NFC", "café.jpg")
    write_coco(tmp_path, {"train": {name: {"cat": [1, 1, 2, 2]}}, "test": TEST})
    changed(tmp_path, ids(("images", "file_name"))(lambda name: unicodedata.normalize("NFD", name)))
    assert read_own(tmp_path)["train"].samples[0].path.is_file()


def test_names_never_lead_out_of_the_data_set(tmp_path):
    write_coco(tmp_path / "mine")
    for name in TRAIN:
        write_image(tmp_path / name)
    changed(tmp_path / "mine", ids(("images", "file_name"))(lambda name: f"../../{name}"))
    assert {sample.path.parent for sample in read_own(tmp_path / "mine")["train"].samples} == {
        tmp_path / "mine" / "train"
    }


def test_images_that_are_nowhere_and_names_that_come_to_one_file(tmp_path):
    write_coco(tmp_path)
    changed(tmp_path, ids(("images", "file_name"))(lambda name: f"x{name}"))
    with pytest.raises(
        MissingError, match=f"none of 3 images is below {tmp_path}; looked for {tmp_path}/train/xa.jpg, "
    ):
        read_own(tmp_path)
    write_coco(tmp_path, {"train": TRAIN, "test": TEST})
    changed(tmp_path, lambda c: c["images"].append({"id": 9, "file_name": "other/a.jpg"}))
    changed(tmp_path, ids(("images", "file_name"))(lambda name: name if "/" in name else f"one/{name}"))
    with pytest.raises(SrnError, match="image 'one/a.jpg' and image 'other/a.jpg' come to the same file, a.jpg"):
        read_own(tmp_path)


def test_which_file_is_meant_must_be_clear(tmp_path, capsys):
    write_coco(tmp_path)
    (tmp_path / "train" / "old.json").write_text(json.dumps(coco(TEST)))
    assert shown(read_own(tmp_path)) == EXPECTED  # a tool's own name goes before
    (tmp_path / "package.json").write_text('{"images": 1}')
    (tmp_path / "everything.json").write_text(json.dumps(coco(TRAIN)))
    assert shown(read_own(tmp_path)) == EXPECTED
    assert f"not read, for it is of no part: {tmp_path / 'everything.json'}" in capsys.readouterr().err
    (tmp_path / "train" / "instances.json").write_text(json.dumps(coco(TEST)))
    with pytest.raises(UsageError, match="3 COCO files for one part") as caught:
        read_own(tmp_path)
    assert "--coco-json" in caught.value.cure
