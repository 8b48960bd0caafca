"""Cells divided by another sign than the one in use, and labels that are no names: refused, or read when told how."""

import pytest

from pysrn.console import SrnError, UsageError
from pysrn.data.readers.options import ReaderOptions
from pysrn.data.readers.registry import read_splits
from tests.data.own_tables import named, read, write

HEAD = "file,labels\n"
TEST = f"{HEAD}p9.jpg,cat\n"
SIGNS = {"|": "'|'", "/": "/", "+": "+", "&": "'&'", "\t": r"'\t'", "\n": r"'\n'", " + ": "+", " / ": "/"}


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("test", [TEST, f"{HEAD}p9.jpg,Cat dog\n"])
def test_another_sign_divides_names_that_stand_alone(tmp_path, sign, test):
    """The pieces are classes of their own, in whichever of the two tables."""
    other = "cow" if "Cat" in test else "cat"
    write(tmp_path, train=f'{HEAD}p1.jpg,"cat{sign}dog"\np2.jpg,{other}\np3.jpg,dog\n', test=test)
    with pytest.raises(SrnError, match="train.csv line 2: label .* 2 labels") as caught:
        read(tmp_path)
    assert f"--separator {SIGNS[sign]} divides" in caught.value.cure and "--separator ';'" in caught.value.cure
    found = read(tmp_path, separator=sign.strip() or sign)["train"] if "Cat" not in test else None
    assert found is None or named(found) == {"p1.jpg": {"cat", "dog"}, "p2.jpg": {"cat"}, "p3.jpg": {"dog"}}


@pytest.mark.parametrize("sign", [*"#~^*@!$>=<\u2022\u00b7", "->", *"\uff1b\uff0c\u3001\uff5c\uff0f"])
def test_any_sign_divides_where_each_piece_is_a_label(tmp_path, sign):
    rows = f"p1.jpg,cat{sign}dog\np2.jpg,cat\np3.jpg,dog\n"
    write(tmp_path, train=f"{HEAD}{rows}", test=TEST)
    with pytest.raises(SrnError, match="train.csv line 2: label .* looks like 2 labels") as caught:
        read(tmp_path)
    assert "--separator" in caught.value.cure
    assert named(read(tmp_path, separator=sign)["train"])["p1.jpg"] == {"cat", "dog"}
    assert read(tmp_path, separator=";")["train"].classes == tuple(sorted(("cat", "dog", f"cat{sign}dog")))


@pytest.mark.parametrize("names", [("type#1", "type#2", "type"), ("4*2", "2*4", "2"), ("C#", "C"), ("5$", "5")])
def test_signs_that_belong_to_names(tmp_path, capsys, names):
    rows = "".join(f"p{number}.jpg,{name}\n" for number, name in enumerate(names, 1))
    write(tmp_path, train=f"{HEAD}{rows}", test=f"{HEAD}p9.jpg,{names[0]}\n")
    assert read(tmp_path)["train"].classes == tuple(sorted(names))
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("sign", ["|", "/", "+", "&"])
def test_pieces_that_come_again_are_labels(tmp_path, sign):
    """No label ever stands alone."""
    write(tmp_path, train=f"{HEAD}p1.jpg,cat{sign}dog\np2.jpg,cow{sign}dog\n", test=f"{HEAD}p9.jpg,cat{sign}dog\n")
    with pytest.raises(SrnError, match="so do 1 more names"):
        read(tmp_path)
    assert read(tmp_path, separator=sign)["train"].classes == ("cat", "cow", "dog")
    assert read(tmp_path, separator=";")["train"].classes == (f"cat{sign}dog", f"cow{sign}dog")


def test_two_names_with_a_bar_are_enough_and_one_is_told(tmp_path, capsys):
    write(tmp_path, train=f"{HEAD}p1.jpg,cat|dog\np2.jpg,cow|pig\n", test=f"{HEAD}p9.jpg,cow|pig\n")
    with pytest.raises(SrnError, match="divided by '|'"):
        read(tmp_path)
    write(tmp_path, train=f"{HEAD}p1.jpg,day|night\np2.jpg,cow\n", test=f"{HEAD}p9.jpg,cow\n")
    assert read(tmp_path)["train"].classes == ("cow", "day|night")
    assert "warning: " in capsys.readouterr().err


def test_a_table_of_nus_wide_is_asked_too(tmp_path):
    write(tmp_path, train=f"{HEAD}p1.jpg,sky|clouds\np2.jpg,sun\n", test=f"{HEAD}p9.jpg,sun\n")
    with pytest.raises(SrnError, match=r"line 2: label 'sky\|clouds' looks like 2 labels divided by '\|'"):
        read_splits("nus_wide", tmp_path)
    found = read_splits("nus_wide", tmp_path, ReaderOptions(separator="|"))
    assert named(found["train"]) == {"p1.jpg": {"sky", "clouds"}, "p2.jpg": {"sun"}}


def test_commas_need_the_separator(tmp_path):
    write(tmp_path, train=f'{HEAD}p1.jpg,"cat, dog"\np2.jpg,cow\n', test=TEST)
    with pytest.raises(SrnError, match="line 2: 'cat, dog' is no list") as caught:
        read(tmp_path)
    assert "--separator ','" in caught.value.cure
    assert read(tmp_path, separator=",")["train"].classes == ("cat", "cow", "dog")


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["black/white", "cat"], ("black/white", "cat")),
        (["on/off", "day/night", "cat"], ("cat", "day/night", "on/off")),
        (["hot dog", "dog", "cat"], ("cat", "dog", "hot dog")),
        (["t-shirt", "shirt", "cat"], ("cat", "shirt", "t-shirt")),
        (["C++", "C", "cat", "R&B"], ("C", "C++", "R&B", "cat")),
        (["['Paris, TX', 'Rome, NY']", "cat"], ("Paris, TX", "Rome, NY", "cat")),
        (["file;split", "labels", "cat"], ("cat", "file", "labels", "split")),
        (["0;3", "12", "3", "cat"], ("0", "12", "3", "cat")),
    ],
)
def test_good_names_are_let_be(tmp_path, capsys, cells, classes):
    write(tmp_path, train=HEAD + "".join(f'p{n}.jpg,"{cell}"\n' for n, cell in enumerate(cells, 1)), test=TEST)
    assert read(tmp_path)["train"].classes == classes
    assert "warning" not in capsys.readouterr().err


def test_names_that_classes_txt_lists_are_names(tmp_path):
    write(
        tmp_path, train=f"{HEAD}p1.jpg,cat/dog\np2.jpg,dog\np3.jpg,nan\n", test=TEST, classes="cat\ndog\ncat/dog\nnan\n"
    )
    assert named(read(tmp_path)["train"]) == {"p1.jpg": {"cat/dog"}, "p2.jpg": {"dog"}, "p3.jpg": {"nan"}}


@pytest.mark.parametrize(
    ("cells", "first"),
    [
        (["cat dog", "dog", "cat"], "'cat dog'"),
        (["cat-dog", "dog", "cat"], "'cat-dog'"),
        (["cat and dog", "dog", "cat"], "'cat and dog'"),
        (["clear water", "clear road", "haze water", "haze road", "clear water road"], "'clear road'"),
    ],
)
def test_names_made_of_others_are_told(tmp_path, capsys, cells, first):
    write(
        tmp_path, train=HEAD + "".join(f"p{n}.jpg,{cell}\n" for n, cell in enumerate(cells, 1)), test=f"{HEAD}p9.jpg,\n"
    )
    (tmp_path / "test.csv").write_text(f"{HEAD}p9.jpg,{cells[0]}\n")
    assert set(read(tmp_path)["train"].classes) == set(cells)
    words = capsys.readouterr().err
    sign = next(sign for sign in (" and ", "-", " ") if sign in cells[0])
    assert f"class names are made of others by {sign!r}, the first {first}" in words and "--separator" in words


def test_numbers_with_blanks_are_labels(tmp_path):
    write(tmp_path, train=f"{HEAD}p1.jpg,16 0\np2.jpg,0\np3.jpg,7 1 16\n", test=f"{HEAD}p9.jpg,7\n")
    with pytest.raises(SrnError, match="line 2: label '16 0' looks like 2 labels divided by ' '"):
        read(tmp_path)
    assert read(tmp_path, separator=" ")["train"].classes == ("0", "1", "16", "7")


@pytest.mark.parametrize("head", ["label", "labels", "tags", "Class", "category", "target"])
@pytest.mark.parametrize("cells", ["10", "01", ("True", "False"), ("true", "true"), ("1.0", "0.0"), ("1", "-1")])
def test_yes_and_no_are_no_names(tmp_path, head, cells):
    rows = "".join(f"p{number}.jpg,{cell}\n" for number, cell in enumerate(cells, 1))
    write(tmp_path, train=f"file,{head}\n{rows}", test=f"file,{head}\np9.jpg,{cells[0]}\n")
    with pytest.raises(SrnError, match=f"train.csv line .: every label is one of .*{cells[0]}") as caught:
        read(tmp_path)
    assert "file,cat" in caught.value.cure and "classes.txt" in caught.value.cure
    for split in ("train", "test"):
        path = tmp_path / f"{split}.csv"
        path.write_text(path.read_text().replace(head, "cat", 1))
    assert read(tmp_path)["train"].classes == ("cat",)


@pytest.mark.parametrize("cells", [("yes", "no"), ("Y", "N"), ("T", "F"), ("TRUE", "no")])
def test_yes_and_no_in_words_are_no_names_unless_listed(tmp_path, cells):
    write(tmp_path, train=f"{HEAD}p1.jpg,{cells[0]}\np2.jpg,{cells[1]}\n", test=f"{HEAD}p9.jpg,{cells[0]}\n")
    with pytest.raises(SrnError, match="train.csv line .: every label is one of"):
        read(tmp_path)
    write(tmp_path, classes="\n".join(cells))
    assert read(tmp_path)["train"].classes == cells


def test_0_and_1_beside_others_or_together_or_listed_are_names(tmp_path):
    for rows, more, classes in (
        ("p1.jpg,0\np2.jpg,1\np3.jpg,2\n", {}, ("0", "1", "2")),
        ("p1.jpg,0;1\np2.jpg,1\n", {}, ("0", "1")),
        ("p1.jpg,0\np2.jpg,1\n", {"classes": "0\n1\n"}, ("0", "1")),
    ):
        write(tmp_path, train=HEAD + rows, test=f"{HEAD}p9.jpg,1\n", **more)
        assert read(tmp_path)["train"].classes == classes


@pytest.mark.parametrize("cell", ["nan", "NaN", "<NA>", "NULL", "None", "NA", "N/A", "#N/A", "-"])
def test_what_stands_for_an_empty_cell_is_no_name(tmp_path, cell):
    write(tmp_path, train=f"{HEAD}p1.jpg,cat\np2.jpg,{cell}\n", test=TEST)
    with pytest.raises(SrnError, match=f"train.csv line 3: '{cell}' is what is written for an empty cell"):
        read(tmp_path)


@pytest.mark.parametrize("cell", ["['cat' 'dog']", "['cat''dog']", "{'cat'}", "('cat',)", "['cat', 1]", "[['cat']]"])
def test_lists_of_other_programs_are_refused(tmp_path, cell):
    """NumPy writes a list without commas, which Python joins to one name."""
    write(tmp_path, train=f'{HEAD}p1.jpg,"{cell}"\n', test=TEST)
    with pytest.raises(SrnError, match="train.csv line 2: .* is no list of label names"):
        read(tmp_path)


def test_the_separator_is_for_cells_that_name(tmp_path):
    write(tmp_path, train="file,cat\np1.jpg,1\n", test="file,cat\np2.jpg,1\n")
    with pytest.raises(UsageError, match="a column a class"):
        read(tmp_path, separator="|")
    for options in ({"separator": ""}, {"separator": "|", "lists": tmp_path}):
        with pytest.raises(UsageError, match="--separator"):
            read(tmp_path, **options)
    with pytest.raises(UsageError, match="--separator"):
        read_splits("coco", tmp_path, ReaderOptions(separator="|"))


def test_columns_made_of_others_are_told(tmp_path, capsys):
    table = "file,cat|dog,cat,dog\n{},1,0,0\n"
    write(tmp_path, train=table.format("p1.jpg"), test=table.format("p9.jpg"))
    assert read(tmp_path)["train"].classes == ("cat|dog", "cat", "dog")
    assert "made of others by '|', the first 'cat|dog'" in capsys.readouterr().err
