"""The readers of list files: the authors' form, the single-file form, and the real lists that circulate."""

import gzip
import random

import numpy as np
import pytest

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.data.readers.options import ReaderOptions
from pysrn.data.readers.registry import read_splits
from pysrn.recipes import class_names

WIDER = [("a/1.jpg", [1, -1, 0] + [-1] * 11), ("a/2.jpg", [-1] * 14), ("b/1.jpg", [1, 1] + [0] * 12)]


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_pair(folder, part, rows, tag=sum, end="\n"):
    folder.mkdir(exist_ok=True)
    lines = [f"{name} {tag(labels)}" if tag else name for name, labels in rows]
    (folder / f"wider_att_{part}_imglist.txt").write_bytes((end.join(lines) + end).encode())
    labels = [" ".join(map(str, row)) for _, row in rows]
    (folder / f"wider_att_{part}_label.txt").write_bytes((end.join(labels) + end).encode())


@pytest.fixture
def lists(tmp_path):
    """Good lists of three images each; a test damages one of the files."""
    folder = tmp_path / "lists"
    write_pair(folder, "train", WIDER)
    write_pair(folder, "test", [(name.replace("a/", "t/"), labels) for name, labels in WIDER[:2]])
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/1.jpg", "t/1.jpg", "t/2.jpg")
    return folder


def read(lists, dataset="wider_attribute", **options):
    return read_splits(dataset, lists.parent, ReaderOptions(lists=lists, **options))


def test_the_authors_form(lists, capsys):
    splits = read(lists)
    train = splits["train"]
    assert [sample.path for sample in train.samples] == [lists.parent / name for name, _ in WIDER]
    assert [sample.key_name for sample in train.samples] == ["a_1", "a_2", "b_1"]
    np.testing.assert_array_equal([sample.labels for sample in train.samples], [labels for _, labels in WIDER])
    assert train.samples[0].labels.dtype == np.int8
    assert train.classes == class_names("wider_attribute") and len(splits["test"].samples) == 2
    assert train.sources == (lists / "wider_att_train_imglist.txt", lists / "wider_att_train_label.txt")
    assert "0 is read as unspecified" in capsys.readouterr().err


@pytest.mark.parametrize("tag", [None, sum, lambda row: row.count(1), lambda row: 0])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_number_behind_the_name(lists, tag, end):
    write_pair(lists, "train", WIDER, tag, end)
    assert [sample.key_name for sample in read(lists)["train"].samples] == ["a_1", "a_2", "b_1"]


def test_zero_is_negative_where_nothing_is_minus_one(lists):
    write_pair(lists, "train", [(name, [max(value, 0) for value in labels]) for name, labels in WIDER])
    train = np.stack([sample.labels for sample in read(lists)["train"].samples])
    assert set(train.ravel().tolist()) == {1, -1}


def test_numbers_as_numpy_writes_them_and_a_byte_order_mark(lists):
    np.savetxt(lists / "wider_att_train_label.txt", np.array([labels for _, labels in WIDER], float))
    path = lists / "wider_att_train_imglist.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found = read(lists)["train"]
    np.testing.assert_array_equal([sample.labels for sample in found.samples], [labels for _, labels in WIDER])
    assert found.samples[0].key_name == "a_1"


def test_the_authors_val_list_is_never_training_data(lists, capsys):
    write_pair(lists, "val", [("t/1.jpg", WIDER[0][1])])
    splits = read(lists)
    assert [len(split.samples) for split in splits.values()] == [3, 2]
    assert "wider_att_val_imglist.txt: not read" in capsys.readouterr().err


def damage(name, change):
    def act(lists):
        path = lists / f"wider_att_train_{name}.txt"
        path.write_bytes(change(path.read_bytes()))

    return act


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (damage("label", lambda data: b""), "label.txt: the file is empty"),
        (damage("imglist", lambda data: b"\n\n"), "imglist.txt: the file is empty"),
        (damage("label", lambda data: data.replace(b"1 -1 0", b"1 -1 4")), "line 1: label 4 in label column 3"),
        (damage("label", lambda data: data.replace(b"1 1 0", b"1 1 -1130179")), "line 3: label -1130179 in label col"),
        (damage("label", lambda data: data.replace(b"1 1 0", b"1 1 nan")), "line 3: label nan"),
        (damage("label", lambda data: data.replace(b"1 1 0", b"1 1 yes")), "line 3: 'yes' is not a label"),
        (damage("label", lambda data: data.replace(b"1 1 0", b"1 1")), "line 3: 13 labels where line 1 has 14"),
        (damage("label", lambda data: b"\n" + data), "3 lines and .*label.txt has 4"),
        (damage("label", lambda data: b"\n" + data[data.index(b"\n") + 1 :]), "line 1: 0 labels|line 2: 14 labels"),
        (damage("label", lambda data: data[: data.index(b"\n")]), "imglist.txt has 3 lines and .*_label.txt has 1"),
        (damage("label", lambda data: data.replace(b" ", b" 0 ", 1).replace(b"\n", b" 0\n")), "line 2"),
        (damage("label", lambda data: data.replace(b"\n", b" 0\n")), "line 1: 15 labels; wider_attribute has 14"),
        (damage("label", lambda data: data.decode().encode("utf-16")), "UTF-16"),
        (damage("imglist", lambda data: data.replace(b"jpg -14", b"jpg -13")), "line 2: .* -13, but .* sum to -14"),
    ],
)
def test_damaged_lists_are_refused_with_file_and_line(lists, act, words):
    act(lists)
    with pytest.raises(SrnError, match=words) as caught:
        read(lists)
    assert "wider_att_train_" in str(caught.value) and "\n" not in str(caught.value)


def test_one_bad_name_does_not_cost_the_others(lists):
    bad = ["c\x00.jpg", "../secret.jpg", "a/../../x.jpg", "caf\udce9.jpg", "\x07.jpg"]
    rows = WIDER + [(name, WIDER[0][1]) for name in bad] + [WIDER[0], ("b/1.jpg", WIDER[0][1])]
    write_pair(lists, "train", [], None)
    (lists / "wider_att_train_imglist.txt").write_bytes(
        "".join(f"{name}\n" for name, _ in rows).encode("utf-8", "surrogateescape")
    )
    (lists / "wider_att_train_label.txt").write_text("".join(" ".join(map(str, row)) + "\n" for _, row in rows))
    found = read(lists)["train"]
    assert [sample.key_name for sample in found.samples] == ["a_1", "a_2"]  # nobody knows the labels of b/1
    reasons = [reason for _, reason in found.left_out]
    assert len(reasons) == len(rows) - 2
    for words, times in [("control", 2), ("leads out", 2), ("UTF-8", 1), ("twice", 1), ("different labels", 2)]:
        assert sum(words in reason for reason in reasons) == times, words
    assert "the file name is not UTF-8: wider_att_train_imglist.txt line 7" in reasons


def test_images_that_are_not_there_are_named(lists, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(MissingError, match="none of 3 images is below .*elsewhere; looked for .*elsewhere/a/1.jpg"):
        read_splits("wider_attribute", tmp_path / "elsewhere", ReaderOptions(lists=lists))


def test_folders_of_another_machine_are_taken_off(lists, capsys):
    write_pair(lists, "train", [(f"/home/them/data/{name}", labels) for name, labels in WIDER])
    assert [sample.path for sample in read(lists)["train"].samples] == [lists.parent / name for name, _ in WIDER]
    assert "without the 3 leading folders" in capsys.readouterr().err


def test_lists_that_are_not_there_or_too_many(lists):
    (lists / "other_train_imglist.txt").write_text("x\n")
    with pytest.raises(UsageError, match="2 lists of the train split"):
        read(lists)
    for path in lists.glob("*train*imglist*"):
        path.unlink()
    with pytest.raises(MissingError, match="no list of the train split: .*imglist.txt is needed"):
        read(lists)
    with pytest.raises(MissingError, match="no folder"):
        read(lists / "nowhere")
    with pytest.raises(UsageError, match="shapes"):
        read(lists, "shapes")
    with pytest.raises(UsageError, match="drop-unlabelled"):
        read(lists, drop_unlabelled=True)


def single(folder, name, rows, divider=" "):
    folder.mkdir(exist_ok=True)
    lines = [f"{file} {divider.join(map(str, labels))}\n" for file, labels in rows]
    (folder / name).write_text("".join(lines))


def test_the_single_file_form_and_names_with_spaces(tmp_path):
    rows = [("my dog.jpg", [1, 0, 0]), ("x,y.jpg", [0, 1, 1])]
    single(tmp_path / "lists", "train.txt", rows)
    single(tmp_path / "lists", "test.txt", rows[:1], ",")
    (tmp_path / "lists" / "classes.txt").write_text("dog\ncat\nred\n")
    touch(tmp_path, "my dog.jpg", "x,y.jpg")
    splits = read(tmp_path / "lists", "folder")
    assert [sample.path.name for sample in splits["train"].samples] == ["my dog.jpg", "x,y.jpg"]
    np.testing.assert_array_equal([sample.labels for sample in splits["train"].samples], [[1, -1, -1], [-1, 1, 1]])
    assert splits["test"].classes == ("dog", "cat", "red")
    assert len(read(tmp_path / "lists", "folder", drop_unlabelled=True)["train"].samples) == 2
    for labels in ([1, 0], [1, 0, 1, 1]):
        single(tmp_path / "lists", "train.txt", [*rows, ("z.jpg", labels)])
        with pytest.raises(SrnError, match=f"train.txt line 3: {len(labels)} labels behind the name; folder has 3"):
            read(tmp_path / "lists", "folder")
    (tmp_path / "lists" / "classes.txt").unlink()
    with pytest.raises(MissingError, match="lists do not name their label columns"):
        read(tmp_path / "lists", "folder")


def test_nothing_ends_in_a_traceback(lists):
    """Random damage to any of the files: read, or refused in one line."""
    draw = random.Random(5)
    good = {path: path.read_bytes() for path in lists.iterdir()}
    refused = 0
    for _ in range(300):
        path, data = draw.choice(list(good.items()))
        start = draw.randrange(len(data))
        junk = bytes(draw.choice(b"01- .,\n\r\t\0\xff\xc3/9a") for _ in range(draw.randrange(4)))
        path.write_bytes(data[:start] + junk + data[start + draw.randrange(6) :])
        try:
            read(lists)
        except SrnError as error:
            refused += 1
            assert "\n" not in str(error) and str(lists) in str(error)
        path.write_bytes(data)
    assert 100 < refused < 300


def column_sums(path):
    """Independent of the reader: sums of the columns behind the first, and the number of lines."""
    with gzip.open(path, "rt") as stream:
        sums, count = None, 0
        for line in stream:
            digits = line.split(maxsplit=1)[1].replace(",", "").replace(" ", "").strip()
            positive = (np.frombuffer(digits.encode(), np.uint8) == ord("1")).astype(int)
            sums, count = positive if sums is None else sums + positive, count + 1
    return sums, count


def found_sums(split):
    return (np.stack([sample.labels for sample in split.samples]) == 1).sum(0)


def link(folder, *sources):
    folder.mkdir()
    for source in sources:
        (folder / source.name).symlink_to(source)
    return folder


@pytest.mark.slow
def test_the_whole_of_coco_2014(shared_data, tmp_path):
    source = shared_data / "coco2014_labels"
    files = [source / f"{part}2014_labels.txt.gz" for part in ("train", "val")]
    lists = link(tmp_path / "lists", *files)
    touch(tmp_path, "COCO_train2014_000000000009.jpg", "COCO_val2014_000000000042.jpg")
    splits = read(lists, "coco")
    assert {split: len(found.samples) for split, found in splits.items()} == {"train": 82_081, "test": 40_137}
    for found, path in zip(splits.values(), files, strict=True):
        np.testing.assert_array_equal(found_sums(found), column_sums(path)[0])
        assert not found.left_out


def test_alphabetical_columns_of_coco_are_noticed(shared_data, tmp_path):
    """The lists of HashNet: another machine's folders, and the columns in the order of the names."""
    source = shared_data / "coco2014_labels"
    files = [source / "raw_hashnet" / name for name in ("train.txt.gz", "test5000.txt.gz")]
    lists = link(tmp_path / "lists", *files)
    touch(tmp_path, "train2014/COCO_train2014_000000440877.jpg", "val2014/COCO_val2014_000000477705.jpg")
    with pytest.raises(SrnError, match="label column 50 is the commonest.*'person', column 1.*alphabetical") as caught:
        read(lists, "coco")
    assert "classes.txt" in caught.value.cure
    (lists / "classes.txt").write_text((source / "categories_alphabetical_hashnet_order.txt").read_text())
    test = read(lists, "coco")["test"]
    assert len(test.samples) == 5000
    rows = {}
    for part in ("train", "val"):  # the same images in COCO's order, from another export
        with gzip.open(source / f"{part}2014_labels.txt.gz", "rt") as stream:
            rows |= {line.split(" ", 1)[0]: line.split(" ", 1)[1].split() for line in stream}
    for sample in test.samples[::100]:
        np.testing.assert_array_equal(sample.labels == 1, np.array(rows[sample.path.name]) == "1")


@pytest.mark.slow
def test_the_lists_of_wider_attribute_that_circulate(shared_data, tmp_path, capsys):
    """1/0 in train and val, 1/0/4 in test; both train and val are trained on."""
    files = [shared_data / "wider_attribute_labels" / f"WIDER_{part}_list.txt.gz" for part in ("train", "val", "test")]
    lists = link(tmp_path / "lists", *files)
    touch(tmp_path, "train/1.png", "val/1.png", "test/1.png")
    splits = read(lists)
    assert {split: len(found.samples) for split, found in splits.items()} == {"train": 28_340, "test": 29_177}
    np.testing.assert_array_equal(found_sums(splits["train"]), column_sums(files[0])[0] + column_sums(files[1])[0])
    np.testing.assert_array_equal(found_sums(splits["test"]), column_sums(files[2])[0])
    unspecified = sum((sample.labels == 0).sum() for sample in splits["test"].samples)
    with gzip.open(files[2], "rt") as stream:
        assert unspecified == sum(line.split(" ")[1].count("4") for line in stream) > 0
    assert splits["train"].samples[-1].path.parent.name == "val"
    assert "4 is read as unspecified" in capsys.readouterr().err


def test_the_lists_of_hashnet_for_nus_wide(shared_data, tmp_path):
    files = [shared_data / "nuswide_labels" / f"hashnet_{part}_with_filenames.txt.gz" for part in ("train", "test")]
    lists = link(tmp_path / "lists", *files)
    touch(tmp_path, "images/98796_381708603_f86eb60ccf_m.jpg", "images/8228_2275882321_a4bf6754ba_m.jpg")
    splits = read(lists, "nus_wide")
    for found, path in zip(splits.values(), files, strict=True):
        sums, count = column_sums(path)
        np.testing.assert_array_equal(found_sums(found), sums)
        assert len(found.samples) + len(found.left_out) == count


def test_apparel_is_a_list_of_ones_own(shared_data, tmp_path):
    rows = (shared_data / "apparel_labels" / "image_label.tsv").read_text().splitlines()
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("\n".join(rows[::2]))
    (lists / "test.txt").write_text("\n".join(rows[1::2]))
    (lists / "classes.txt").write_text(
        "black blue brown green red white dress pants shirt shoes shorts".replace(" ", "\n")
    )
    touch(tmp_path, *(row.split("\t")[0] for row in rows[:2]))
    splits = read(lists, "folder")
    assert sum(len(found.samples) for found in splits.values()) == 11_384
    expected = sum(np.array(row.split("\t")[1].split(), int) for row in rows)
    np.testing.assert_array_equal(found_sums(splits["train"]) + found_sums(splits["test"]), expected)
