"""The Caffe layer that makes paths of label vectors; every number is looked at before Caffe sees it.

In a prototxt: `type: "Python"`, bottom `label` (N x C), tops `rnn_path`, `rnn_cont`, `rnn_target` (T x N each).
`param_str`: JSON with `order` (numbers of the labels, see `paths.py`; null in nets that belong to no data) and `steps`.
"""

from __future__ import annotations

import json

import caffe
import numpy as np

from pysrn.console import UsageError
from pysrn.systems.cnn_rnn.paths import paths_of


class LabelSequence(caffe.Layer):
    """Raises UsageError out of the call that made or ran the net for labels or settings that make no path.

    A number that `Embed` or the loss has no row for would end the process, or pass unseen.
    """

    def setup(self, bottom, top) -> None:
        """Read and check the settings."""
        try:
            values = json.loads(self.param_str)
            order, steps = values["order"], values["steps"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"label sequence: param_str is not JSON with order and steps: {error}") from None
        if len(bottom) != 1 or len(top) != 3 or len(bottom[0].shape) != 2:
            raise UsageError("label sequence: its bottom is N x C, its tops are path, cont and target")
        classes = bottom[0].shape[1]
        order = list(range(classes)) if order is None else order
        if not isinstance(order, list) or sorted(order, key=str) != sorted(range(classes), key=str):
            raise UsageError(f"label sequence: the order must have each number below {classes} once")
        if not isinstance(steps, int) or steps < 1:
            raise UsageError(f"label sequence: steps must be a whole number from 1, not {steps}")
        self.order, self.steps = order, steps

    def reshape(self, bottom, top) -> None:
        """T x N each."""
        for number in range(len(top)):
            top[number].reshape(self.steps, bottom[0].shape[0])

    def forward(self, bottom, top) -> None:
        """Make the paths."""
        labels = bottom[0].data
        if not np.isin(labels, (0, 1)).all():
            raise UsageError("label sequence: a label is neither 0 nor 1")
        for number, values in enumerate(paths_of(labels, self.order, self.steps)):
            top[number].data[...] = values

    def backward(self, top, propagate_down, bottom) -> None:
        """Nothing flows back into labels."""
