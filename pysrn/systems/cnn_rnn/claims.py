"""What CNN-RNN's paper claims, as experiments: C1 to C5 (abstract and Sec. 4 of arXiv 1604.04573)."""

from __future__ import annotations

import numpy as np

from pysrn.claims.claim import ALONE, AS_IT_IS, WHOLE, Claim, Measure, Row, Side, Trained, Training, Try
from pysrn.claims.measures import exact_sets
from pysrn.claims.places import boxes_of_test
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.evaluate.kinds_of_labels import large_and_small, relatedness, typical_area
from pysrn.evaluate.metrics import evaluate
from pysrn.evaluate.rank_correlation import cosines, of_pairs, rank_correlation, together
from pysrn.pictures.overlap import own_less_other
from pysrn.predict.deploy import DeployNet
from pysrn.predict.splits import whole_views
from pysrn.systems.cnn_rnn.heads import RANDOM, RARE
from pysrn.systems.cnn_rnn.pictures.labels import embedding_of
from pysrn.systems.cnn_rnn.pictures.looks import Looks
from pysrn.systems.msrn.labels.vectors import SHIPPED, shipped_vectors

MAIN, LAST = 1, 2
DRAWN, POSTERS, PHOTOS = "shapes", "posters", "coco_photos"
LOOKED_AT = 100  # test images whose steps are looked at, one by one; assumed

TRIES = {
    WHOLE: (AS_IT_IS, Try("slow", rates=(1, 0.3)), Try("half as long", lengths=(1, 0.5)), Try("fast", rates=(1, 2))),
    ALONE: (AS_IT_IS, Try("slow", rates=(0.3, 1)), Try("half as fast", rates=(0.5, 1)), Try("fast", rates=(2, 1))),
}
CNN_RNN = Training(WHOLE, "CNN-RNN")
MAIN_NET = Training(ALONE, "main net alone", stage=MAIN, budget=True, family=ALONE)
# Recipes over a fixed ImageNet trunk leave the main net out: nothing would be there to compare with.
WITH_MAIN = Training("with-main", "CNN-RNN", ("--left-out", "none"))
SETS = exact_sets(LAST, score=1)


def _order(name: str) -> Training:
    return Training(f"order-{name}", f"{name} order", ("--label-order", name))


def _embedding(trained: Trained) -> np.ndarray:
    return of_pairs(cosines(embedding_of(DeployNet(trained.run.weights(LAST)))))


def near_where_together(trained: Trained) -> float:
    """Rank correlation of the labels' cosines with the shares of training images that have both."""
    return rank_correlation(_embedding(trained), of_pairs(together(PairReader(trained.data, "train").all_labels())))


def near_where_words_are(trained: Trained) -> float:
    """Rank correlation of the labels' cosines with those of GloVe's vectors of their names."""
    settings = trained.run.read_settings()
    vectors = shipped_vectors(settings.recipe.dataset.name, settings.recipe.dataset.classes)
    return rank_correlation(_embedding(trained), of_pairs(cosines(vectors.astype(float))))


def _gain(large: bool) -> Measure:
    """Mean gain in AP over the main net of the same run, of large and related labels or of small ones that are not."""

    def measured(trained: Trained) -> float:
        first, last = trained.predictions(MAIN), trained.predictions(LAST)
        gain = (
            evaluate(last.scores["score"], last.labels).average_precision
            - evaluate(first.scores["score_cls"], first.labels).average_precision
        )
        _, boxes = boxes_of_test(trained)
        kinds = large_and_small(typical_area(boxes, gain.size), relatedness(last.labels))
        return float(np.nanmean(gain[kinds[0 if large else 1]]))

    which = "large, related labels" if large else "small labels that are alone"
    return Measure(f"gain in AP of {which}", measured, (MAIN, LAST), boxes=True)


def steps_look_elsewhere(trained: Trained) -> float:
    """How much more a step's map overlaps its own label's boxes than those of the path's other labels."""
    pair, boxes = boxes_of_test(trained)
    net = DeployNet(trained.run.weights(LAST))
    looks, found = Looks(net), []
    places = net.places(looks.blob)
    for index in range(min(LOOKED_AT, len(pair))):
        path, maps = looks(whole_views(pair, [index], net.architecture.input))
        found += own_less_other(maps[: len(path.labels)], path.labels, boxes[index], places)
    return float(np.mean(found)) if found else float("nan")


CLAIMS = (
    Claim(
        "C1", "label order by frequency is good", "frequent first against rare first and a random order",
        (DRAWN, POSTERS),
        tuple(Row(Side(CNN_RNN, SETS), Side(_order(other), SETS)) for other in (RARE, RANDOM)),
    ),
    Claim(
        "C2", "co-occurrence is used: exact sets beat independent sigmoids",
        "share of exact sets, against the main net alone, equal iterations",
        (DRAWN, POSTERS), (Row(Side(CNN_RNN, SETS), Side(MAIN_NET, exact_sets(MAIN, score_cls=1))),),
    ),
    Claim(
        "C3", "similar labels lie close in the embedding",
        "rank correlation of the cosines with co-occurrence, and with GloVe where words are known",
        (DRAWN, PHOTOS),
        (
            Row(Side(CNN_RNN, Measure("rank correlation with co-occurrence", near_where_together)), None),
            Row(Side(CNN_RNN, Measure("rank correlation with GloVe", near_where_words_are)), None, only=SHIPPED),
        ),
    ),
    Claim(
        "C4", "large and related objects gain, small unrelated ones lose",
        "gain in AP over the main net of the same run, by median box area and the greatest rise by another label",
        (PHOTOS,), (Row(Side(WITH_MAIN, _gain(True)), Side(WITH_MAIN, _gain(False))),),
    ),
    Claim(
        "C5", "attention moves from step to step",
        "overlap of a step's map with its label's boxes, less the overlap with those of the path's other labels",
        (DRAWN, PHOTOS),
        (Row(Side(CNN_RNN, Measure("own box less others", steps_look_elsewhere, boxes=True)), None),),
    ),
)  # fmt: skip
