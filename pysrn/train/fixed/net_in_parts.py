"""How stages 2 and 3 are trained: their fixed part beside the net that learns, its features from a cache if asked for.

`preparation.py` writes what this makes of a stage's whole net; `fixed_part.py` and `cached_layer.py` are the layers in
it. The same first weights, samples and gradients as the whole net has, but for the rounding of folding.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from caffe.proto import caffe_pb2

from pysrn.data.feed.batches import FeedSettings
from pysrn.nets import prototxt
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.folding import Weights
from pysrn.nets.frozen import features_shape, input_and_output, split
from pysrn.nets.layers import add_layer
from pysrn.recipes import TRUNKS, Recipe
from pysrn.train.fixed.cached_layer import FEATURES
from pysrn.train.fixed.feature_cache import FeatureCache, identity
from pysrn.train.fixed.feature_room import Caching, rows_of
from pysrn.train.run_folder import FIXED_NETS, WHOLE_NET, RunFolder
from pysrn.train.stage.validation import feed_of


class NetInParts:
    """A stage's net taken apart; the fixed nets and the whole one are written into the stage's folder."""

    def __init__(
        self, run: RunFolder, recipe: Recipe, number: int, source: Path, whole: caffe_pb2.NetParameter
    ) -> None:
        folder, self._spec = run.stage(number), TRUNKS[recipe.trunk]
        self._run, self._recipe, self._number, self._source = run, recipe, number, source
        self._parts = split(whole, self._spec)
        self.fixed_names = self._parts.fixed_names
        self.whole_path = folder / WHOLE_NET
        self._paths = [folder / name for name, _ in zip(FIXED_NETS, self._parts.fixed, strict=False)]
        for net, path in zip((whole, *self._parts.fixed), (self.whole_path, *self._paths), strict=True):
            prototxt.write_message(net, path)

    @cached_property
    def _weights(self) -> Weights:
        return read_weights(self._source)

    def prepare(self, net: caffe_pb2.NetParameter, caching: Caching | None, on_gpu: bool) -> caffe_pb2.NetParameter:
        """What is trained in place of `net`, the whole net or its twin for validation.

        With `caching`, the cache is there and has its room on the disk. Raises SrnError where it has not.
        """
        learning = {layer.name for layer in self._parts.learning.layer}
        trained = caffe_pb2.NetParameter(name=net.name)
        trained.layer.add().CopyFrom(net.layer[0])
        nets, bottom = list(zip(self._parts.fixed, self._paths, strict=True)), net.layer[0].top[0]
        if caching:
            (trunk, path), *nets = nets
            bottom = input_and_output(trunk)[1]
            self._cache(trained.layer[0], trunk, path, bottom, feed_of(net), caching, on_gpu)
        if nets:
            where = {"nets": [str(path) for _, path in nets], "weights": str(self._source)}
            layer = {
                "module": "pysrn.train.fixed.fixed_part",
                "layer": "FixedPartLayer",
                "param_str": json.dumps(where),
            }
            add_layer(trained, "fixed_part", "Python", bottom, input_and_output(nets[-1][0])[1], python_param=layer)
        trained.layer.extend(layer for layer in net.layer if layer.name in learning)
        prototxt.check_net(trained)
        return trained

    def _cache(
        self,
        data: caffe_pb2.LayerParameter,
        trunk: caffe_pb2.NetParameter,
        path: Path,
        features: str,
        feed: FeedSettings,
        caching: Caching,
        on_gpu: bool,
    ) -> None:
        """Turn the data layer into one that hands out features."""
        shape = tuple(features_shape(self._spec, 1)[1:])
        about = identity(trunk, self._weights, feed, caching.precision, on_gpu)
        cache = FeatureCache.make(caching.place(self._run), about, shape)
        cache.reserve(rows_of(self._recipe, self._number, feed))
        where = {"cache": str(cache.folder), "trunk": str(path), "weights": str(self._source)}
        data.top[0] = features
        data.python_param.module, data.python_param.layer = "pysrn.train.fixed.cached_layer", "CachedFeaturesLayer"
        data.python_param.param_str = json.dumps(asdict(feed) | {FEATURES: where})
