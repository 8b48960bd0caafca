"""Class-activation maps of a classifier: what it sees at each place (Zhou et al. 2016, "CAM").

It averages the last features of the trunk and multiplies them by a row of weights a label. Multiplied place by place
instead, before the average, the same weights say where the evidence is. The baseline of attention maps: it needs no
attention branch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pysrn.console import Progress, UsageError
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.predict.deploy import DeployNet
from pysrn.predict.splits import batches, whole_views


def activation_maps(net: DeployNet, images: np.ndarray) -> np.ndarray:
    """N x C x H x W maps of N x 3 x S x S images; their means, plus the biases, are the classifier's score.

    UsageError where the net has no such classifier.
    """
    if net.features is None:
        raise UsageError(f"{net.system.title} has no class-activation maps")
    features = net.forward(images, [net.features])[net.features]
    weights = net.net.params[net.system.activation.classifier][0].data
    return np.einsum("cf,nfhw->nchw", weights.reshape(-1, features.shape[1]), features, optimize=True)


def activation_maps_of(net: DeployNet, pair: PairReader, indices: Sequence[int], batch_size: int = 16) -> np.ndarray:
    """The maps of chosen samples of a pair, N x C x H x W."""
    bar = Progress(len(indices), "class-activation maps", "images")
    parts = []
    for part in batches(len(indices), batch_size):
        parts.append(activation_maps(net, whole_views(pair, [indices[i] for i in part], net.architecture.input)))
        bar.update(len(part))
    bar.close()
    return np.concatenate(parts)
