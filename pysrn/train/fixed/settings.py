"""What the layers of a split net are told in their `param_str`, and what feeds a training net."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from pysrn.data.feed.settings import FeedSettings
from pysrn.nets import messages
from pysrn.nets.layers import add_input

FEATURES = "features"  # the key of what a feed of cached features knows beside the feed
DATA_MODULE, CACHED_MODULE = "pysrn.data.layer", "pysrn.train.fixed.cached_layer"
FIXED_MODULE = "pysrn.train.fixed.fixed_part"


@dataclass(frozen=True)
class FixedSettings:
    """Nets that run one behind the other (prototxt files), and the caffemodel with their weights."""

    nets: tuple[str, ...]
    weights: str

    def to_json(self) -> str:
        """The `param_str`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FixedSettings:
        """The settings of a `param_str`."""
        values = json.loads(text)
        return cls(tuple(values["nets"]), values["weights"])


@dataclass(frozen=True)
class CachedSettings:
    """A feed whose images became features: the cache's folder, and the net and weights that make what it has not."""

    feed: FeedSettings
    cache: str
    trunk: str
    weights: str

    def to_json(self) -> str:
        """The `param_str`: the feed's, and under `FEATURES` the rest."""
        where = {"cache": self.cache, "trunk": self.trunk, "weights": self.weights}
        return json.dumps(self.feed.to_values() | {FEATURES: where})

    @classmethod
    def from_json(cls, text: str) -> CachedSettings:
        """The settings of a `param_str`."""
        values = json.loads(text)
        where = values.pop(FEATURES)
        return cls(FeedSettings.from_json(json.dumps(values)), **where)


def fed_by_input(net: messages.NetParameter, shapes: Mapping[str, Sequence[int]]) -> messages.NetParameter:
    """The net with Input layers of these shapes in place of its data layer (the first): fill them once."""
    found = messages.NetParameter(name=f"{net.name}_from_memory")
    for name, shape in shapes.items():
        add_input(found, name, shape)
    found.layer.extend(net.layer[1:])
    return found


def data_layer(net: messages.NetParameter) -> messages.LayerParameter:
    """The layer that feeds a training net, with or without a cache."""
    modules = (DATA_MODULE, CACHED_MODULE)
    return next(layer for layer in net.layer if layer.type == "Python" and layer.python_param.module in modules)


def feed_of(net: messages.NetParameter) -> FeedSettings:
    """The settings of a net's data layer."""
    text = data_layer(net).python_param.param_str
    return CachedSettings.from_json(text).feed if FEATURES in json.loads(text) else FeedSettings.from_json(text)


def change_feed(net: messages.NetParameter, **changes) -> None:
    """Change fields of the feed of a net's data layer."""
    layer = data_layer(net).python_param
    feed = replace(feed_of(net), **changes)
    if FEATURES in json.loads(layer.param_str):
        layer.param_str = replace(CachedSettings.from_json(layer.param_str), feed=feed).to_json()
    else:
        layer.param_str = feed.to_json()
