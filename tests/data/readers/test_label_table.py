"""A user's own data: tables of 1/0/-1 or of label names, in two files or one."""

import csv
import random
import subprocess

import numpy as np
import pytest

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.data.readers.options import ReaderOptions
from pysrn.data.readers.registry import read_splits

TRAIN = "file,cat,dog\na.jpg,1,0\nsub/b.jpg,0,1\n"
TEST = "file,cat,dog\nc.jpg,1,1\n"


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "train.csv").write_text(TRAIN)
    (tmp_path / "test.csv").write_text(TEST)
    touch(tmp_path, "a.jpg", "sub/b.jpg", "c.jpg")
    return tmp_path


def read(root, **options):
    return read_splits("folder", root, ReaderOptions(**options))


def labels(split):
    return [sample.labels.tolist() for sample in split.samples]


def test_two_tables(root):
    splits = read(root)
    train = splits["train"]
    assert train.classes == splits["test"].classes == ("cat", "dog")
    assert [sample.path for sample in train.samples] == [root / "a.jpg", root / "sub/b.jpg"]
    assert [sample.key_name for sample in train.samples] == ["a", "sub_b"]
    assert labels(train) == [[1, -1], [-1, 1]] and labels(splits["test"]) == [[1, 1]]
    assert train.sources == (root / "train.csv",) and train.samples[0].labels.dtype == np.int8


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + TRAIN.replace("\n", "\r\n"),
        TRAIN.replace("\n", "\r"),
        TRAIN.replace(",", ";"),
        TRAIN.replace(",", "\t"),
        TRAIN.replace("1,0", "1.0, 0"),
        TRAIN + "\n,,\n\n",
        'filename,"cat","dog"\n"a.jpg",1,0\n"sub\\b.jpg",0,1',
        "image,cat,dog\n./a.jpg,1,0\nsub//b.jpg,0,1\n",
        TRAIN.replace("1,0", "True,FALSE").replace("0,1", "false,true"),
        TRAIN.replace("1,0", "1.0,0.0"),
        TRAIN.replace(",", ", "),
        TRAIN.replace(",", "|"),
        "sep=;\r\n" + TRAIN.replace(",", ";").replace("\n", "\r\n"),
        '"sep=\t"\n' + TRAIN.replace(",", "\t"),
        'file;"cat";"dog"\na.jpg;1;0\nsub/b.jpg;0;1\n',
        'sep=;\nfile;labels\na.jpg;cat\nsub/b.jpg;"dog;dog"\n',
        "id,cat,dog\na,1,0\nsub/b,0,1\n",
        "file,labels\na.jpg,cat\nsub/b.jpg, dog ;dog\n",
        "file,labels\na.jpg,['cat']\nsub/b.jpg,\"['dog', 'dog']\"\n",
    ],
)
def test_the_same_table_in_other_clothes(root, text):
    (root / "train.csv").write_bytes(text.encode())
    train = read(root)["train"]
    assert [sample.path for sample in train.samples] == [root / "a.jpg", root / "sub/b.jpg"]
    assert labels(train) == [[1, -1], [-1, 1]]


@pytest.mark.parametrize(
    ("head", "row"),
    [("file,cat,dog,file", "1,0,1"), ("file,cat,dog,name", "1,0,1"), ("name,cat,dog,image,labels", "1,0,1,1")],
)
def test_classes_may_be_called_as_columns_are(root, head, row):
    for name, file in (("train", "a.jpg"), ("test", "c.jpg")):
        (root / f"{name}.csv").write_text(f"{head}\n{file},{row}\n")
    train = read(root)["train"]
    assert train.classes == tuple(head.split(",")[1:]) and labels(train) == [[1, -1, 1, 1][: len(train.classes)]]


@pytest.mark.parametrize("table", [TRAIN, "file,labels\na.jpg,cat\nsub/b.jpg,dog\n"])
@pytest.mark.parametrize("names", [("caf\u00e9", "dog"), ("\u72ac", "\u732b"), ("hot dog", "\U0001f415")])
def test_names_of_any_script(root, table, names):
    for part, text in (("train", table), ("test", TEST)):
        for old, new in zip(("cat", "dog"), ("<0>", "<1>"), strict=True):
            text = text.replace(old, new)
        text = text.replace("<0>", f'"{names[0]}"').replace("<1>", names[1]).replace("\n", "\r\n")
        (root / f"{part}.csv").write_bytes(text.encode())
    train = read(root)["train"]
    assert labels(train) == [[1, -1], [-1, 1]] and train.classes == names


def test_a_name_over_two_lines_of_a_header(root):
    for part, file in (("train", "a.jpg"), ("test", "c.jpg")):
        (root / f"{part}.csv").write_text(f'file,"hot\ndog",dog\n{file},1,0\n')
    assert read(root)["train"].classes == ("hot\\ndog", "dog")


@pytest.mark.parametrize("table", ["file,caf\u00e9,dog\na.jpg,1,0\n", "file,labels\na.jpg,dog\nsub/b.jpg,caf\u00e9\n"])
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp850", "mac-roman"])
def test_names_in_another_encoding_are_refused_with_line_bytes_and_cure(root, table, encoding):
    """They would become broken class names, or others than those of a table in UTF-8."""
    path, raw = root / "train.csv", "caf\u00e9".encode(encoding)
    path.write_bytes(table.encode(encoding))
    line = 3 if "labels" in table else 1
    with pytest.raises(SrnError) as caught:
        read(root)
    assert f"{path} line {line}: class name {raw!r} is not UTF-8" in str(caught.value)
    assert f"iconv -f CP1252 -t UTF-8 {path}" in caught.value.cure


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["train.csv", "classes.txt"])
def test_utf_16_is_refused_with_its_command_which_mends_it(root, encoding, name):
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / name).write_bytes((root / name).read_text().encode(encoding))
    with pytest.raises(SrnError, match=f"{name}.*UTF-16") as caught:
        read(root)
    subprocess.run(caught.value.cure, shell=True, check=True)
    assert labels(read(root)["train"]) == [[1, -1], [-1, 1]]


def test_images_may_lie_in_a_folder_images(root):
    (root / "images").mkdir()
    for name in ("a.jpg", "sub", "c.jpg"):
        (root / name).rename(root / "images" / name)
    assert read(root)["train"].samples[1].path == root / "images/sub/b.jpg"


def test_unspecified_labels(root, capsys):
    (root / "train.csv").write_text("file,cat,dog\na.jpg,1,\nsub/b.jpg,?,0\n")
    assert labels(read(root)["train"]) == [[1, 0], [0, -1]]
    (root / "train.csv").write_text("file,cat,dog\na.jpg,1,0\nsub/b.jpg,-1,\n")
    assert labels(read(root)["train"]) == [[1, 0], [-1, 0]]
    assert "train.csv: labels are 1/-1/0, so 0 is read as unspecified" in capsys.readouterr().err


def test_the_test_table_may_order_its_columns_otherwise(root):
    (root / "test.csv").write_text("file,dog,cat\nc.jpg,0,1\n")
    assert labels(read(root)["test"]) == [[1, -1]]


def test_the_order_of_classes_txt_wins(root):
    (root / "classes.txt").write_text("dog\ncat\n")
    splits = read(root)
    assert splits["test"].classes == ("dog", "cat") and labels(splits["train"]) == [[-1, 1], [1, -1]]
    (root / "classes.txt").write_text("dog\ncow\n")
    with pytest.raises(SrnError, match="train.csv: its classes are not the 2 expected; differing: cat, cow"):
        read(root)
    (root / "classes.txt").write_text("dog\ndog\n")
    with pytest.raises(SrnError, match="classes.txt: a class stands there twice"):
        read(root)


def test_one_table_with_a_split_column(root, capsys):
    for path in root.glob("*.csv"):
        path.unlink()
    (root / "all.csv").write_text("file,split,cat,dog\na.jpg,train,1,0\nsub/b.jpg,val,0,1\nc.jpg,Test,1,1\n")
    splits = read(root)
    assert labels(splits["train"]) == [[1, -1]] and labels(splits["test"]) == [[1, 1]]
    assert "the 1 rows of split 'val' are not read" in capsys.readouterr().err
    (root / "all.csv").write_text("file,labels,split\na.jpg,cat,train\nsub/b.jpg,dog,train\nc.jpg,cat;cow,val\n")
    with pytest.raises(SrnError, match="all.csv line 4: its classes are not the 2 expected; differing: cow"):
        read(root)
    (root / "all.csv").write_text("file,split,cat,dog\na.jpg,train,1,0\n")
    with pytest.raises(MissingError, match="names only train: both are needed"):
        read(root)
    (root / "all.csv").write_text(TRAIN)
    with pytest.raises(MissingError, match="no column `split`"):
        read(root)
    (root / "all.csv").unlink()
    with pytest.raises(MissingError, match="train.csv and test.csv are needed"):
        read(root)


def test_unlabelled_images_are_dropped_on_demand(root):
    (root / "train.csv").write_text(TRAIN.replace("a.jpg,1", "a.jpg,0"))
    assert len(read(root)["train"].samples) == 2
    train = read(root, drop_unlabelled=True)["train"]
    assert [sample.key_name for sample in train.samples] == ["sub_b"]
    assert train.left_out == [(str(root / "a.jpg"), "no label")]
    with pytest.raises(UsageError, match="drop-unlabelled"):
        read_splits("voc2007", root, ReaderOptions(drop_unlabelled=True))


def test_an_image_in_both_splits_is_told(root, capsys):
    (root / "test.csv").write_text(TRAIN)
    read(root)
    assert "warning: 2 images are in both train and test" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        (" \n", "the file is empty"),
        ("file,cat,dog\n", "a header but no rows"),
        ("a.jpg,1,0\n", "line 1: the header's first column is 'a.jpg'"),
        ("cat,file,dog\n1,a.jpg,0\n", "line 1: the header's first column is 'cat'"),
        ("file\na.jpg\n", "line 1: the header has no label column"),
        ("file,cat,\na.jpg,1,0\n", "line 1: column 3 has no class name"),
        ("file,cat,Cat\na.jpg,1,0\n", "look alike: .*line 1 'cat', line 1 'Cat'"),
        ("file,cat,cat\na.jpg,1,0\n", "line 1: class 'cat' has two columns, 2 and 3"),
        ("file,cat,dog\na.jpg,1,0\nsub/b.jpg,1\n", "line 3: 2 columns where the header has 3"),
        ("file,cat,dog\na.jpg,1,0,1\n", "line 2: 4 columns"),
        ("file,cat,dog\na.jpg,1,4\n", "line 2: '4' in column 'dog' is no label"),
        ("file,cat,dog\na.jpg,1,yes\n", "line 2: 'yes' in column 'dog'"),
        ("file,cat,dog\na.jpg,1,nan\n", "line 2: 'nan'"),
        ("file,cat,dog\na.jpg,1,\udcff\n", "line 2: .*udcff.* in column 'dog'"),
        ("file,cat,dog\na.jpg,1,0\nb.jpg,1e400,0\n", "line 3: '1e400'"),
        ('file,cat,dog\n"a.jpg,1,0\n', "line 2: unexpected end"),
        ("file,cat,cow\na.jpg,1,0\n", None),
        ("file,cat,dog\nx.jpg,1,0\ny.jpg,1,1\n", "none of 2 images .*looked for .*x.jpg"),
        ("file,cat,dog\n,1,0\n", "no usable image name"),
        (
            "file,cat,dog\na.jpg,1,1\na.jpg,1,0\n",
            "line 2 and line 3: the same image, a.jpg, has 'dog' in one and has it",
        ),
        ("file,labels\na.jpg,['cat'\n", "line 2: .* is no list of label names"),
        ("file,labels\na.jpg," + "[" * 3000 + "\n", "line 2: .* is no list of label names"),
        ("file,labels\na.jpg,\n", "no row has a label"),
        ("file,labels\na.jpg,cat,dog\n", "line 2: 3 columns where the header has 2"),
        ("file,labels\na.jpg," + "c" * 2000 + "\n", "line 2: a class name of 2000 characters"),
        ("sep=;\nfile;cat;cat\na.jpg;1;0\n", "line 2: class 'cat' has two columns"),
        ("file,split,cat,dog\na.jpg,1,1,0\n", "line 2: split '1' is none of"),
    ],
)
def test_damaged_tables_are_refused_with_file_and_line(root, text, words):
    (root / "train.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    if words is None:
        with pytest.raises(SrnError, match="test.csv: its classes are not the 2 expected; differing: cow, dog"):
            read(root)
        return
    with pytest.raises(SrnError, match=words) as caught:
        read(root)
    assert str(root / "train.csv") in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_one_bad_row_does_not_cost_the_others(root):
    rows = TRAIN + "../x.jpg,1,0\ncaf\udce9.jpg,1,0\na\x00.jpg,1,0\n,1,1\na.jpg,1,0\n"
    (root / "train.csv").write_bytes(rows.encode("utf-8", "surrogateescape"))
    train = read(root)["train"]
    assert [sample.key_name for sample in train.samples] == ["a", "sub_b"]
    assert [reason.partition(":")[0] for _, reason in train.left_out] == [
        "the file name leads out of the folder",
        "the file name has control characters",
        "no file name",
        "the file name is not UTF-8",
        "listed twice",
    ]
    assert train.left_out[0] == ("../x.jpg", "the file name leads out of the folder: train.csv line 4")


def test_a_name_that_no_file_can_have(root):
    long = "n" * 5000 + ".jpg"
    (root / "train.csv").write_text(f"file,cat,dog\n{long},1,0\na.jpg,1,0\n")
    train = read(root)["train"]
    assert [sample.path.name for sample in train.samples] == [long, "a.jpg"]  # `skipped.csv` will say so
    assert len(train.samples[0].key_name) < 500  # LMDB's limit is 511


def test_nothing_ends_in_a_traceback(root):
    """Random damage to the tables: read, or refused in one line."""
    draw = random.Random(7)
    named = "file,labels,split\na.jpg,\"['cat', 'dog']\",train\nsub/b.jpg,dog;cat,train\nc.jpg,cat,test\n"
    refused = 0
    for number in range(400):
        text = (TRAIN if number % 2 else named).encode()
        start = draw.randrange(len(text))
        junk = bytes(draw.choice(b"01-?,;\"'[]\n\r\t\0\xff\xc3/9a") for _ in range(draw.randrange(4)))
        (root / "train.csv").write_bytes(text[:start] + junk + text[start + draw.randrange(8) :])
        try:
            read(root)
        except SrnError as error:
            refused += 1
            assert "\n" not in str(error) and str(root) in str(error)
    assert 100 < refused < 400


@pytest.mark.parametrize(("part", "images"), [("trainval", 5011), ("classification_test", 4952)])
def test_the_tables_of_voc_2007_that_circulate(shared_data, tmp_path, part, images):
    """Ids without an ending, 1/-1/0 with 0 for unspecified."""
    source = shared_data / "voc2007_labels" / f"{part}.csv"
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").symlink_to(source)
    with source.open() as stream:
        rows = list(csv.reader(stream))
    touch(tmp_path / "images", f"{rows[1][0]}.jpg")
    found = read(tmp_path)["test"]
    assert found.classes == tuple(rows[0][1:]) and len(found.samples) == images
    np.testing.assert_array_equal([sample.labels for sample in found.samples], np.array(rows[1:])[:, 1:].astype(int))
    assert found.samples[-1].path == tmp_path / "images" / f"{rows[-1][0]}.jpg"


def test_a_real_table_with_other_columns_is_refused(shared_data, tmp_path):
    """`coco2014_name,mode` are no classes: the message says which line and column."""
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").symlink_to(shared_data / "coco_images" / "manifest.csv")
    with pytest.raises(SrnError, match="line 2: 'COCO_train2014_000000000009.jpg' in column 'coco2014_name'"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["val.csv", "Valid.csv", "validation.tsv"])
def test_a_validation_table(root, capsys, name):
    """It is never passed over in silence, and is the test split where there is no other."""
    (root / name).write_text((root / "test.csv").read_text().replace(",", "\t" if name.endswith("tsv") else ","))
    both = {split: labels(found) for split, found in read(root).items()}
    assert f"not read: {name}" in capsys.readouterr().err
    (root / "test.csv").unlink()
    assert {split: labels(found) for split, found in read(root).items()} == both
    said = capsys.readouterr().err
    assert "its validation part is the test split" in said and "not read" not in said


@pytest.mark.parametrize(
    ("train", "cure"),
    [
        ("file,cat,cow\na.jpg,1,0\n", "both tables the same classes"),
        ("file,cat,dog,\na.jpg,1,0,\n", "remove it in all rows"),
        ("file,cat,dog\na.jpg,1\n", "add the empty cells"),
        ("file,split,labels\na.jpg,Practice,cat\n", "write one of these"),
        ("file,tag1,tag2\na.jpg,cat,dog\n", "file,labels"),
    ],
)
def test_what_mends_a_table_is_said(root, train, cure):
    (root / "train.csv").write_text(train)
    with pytest.raises(SrnError, match="train.csv|test.csv") as caught:
        read(root)
    assert cure in caught.value.cure
