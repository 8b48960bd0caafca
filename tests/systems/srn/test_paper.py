"""The published tables: every figure has its source, the empty cells are empty, and the figures agree."""

import pytest

from pysrn.systems.published import COLUMNS, NOT_FOUND, NOT_PRINTED, TOP3_PREFIX
from pysrn.systems.srn.paper import SOURCES, TRUST, WIDER_COLUMNS
from tests.srn import PAPER

CELLS = [
    (dataset, method, column, figure)
    for dataset, table in PAPER.items()
    for method, row in table.rows.items()
    for column, figure in row.items()
]


def test_every_row_has_all_columns_and_every_figure_a_source():
    assert {name: table.columns for name, table in PAPER.items()} == {
        "coco": COLUMNS, "nus_wide": COLUMNS, "wider_attribute": WIDER_COLUMNS,
    }  # fmt: skip
    for dataset, table in PAPER.items():
        assert all(tuple(row) == table.columns for row in table.rows.values()), dataset
        assert set(table.notes) <= set(table.rows)
    for *cell, figure in CELLS:
        if figure.value is None:
            assert not figure.sources and figure.trust in (NOT_PRINTED, NOT_FOUND), cell
        else:
            assert 0 < figure.value < 100 and figure.trust in TRUST, cell
            assert figure.sources and set(figure.sources) <= set(SOURCES), cell
            assert figure.trust != "2+" or len(figure.sources) > 1, cell
    assert {key for *_, figure in CELLS for key in figure.sources} == set(SOURCES)


def test_what_nobody_could_source_is_empty():
    for dataset, unknown in (("coco", 2), ("nus_wide", 4), ("wider_attribute", 4)):
        rows = PAPER[dataset].rows
        empty = [name for name, row in rows.items() if all(figure.value is None for figure in row.values())]
        assert len(empty) == unknown and "ResNet-107" in empty, dataset
    assert [name for name, x in PAPER["nus_wide"].rows["ResNet-SRN"].items() if x.value is not None] == ["mAP", "F1-C"]
    assert [x.value for x in PAPER["wider_attribute"].rows["ResNet-SRN"].values()] == [86.2, None, None]
    assert PAPER["wider_attribute"].rows["ResNet-SRN"]["mAP"].trust == "D"


@pytest.mark.parametrize("prefix", ["", TOP3_PREFIX])
def test_overall_f1_is_that_of_overall_precision_and_recall(prefix):
    checked = 0
    for dataset, method in {(dataset, method) for dataset, method, *_ in CELLS if dataset != "wider_attribute"}:
        row = PAPER[dataset].rows[method]
        f1, precision, recall = (row[f"{prefix}{name}"].value for name in ("F1-O", "P-O", "R-O"))
        if None not in (f1, precision, recall):
            expected = 2 * precision * recall / (precision + recall)
            note = row[f"{prefix}F1-O"].note  # one published row contradicts itself, and the note says so
            assert expected == pytest.approx(f1, abs=0.1) or f"give {expected:.1f}" in note, (dataset, method)
            checked += 1
    assert checked == (2 if not prefix else 7)


def test_older_methods_have_the_harmonic_f1_c_and_srn_has_not():
    for dataset in ("coco", "nus_wide"):
        for method in ("WARP", "CNN-RNN"):
            row = PAPER[dataset].rows[method]
            f1, p, r = (row[f"top-3 {name}"].value for name in ("F1-C", "P-C", "R-C"))
            assert 2 * p * r / (p + r) == pytest.approx(f1, abs=0.1), (dataset, method)
    row = PAPER["coco"].rows["ResNet-SRN"]
    p, r = row["P-C"].value, row["R-C"].value
    assert 2 * p * r / (p + r) - row["F1-C"].value > 1


def test_the_top_three_of_coco_are_a_part_of_the_thresholded_labels():
    assert (PAPER["coco"].top3_rule, PAPER["nus_wide"].top3_rule) == ("top3_thresholded", "top3_forced")
    for method in ("ResNet-SRN", "ResNet-SRN-att"):
        row = PAPER["coco"].rows[method]
        assert row["top-3 P-O"].value > row["P-O"].value and row["top-3 R-O"].value < row["R-O"].value
