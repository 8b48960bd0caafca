"""The data layer of the nets: a Caffe Python layer that feeds augmented images and their label vectors.

In a prototxt: `type: "Python"`, tops `data` and `label`, `python_param { module: "pysrn.data.layer" layer:
"MultiLabelDataLayer" param_str: '{"folder": ..., "split": ..., "batch_size": ...}' }`; all settings are those
of `batches.FeedSettings`.
"""

from __future__ import annotations

import caffe

from pysrn.console import UsageError
from pysrn.data.feed.prefetch import Feeder
from pysrn.data.feed.settings import FeedSettings


class MultiLabelDataLayer(caffe.Layer):
    """Tops: `data` N x 3 x S x S (float32 BGR minus the mean) and `label` N x C (1 = has it, else 0).

    Errors (SrnError and its kind) are raised out of the call that made or ran the net.
    """

    def setup(self, bottom, top) -> None:
        """Open the database, start the workers and give the tops their shapes."""
        if len(bottom) or len(top) != 2:
            raise UsageError("data layer: it has no bottoms and the two tops data and label")
        self.feeder = Feeder(FeedSettings.from_json(self.param_str))
        for number, shape in enumerate(self.feeder.shapes):
            top[number].reshape(*shape)

    def reshape(self, bottom, top) -> None:
        """The shapes never change."""

    def forward(self, bottom, top) -> None:
        """Hand out the next batch."""
        for number, values in enumerate(self.feeder.next_batch()):
            top[number].data[...] = values

    def backward(self, top, propagate_down, bottom) -> None:
        """Nothing flows back into data."""
