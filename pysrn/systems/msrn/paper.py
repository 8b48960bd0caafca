"""The figures of MSRN (arXiv 2106.11596) that later pages quote; the paper's own tables could not be had.

Their AP is the mean precision at each positive, without an envelope, so ours stands beside it as that kind. Their P, R
and F1 were not found; they would be those of the best of 20 thresholds on the test data (`optimistic` in
tools/evaluate.py).
"""

from __future__ import annotations

from dataclasses import replace

from pysrn.systems.published import NOT_FOUND, Figure, Method, PaperTable, Published

SOURCES = {
    "PWC": "paperswithcode.com, page of the paper",
    "HYP": "hyper.ai, page of the paper; of the same origin as PWC",
    "GCN": "README of ML-GCN, the work that the released code builds on",
}
TRUST = {"2+": "two or more sources agree", "1": "one source only"}
UNKNOWN = Figure(None, trust=NOT_FOUND)


def _figure(value: float, sources: str, trust: str, note: str = "") -> Figure:
    return Figure(value, tuple(sources.split()), trust, note)


def _table(msrn: Figure, graph: float | None, trunk: float | None) -> PaperTable:
    """mAP of MSRN, of ML-GCN and of ResNet-101 with global maximum pooling (`trunk`)."""
    rows = {"ResNet-101 GMP": trunk, "ML-GCN": graph}
    baselines = {name: UNKNOWN if value is None else _figure(value, "GCN", "1") for name, value in rows.items()}
    found = {**baselines, "ResNet-101": UNKNOWN, "MSRN": msrn}
    notes = {
        "ResNet-101 GMP": "not in the paper; as the field quotes it, with another pooling than our main net",
        "ML-GCN": "not in the paper; as the field quotes it",
    }
    return PaperTable(("mAP",), {name: {"mAP": figure} for name, figure in found.items()}, None, notes, False)


COCO = _table(_figure(83.4, "PWC HYP", "2+"), 83.0, 81.9)
VOC = _table(_figure(96.0, "PWC", "1", "pre-trained on MS-COCO; without that no figure was found"), 94.0, 93.0)
PUBLISHED = Published(
    {
        "coco": replace(COCO, notes=COCO.notes | {"MSRN": "40,137 test images: those without a label are left out"}),
        "nus_wide": _table(_figure(61.5, "PWC", "1"), 62.5, 59.7),
        "voc2007": VOC,
        "apparel": _table(UNKNOWN, None, None),
    },
    (Method("MSRN", "score"), Method("ResNet-101", "score_cls", alone=True)),
    SOURCES,
    TRUST,
)
