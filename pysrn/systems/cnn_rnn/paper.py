"""The result tables of the CNN-RNN paper (arXiv 1604.04573) as data, from later papers and pages that quote them.

The paper itself could not be had. No source says how it ranked labels for its AP on VOC 2007; ours stands beside it as
what it is: the result's score. What the sources call mAP on MS-COCO and NUS-WIDE is the mean precision of an image's
first ten labels (from memory of the paper; its printed mAP of 61.2 lies above that of stronger nets): so it stands as
MAP@10, and never as mAP.
"""

from __future__ import annotations

from pysrn.recipes import class_names
from pysrn.systems.published import (
    AP_PREFIX,
    COLUMNS,
    HARMONIC,
    MAP_AT_10,
    NO_TOLERANCE,
    TOP3_PREFIX,
    Method,
    PaperTable,
    Published,
    Tolerance,
    row_of,
)

SOURCES = {
    "SPL": "SPL (ICME 2019), tables 2 and 3",
    "DSDL": "README of DSDL; of the same group as ZFT",
    "ZFT": "leaderboard on MS-COCO in the README of the ZFT group",
    "KDWSD": "KD-WSD (ACM MM 2018), poster, tables 1 and 2",
    "WIZ": "wizwand.com, page of the paper",
    "STU": "results of VOC 2007 beside a student's notebook",
}
TRUST = {
    "2+": "two or more independent sources agree",
    "1": "one source only",
    "D": "derived by arithmetic from figures that have sources",
}
TOP3 = tuple(TOP3_PREFIX + name for name in (HARMONIC, "P-C", "R-C", "F1-O", "P-O", "R-O"))
RANKED = (MAP_AT_10, *TOP3)
VOC = ("mAP", *(AP_PREFIX + name for name in class_names("voc2007")))
_MAYBE = "printed as mAP; MAP@10 by the paper's own measures, as far as known"


COCO = PaperTable(
    RANKED,
    {
        "WARP": row_of(RANKED, "- 55.7 59.3 52.5 60.7 59.8 61.4", "SPL DSDL", "2+"),
        "CNN-RNN": row_of(
            RANKED, "61.2 60.4 66.0 55.6 67.8 69.2 66.4", "SPL DSDL", "2+",
            other={MAP_AT_10: ("ZFT DSDL WIZ", "2+")}, notes={MAP_AT_10: _MAYBE},
        ),
        "main net": row_of(RANKED, "? ? ? ? ? ? ?", "", ""),
    },
    top3_rule="top3_thresholded",  # SRN's author, official repo issue 1: the first 3 labels of the path at most
)  # fmt: skip
NUS_WIDE = PaperTable(
    RANKED,
    {
        "WARP": row_of(RANKED, "- 33.5 31.7 35.6 53.9 48.6 60.5", "SPL", "1"),
        "CNN-RNN": row_of(
            RANKED, "56.1 34.7 40.5 30.4 55.2 49.9 61.7", "SPL", "1",
            other={MAP_AT_10: ("WIZ", "1")}, notes={MAP_AT_10: _MAYBE},
        ),
        "main net": row_of(RANKED, "? ? ? ? ? ? ?", "", ""),
    },
    top3_rule="top3_forced",  # a minimum length makes three labels of each path (paper, Sec. 4)
)  # fmt: skip
VOC2007 = PaperTable(
    VOC,
    {
        "CNN-RNN": row_of(
            VOC,
            "84.0 96.7 83.1 94.2 92.8 61.2 82.1 89.1 94.2 64.2 83.6 70.0 92.4 91.7 84.2 93.7 59.8 93.2 75.3 99.7 78.6",
            "DSDL STU", "2+",
        ),
        "main net": row_of(VOC, " ".join("?" * len(VOC)), "", ""),
    },
    notes={"CNN-RNN": "how the paper ranked labels for its AP is not known"},
)  # fmt: skip


def _tolerances(dataset: str) -> dict[str, Tolerance]:
    return dict.fromkeys((*COLUMNS, *RANKED, *VOC), NO_TOLERANCE)


PUBLISHED = Published(
    {"coco": COCO, "nus_wide": NUS_WIDE, "voc2007": VOC2007},
    (Method("CNN-RNN", "score"), Method("main net", "score_cls", alone=True)),
    SOURCES,
    TRUST,
    _tolerances,
)
