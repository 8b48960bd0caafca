"""The toy once more, without the package: records of an LMDB pair, its views, its scores and its loss."""

import cv2
import lmdb
import numpy as np
import torch
from caffe.proto import caffe_pb2
from torch.nn import functional

from tests.systems.toy import MEAN, SCALE, SIZE, STRIDE


def datums(folder):
    """Key and Datum of every record of a database, in order."""
    with lmdb.open(str(folder), readonly=True, lock=False) as database, database.begin() as transaction:
        return [(key.decode(), caffe_pb2.Datum.FromString(value)) for key, value in transaction.cursor()]


def records(data, split):
    """Keys, what the net sees of each whole image (float64), and the 0/1 labels."""
    images = datums(data / f"{split}_image.lmdb")
    labels = np.array([one.float_data for _, one in datums(data / f"{split}_label.lmdb")]) > 0
    pixels = [cv2.imdecode(np.frombuffer(one.data, np.uint8), cv2.IMREAD_COLOR) for _, one in images]
    return [key for key, _ in images], np.stack([view(image) for image in pixels]), labels


def view(image):
    """A stored image (uint8, BGR) as the net eats it."""
    small = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR).astype(np.float64)
    return ((small - MEAN) * SCALE).transpose(2, 0, 1)


def blobs(caffemodel):
    """Layer -> float64 arrays of a weight file, read with Caffe's own messages."""
    net = caffe_pb2.NetParameter.FromString(caffemodel.read_bytes())
    return {
        layer.name: [np.array(blob.data, np.float64).reshape(blob.shape.dim) for blob in layer.blobs]
        for layer in net.layer
        if layer.blobs
    }


def scores(weights, views):
    """N x C logits, float64 tensors; `weights` may want gradients."""
    weights = {name: [torch.as_tensor(blob) for blob in parts] for name, parts in weights.items()}
    seen = functional.conv2d(torch.as_tensor(views, dtype=torch.float64), *weights["sieve"], stride=STRIDE)
    return seen.relu().mean((2, 3)) @ weights["tell_fc"][0].T + weights["tell_fc"][1]


def targets(labels):
    """The last label of each image; the last of all where it has none."""
    return np.array([max(np.flatnonzero(row), default=len(row) - 1) for row in labels])


def losses(logits, labels):
    """[N]: the softmax loss of each image."""
    logits = np.asarray(logits, np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return -np.log(probabilities[np.arange(len(logits)), targets(labels)])


def average_precision(logits, positive):
    """Mean of the precision at each positive, of one label."""
    hits = positive[np.argsort(-logits, kind="stable")]
    return (np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()
