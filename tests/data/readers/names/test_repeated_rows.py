"""Several rows of one image: names are united, repetitions count once, contradictions are refused with both lines."""

import pytest

from pysrn.console import SrnError
from tests.data.own_tables import named, read, write

TEST = "file,labels\np9.jpg,cat\n"
MATRIX = "file,cat,dog\n"


@pytest.mark.parametrize("again", ["p1.jpg", "./p1.jpg", ".//p1.jpg", r".\p1.jpg"])
def test_one_row_a_label(tmp_path, capsys, again):
    rows = f"p1.jpg,cat\np2.jpg,dog\n{again},dog\np1.jpg,cow;cat\np3.jpg,dog\n"
    write(tmp_path, train=f"file,labels\n{rows}", test=TEST)
    train = read(tmp_path)["train"]
    assert named(train) == {"p1.jpg": {"cat", "dog", "cow"}, "p2.jpg": {"dog"}, "p3.jpg": {"dog"}}
    assert train.left_out == []
    assert (
        "train.csv: 1 images have several rows: labels united; the first, on lines 2 and 4" in capsys.readouterr().err
    )


def test_the_splits_of_one_table_are_not_united(tmp_path, capsys):
    rows = "p1.jpg,cat,train\np1.jpg,dog,train\np1.jpg,cow;cat,test\n"
    write(tmp_path, all=f"file,labels,split\n{rows}p2.jpg,cow,train\n")
    splits = read(tmp_path)
    assert [named(split)["p1.jpg"] for split in splits.values()] == [{"cat", "dog"}, {"cow", "cat"}]
    assert "warning: 1 images are in both train and test" in capsys.readouterr().err


@pytest.mark.parametrize(("form", "row"), [("file,labels", "cat"), ("file,cat,dog", "1,0")])
def test_what_repeats_exactly_counts_once_and_is_listed(tmp_path, form, row):
    write(
        tmp_path,
        train=f"{form}\np1.jpg,{row}\np2.jpg,{row}\np1.jpg,{row}\np1.jpg,{row}\n",
        test=f"{form}\np9.jpg,{row}\n",
    )
    train = read(tmp_path)["train"]
    assert named(train) == {"p1.jpg": {"cat"}, "p2.jpg": {"cat"}}
    assert train.left_out == [
        (str(tmp_path / "p1.jpg"), "listed twice: train.csv line 4"),
        (str(tmp_path / "p1.jpg"), "listed twice: train.csv line 5"),
    ]


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ("p1.jpg,1,0\np2.jpg,1,1\np1.jpg,1,1\n", "line 2 and line 4: the same image, p1.jpg, has 'dog'"),
        ("p1.jpg,1,0\np1.jpg,0,1\n", "line 2 and line 3: the same image, p1.jpg, has 'cat'"),
        ("p1.jpg,1,\np1.jpg,1,1\np2.jpg,1,1\np1.jpg,1,0\n", "line 3 and line 5: the same image, p1.jpg, has 'dog'"),
        ("p1.jpg,1,-1\np1.jpg,1,1\n", "line 2 and line 3"),
    ],
)
def test_contradicting_cells_are_refused_with_both_lines(tmp_path, rows, lines):
    write(tmp_path, train=MATRIX + rows, test=f"{MATRIX}p9.jpg,1,1\n")
    with pytest.raises(SrnError, match=f"train.csv {lines}") as caught:
        read(tmp_path)
    assert "file,labels" in caught.value.cure


def test_what_one_row_leaves_open_another_may_say(tmp_path):
    write(tmp_path, train=f"{MATRIX}p1.jpg,1,\np1.jpg,?,0\np2.jpg,,\n", test=f"{MATRIX}p9.jpg,1,1\n")
    assert [sample.labels.tolist() for sample in read(tmp_path)["train"].samples] == [[1, -1], [0, 0]]


def test_lists_of_ones_own_are_as_strict(tmp_path):
    write(tmp_path, classes="cat\ndog\n")
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_text("p1.jpg 1 0\np2.jpg 0 1\np1.jpg 1 1\n")
    with pytest.raises(SrnError, match="train.txt line 1 and line 3: the same image, p1.jpg, has 'dog'"):
        read(tmp_path, lists=tmp_path)


@pytest.mark.parametrize(("form", "rows"), [("file,labels\n", ("cat", "dog")), (MATRIX, ("1,0", "1,0"))])
@pytest.mark.parametrize("names", [("a/p1.jpg", "b/p1.jpg"), ("/home/me/a/p1", r"c:\me\b\p1")])
def test_images_of_two_folders_are_never_one(tmp_path, form, rows, names):
    """The images lie together, so the folders are not looked at: which labels are those of the one that is there?"""
    lines = "\n".join(
        f"{name},{row}" for name, row in zip((*names, names[0].replace("p1", "p2")), (*rows, rows[1]), strict=True)
    )
    write(tmp_path, train=f"{form}{lines}\n", test=f"{form}p9.jpg,{rows[0]}\n")
    with pytest.raises(
        SrnError, match="train.csv: line 2 .*p1.* and line 3 .*p1.* come to the same file, p1.jpg"
    ) as caught:
        read(tmp_path)
    assert "folders" in caught.value.cure
