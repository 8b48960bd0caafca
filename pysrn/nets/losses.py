"""The losses of training nets: which layers they are, and what each image has of them, for validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pysrn.later import later
from pysrn.nets import messages

np = later("numpy")


def sigmoid_cross_entropy(score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """[N]: Caffe's SigmoidCrossEntropyLoss of each image, summed over the labels. Both are N x ..."""
    score, label = score.reshape(len(score), -1), label.reshape(len(label), -1)
    return (np.maximum(score, 0) - score * label + np.log1p(np.exp(-np.abs(score)))).sum(axis=1)


def softmax_loss(score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """[N]: Caffe's SoftmaxWithLoss of each image over axis 1, summed over what lies behind it.

    `score` is N x K x ..., `label` holds whole numbers below K, one for each image and place; less than 0: none.
    """
    score, label = score.reshape(len(score), score.shape[1], -1), label.reshape(len(label), 1, -1).astype(int)
    chosen = np.take_along_axis(score, np.maximum(label, 0), axis=1)[:, 0]
    most = score.max(axis=1)
    losses = most + np.log(np.exp(score - most[:, None]).sum(axis=1)) - chosen
    return np.where(label[:, 0] < 0, 0, losses).sum(axis=1)


PER_IMAGE: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "SigmoidCrossEntropyLoss": sigmoid_cross_entropy,
    "SoftmaxWithLoss": softmax_loss,
}


def loss_layers(net: messages.NetParameter) -> list[messages.LayerParameter]:
    """The loss layers of a training net, in net order."""
    return [layer for layer in net.layer if layer.type in PER_IMAGE]


def loss_tops(net: messages.NetParameter) -> list[str]:
    """Tops of all that a training net minimises, in net order: its loss layers, and what else has a loss weight."""
    return [layer.top[0] for layer in net.layer if layer.type in PER_IMAGE or any(layer.loss_weight)]


def image_losses(layer: messages.LayerParameter, blobs: Mapping) -> np.ndarray:
    """[N], float64: what each image of the batch has of a loss layer, times its weight; `blobs` are pycaffe's."""
    score, label = (blobs[name].data.astype(np.float64) for name in layer.bottom[:2])
    weight = layer.loss_weight[0] if layer.loss_weight else 1.0
    if layer.softmax_param.axis == 2:  # T x N x K: of a sequence, whose steps Caffe's mean counts like images
        score, label = score.transpose(1, 2, 0), label.T
        weight /= score.shape[2]
    if layer.loss_param.normalization == layer.loss_param.FULL and layer.type == "SigmoidCrossEntropyLoss":
        weight /= score[0].size  # Caffe divides by all outputs, not by the images alone
    return PER_IMAGE[layer.type](score, label) * weight
