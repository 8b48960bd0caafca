"""What the benchmarks have to know of CNN-RNN (`pysrn/benchmark/usual.py`): random weights whose paths end in time."""

from __future__ import annotations

import numpy as np

from pysrn.nets.folding import Weights
from pysrn.systems.cnn_rnn.nets import IMAGE

SPREAD = {"cls_fc": 1.5}
# assumed: so that the best paths have about three labels, as images of MS-COCO have.
LABELS, END = 1.2, 0.5  # spread of a label's row of the embedding; all of END's row
IMAGES = -0.6, 0.5  # mean and spread of projected images
STEP = 0.006  # by which each step moves the joint space towards END


def searched(weights: Weights, images: int) -> dict[str, np.ndarray]:
    """What a search reads of that many random images.

    Changes `weights`: the embedding, and an LSTM's biases, which then count the steps.
    """
    random = np.random.default_rng(2)
    embedding, (_, bias, _) = weights["rnn_embed"][0], weights["rnn_lstm"]
    embedding[...] = random.normal(0, LABELS, embedding.shape)
    embedding[-1] = END
    bias.reshape(4, -1)[...] = [[0], [3], [0], [1]]  # i, f, o, g: the memory grows
    weights["rnn_project_state"][0][...] += STEP
    return {IMAGE: random.normal(*IMAGES, (images, embedding.shape[1])).astype(np.float32)}
