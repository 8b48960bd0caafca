"""The deploy net with the trunk features of a split on the disk: stages of a run that leave the trunk alone share them.

Which stage's scores are computed next, the images need not go through the trunk again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pysrn.console import UsageError, message
from pysrn.data.pair.lmdb_pair import PairReader
from pysrn.nets.fixed import cut_at_features
from pysrn.nets.folding import Weights
from pysrn.nets.forward_net import ForwardNet
from pysrn.nets.layers import parameter_layers
from pysrn.predict.deploy import DeployNet
from pysrn.systems.stage_nets import DataSource, feed_of
from pysrn.train.fixed.feature_cache import FeatureCache, identity, row_bytes, size_text


class CachedDeployNet(DeployNet):
    """A folded deploy net in two parts: the trunk up to X, whose output is cached, and what reads X."""

    def __init__(
        self,
        path: Path,
        batch_size: int,
        gpu: int | None,
        pair: PairReader,
        precision: str,
        place: Path,
        announced: bool = False,
        search: Mapping[str, int] | None = None,
    ) -> None:
        """The features of `pair` are kept below the folder `place`; SrnError where the disk cannot hold them.

        Their size is said before, unless somebody has `announced` it.
        """
        self._pair, self._precision, self._place = pair, precision, place
        self._on_gpu, self._announced = gpu is not None, announced
        super().__init__(path, batch_size, gpu, folded=True, search=search)

    def forward_records(
        self, records: Sequence[int], views: Callable[[], np.ndarray], outputs: Collection[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run records of the pair; `views` is called where the features of one are not there."""
        values = np.empty((len(records), *self._cache.shape), np.float32)
        rows = [self._pair.span.start + record for record in records]
        damaged = self._cache.fetch(rows, values, lambda: self._still.forward(views())[self._still.output])
        if damaged:
            message(f"warning: {self._cache.folder}: damaged rows are computed anew: {', '.join(map(str, damaged))}")
        return self._outputs(self._rest, values, outputs)

    def _built(self, net, weights: Weights, folded: bool) -> ForwardNet:
        features = self.system.trunks[self.architecture.trunk].features
        if features is None:
            raise UsageError(f"{self.system.title} has no features to keep", "leave --cache-features out")
        trunk, rest = cut_at_features(net, features)
        below = set(parameter_layers(trunk))
        of_trunk = {name: blobs for name, blobs in weights.items() if name in below}
        of_rest = {name: blobs for name, blobs in weights.items() if name not in below}
        recipe = next(iter(self.system.recipes.values()))  # whole images are the same in all of them
        source = DataSource(str(self._pair.folder), self._pair.split)
        feed = feed_of(replace(recipe, batch_size=1, seed=0), source, train=False)
        about = identity(trunk, weights, feed, self._precision, self._on_gpu)  # of weights that are not folded yet
        built = ForwardNet(trunk, of_trunk, str(self.path), kept=())
        self._rest = ForwardNet(rest, of_rest, str(self.path), kept=self._kept)
        if not self._announced:
            size = size_text(len(self._pair) * row_bytes(features.shape, self._precision))
            message(f"features of {len(self._pair)} images, {self._precision}: {size} in {self._place}")
        self._cache = FeatureCache.make(self._place, about, features.shape)
        self._cache.reserve(self._pair.span.stop)
        return built
