"""How a stage with a fixed trunk is trained: its fixed part beside what learns, features from a cache if asked for.

`prepared.py` writes what this makes of a stage's whole net; `fixed_part.py` and `cached_layer.py` are the layers in
it. The same first weights, samples and gradients as the whole net has, but for the rounding of folding.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pysrn.console import UsageError
from pysrn.data.feed.settings import FeedSettings
from pysrn.nets import messages, prototxt
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.fixed import input_and_output, split
from pysrn.nets.folding import Weights
from pysrn.nets.layers import add_layer
from pysrn.recipes import Recipe
from pysrn.systems.stage_nets import DataSource, stage_net
from pysrn.train.fixed.feature_cache import FeatureCache, identity
from pysrn.train.fixed.feature_room import rows_of
from pysrn.train.fixed.settings import CACHED_MODULE, FIXED_MODULE, CachedSettings, FixedSettings, feed_of

WHOLE_NET, FIXED_NETS = "whole.prototxt", ("trunk.prototxt", "fixed_heads.prototxt")  # in the stage's folder


def check_fixed_trunk(recipe: Recipe) -> None:
    """Raise UsageError when a recipe keeps its trunk fixed in all stages, and one of them reads more of it."""
    features = recipe.system.trunks[recipe.trunk].features
    for number in recipe.stage_numbers if recipe.fixed_trunk else ():
        try:
            split(stage_net(recipe, number, DataSource("", workers=0)), features, recipe.input.size)
        except (ValueError, UsageError):
            what = f"stage {number} of {recipe.system.title} reads more of its trunk than {features.blob}"
            raise UsageError(what, "leave --fixed-trunk out") from None


class SplitNet:
    """A stage's net taken apart; the fixed nets and the whole one are written into the stage's folder."""

    def __init__(self, folder: Path, recipe: Recipe, number: int, source: Path, whole: messages.NetParameter) -> None:
        self._features = recipe.system.trunks[recipe.trunk].features
        self._recipe, self._number, self._source = recipe, number, source
        self._parts = split(whole, self._features, recipe.input.size)
        self.fixed_names = self._parts.fixed_names
        self.whole_path = folder / WHOLE_NET
        self._paths = [folder / name for name, _ in zip(FIXED_NETS, self._parts.fixed, strict=False)]
        for net, path in zip((whole, *self._parts.fixed), (self.whole_path, *self._paths), strict=True):
            prototxt.write_message(net, path)

    @cached_property
    def _weights(self) -> Weights:
        return read_weights(self._source)

    def prepare(
        self, net: messages.NetParameter, precision: str | None, place: Path | None, on_gpu: bool
    ) -> messages.NetParameter:
        """What is trained in place of `net`, the whole net or its twin for validation.

        With a `precision` its features are cached below the folder `place`, and have their room on the disk. Raises
        SrnError where they have not.
        """
        learning = {layer.name for layer in self._parts.learning.layer}
        trained = messages.NetParameter(name=net.name)
        trained.layer.add().CopyFrom(net.layer[0])
        nets, bottom = list(zip(self._parts.fixed, self._paths, strict=True)), net.layer[0].top[0]
        if precision:
            (trunk, path), *nets = nets
            bottom = input_and_output(trunk)[1]
            cache = self._cache(trunk, feed_of(net), precision, place, on_gpu)
            data, told = trained.layer[0], CachedSettings(feed_of(net), str(cache.folder), str(path), str(self._source))
            data.top[0] = bottom
            data.python_param.module, data.python_param.layer = CACHED_MODULE, "CachedFeaturesLayer"
            data.python_param.param_str = told.to_json()
        if nets:
            told = FixedSettings(tuple(str(path) for _, path in nets), str(self._source))
            layer = {"module": FIXED_MODULE, "layer": "FixedPartLayer", "param_str": told.to_json()}
            add_layer(trained, "fixed_part", "Python", bottom, input_and_output(nets[-1][0])[1], python_param=layer)
        trained.layer.extend(layer for layer in net.layer if layer.name in learning)
        prototxt.check_net(trained)
        return trained

    def _cache(
        self, trunk: messages.NetParameter, feed: FeedSettings, precision: str, place: Path, on_gpu: bool
    ) -> FeatureCache:
        """The cache of what the trunk makes of a feed, with its room on the disk."""
        about = identity(trunk, self._weights, feed, precision, on_gpu)
        cache = FeatureCache.make(place, about, self._features.shape)
        cache.reserve(rows_of(self._recipe, self._number, feed))
        return cache
