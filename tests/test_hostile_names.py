"""Names that a terminal, a spreadsheet or a browser would obey, and those that lead out of a folder."""

import csv

import cv2
import numpy as np
import pytest

from pysrn.console import SrnError, message, run_main
from pysrn.data.pair.skipped_images import write_skipped
from pysrn.report import markup
from tools.make_lmdb import main

OBEYED = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202egpj"
FORMULAS = ("=cmd()|'x'!A0.jpg", "+1.jpg", "-2.jpg", "@SUM(A1).jpg")
LEAVES = ("../../outside.png", "a/../../outside.png")


def obeyed(text):
    return [sign for sign in text if not sign.isprintable() and sign not in "\n\t"]


def test_no_message_has_a_sign_that_a_terminal_obeys(capsys):
    def fail(_):
        raise error

    message(f"warning: {OBEYED}\nsecond line")
    error = SrnError(f"{OBEYED} is damaged", f"rm {OBEYED}")
    assert run_main(fail, None) == 1
    error = OSError(5, "Input/output error", OBEYED)
    assert run_main(fail, None) == 1
    said = capsys.readouterr().err
    assert not obeyed(said) and said.count("\\x1b[31mred") == 4 and len(said.splitlines()) == 6


def test_no_row_of_skipped_csv_is_a_formula_or_obeyed(tmp_path):
    names = (*FORMULAS, OBEYED, "two\nlines.jpg", "plain.jpg")
    write_skipped(tmp_path, "train", [(name, f"no image: {OBEYED}") for name in names])
    write_skipped(tmp_path, "test", [("b.jpg", "no image")])  # the rows of the other split stay as they are
    text = (tmp_path / "skipped.csv").read_text()
    rows = list(csv.reader(text.splitlines()))
    assert not obeyed(text) and len(rows) == 1 + len(names) + 1
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
    assert [row[1] for row in rows[1:5]] == [f"./{name}" for name in FORMULAS]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title><b>"])
def test_no_name_becomes_markup_in_a_report(name):
    page = markup.document(name, "", [markup.table([name], [[name]]), markup.picture(b"", "png", name, (1, 1))])
    assert "<script" not in page and "<b>" not in page and "<img src=x" not in page


def test_no_name_leads_out_of_the_folder(tmp_path, capfd):
    own = tmp_path / "set/own"
    own.mkdir(parents=True)
    picture = np.full((9, 9, 3), 7, np.uint8)
    for path in (own / "a.png", tmp_path / "outside.png", tmp_path / "set/outside.png"):
        cv2.imwrite(str(path), picture)
    for split in ("train", "test"):
        with open(own / f"{split}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("file", "labels"), ("a.png", "cat"), *((name, OBEYED) for name in LEAVES)])
    words = ("folder", "--root", own, "--out", tmp_path / "pair", "--image-size", 8, "--workers", 1)
    assert main(list(map(str, words))) == 0
    said = capfd.readouterr()
    assert f"{tmp_path / 'pair'} train: 1 images" in said.out and not obeyed(said.out + said.err)
    with open(tmp_path / "pair/skipped.csv", newline="") as file:
        reasons = {(split, name): why for split, name, why in csv.reader(file)}
    for split in ("train", "test"):
        assert all(reasons[split, name].startswith("the file name leads out of the folder") for name in LEAVES)
