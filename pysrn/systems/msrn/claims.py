"""What MSRN's paper claims, as experiments: M1 to M3 (abstract of arXiv 2106.11596)."""

from __future__ import annotations

from pysrn.claims.claim import ALONE, AS_IT_IS, WHOLE, Claim, Row, Side, Training, Try
from pysrn.claims.measures import mean_ap
from pysrn.systems.msrn.heads import NO_EDGES, RANDOM

LAST = 2
# Pairs of photos need images of 448 x 448.
DATA = ("shapes", "posters448")
TRIES = {
    WHOLE: (AS_IT_IS, Try("slow", rates=(1, 0.3)), Try("half as long", lengths=(1, 0.5)), Try("half", rates=(1, 0.5))),
    ALONE: (AS_IT_IS, Try("slow", rates=(0.3, 1)), Try("half", rates=(0.5, 1)), Try("fast", rates=(2, 1))),
}
MSRN, RESULT = Training(WHOLE, "MSRN"), mean_ap(LAST, score=1)


def _against(name: str, title: str, *words: str) -> Row:
    return Row(Side(MSRN, RESULT), Side(Training(name, title, words), RESULT))


CLAIMS = (
    Claim(
        "M1", "several depths beat the last one", "three taps against two and one", DATA,
        (
            _against("one-tap", "the last tap", "--tapped-depths", "1"),
            _against("two-taps", "the last two taps", "--tapped-depths", "2"),
        ),
    ),
    Claim(
        "M2", "groups (global semantics) add to labels (local)", "with and without DiffPool", DATA,
        (_against("no-groups", "without groups", "--no-group-rows"),),
    ),
    Claim(
        "M3", "the graph matters", "its graph against no edges and as many random ones", DATA,
        (
            _against("no-edges", "no edges", "--graph-edges", NO_EDGES),
            _against("random-edges", "random edges", "--graph-edges", RANDOM),
        ),
    ),
)  # fmt: skip
