"""What the label branch is given and never changes: vectors and graph of the labels, from a run's recipe and LMDB pair.

They are blobs of `Parameter` layers. So they lie in each stage's net, count in its digest, and go into its weights.
"""

from __future__ import annotations

from pathlib import Path

from pysrn.console import SrnError, UsageError
from pysrn.later import later
from pysrn.nets.folding import Weights
from pysrn.recipes import Recipe
from pysrn.systems.msrn.heads import LABELS, RANDOM
from pysrn.systems.msrn.label_branch import GRAPH, NO_EDGE, VECTORS
from pysrn.systems.msrn.labels.graph import cooccurrence, edges, other_edges
from pysrn.systems.msrn.labels.vectors import SHIPPED, label_statistics_vectors, read_vectors, shipped_vectors
from pysrn.systems.msrn.nets import MSRN
from pysrn.systems.msrn.recipes import SAFE_RATE

np = later("numpy")

MOST_ROWS = 1024  # of the semantic attention layer


def constants(recipe: Recipe, data: Path) -> Weights:
    """Layer -> its blob: vectors (C x 300), and the graph (C x C: 0 on edges, else a number that no softmax sees).

    Raises UsageError for too many labels, SrnError for a pair of other classes or vectors that cannot be used.
    """
    classes, heads = recipe.dataset.classes, recipe.heads
    if (rows := len(classes) + heads.groups(len(classes))) > MOST_ROWS:
        raise UsageError(f"{rows} labels and groups are more than semantic attention takes, {MOST_ROWS}")
    from pysrn.data.pair.pair_reader import PairReader  # reads images: the system itself is known without

    pair = PairReader(data, "train")
    if tuple(pair.classes) != tuple(classes):
        few = ", ".join(pair.classes[:3])
        raise SrnError(f"{data}: a label graph of other classes ({few}, ...) than {recipe.dataset.name} has")
    labels = np.stack([pair.labels(index) for index in range(*recipe.training_records)])
    if heads.label_vectors is not None:
        vectors = read_vectors(heads.label_vectors, classes, heads.vector_width)
    elif recipe.dataset.name in SHIPPED:
        vectors = shipped_vectors(recipe.dataset.name, classes)
    else:
        vectors = label_statistics_vectors(labels, heads.vector_width)
    graph = edges(*cooccurrence(labels), heads.edge_threshold)
    if heads.graph_edges != LABELS:
        graph = other_edges(graph, recipe.seed if heads.graph_edges == RANDOM else None)
    graph = np.where(graph, 0, NO_EDGE)
    return {VECTORS: [vectors], GRAPH: [graph.astype(np.float32)]}


def warnings(recipe: Recipe, stage: int) -> list[str]:
    """What a user should know of the vectors that a stage is about to be given, and of its rate."""
    if stage != MSRN:
        return []
    found, plan = [], recipe.stages[stage - 1]
    if recipe.heads.label_vectors is None and recipe.dataset.name not in SHIPPED:
        found.append(
            "label vectors: no words are known for these classes, so they are made of the training labels (PPMI); "
            "--label-vectors glove.6B.300d.txt gives words"
        )
    if (rate := plan.base_lr * plan.new_layer_lr) > SAFE_RATE * (1 + 1e-6):
        found.append(
            f"rate {rate:g} of the label branch is above {SAFE_RATE:g}: its units die or it diverges (docs/msrn.md); "
            f"--base-lr times --new-layer-lr should be {SAFE_RATE:g} at most"
        )
    return found
