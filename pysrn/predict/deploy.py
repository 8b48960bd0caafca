"""The deploy net in Caffe, filled with the weights of a file: what prediction, pictures and export run.

A run's stages end in caffemodels that hold more and more of the net (a first stage: one score only). The net is
cut to the scores that the weights can compute, and every layer is accounted for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from pysrn.console import SrnError, UsageError, message
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.folding import Weights
from pysrn.nets.forward_net import ForwardNet
from pysrn.nets.in_caffe import use_device
from pysrn.nets.layers import parameter_layers
from pysrn.nets.map_places import Places, places_of
from pysrn.predict.trained import architecture_of, settings_of
from pysrn.systems.stage_nets import deploy_message
from pysrn.systems.system import System


class DeployNet:
    """A deploy net in Caffe, with the weights of a file.

    Attributes: path, architecture, message (the NetParameter, not folded), scores (names of the score outputs it has),
    maps (likewise), features (name of what global average pooling reads: N x channels x H x W; None: nothing),
    searching (what makes scores of other outputs, of the class `System.searching`: called with its blobs `reads` it
    gives its `scores`; or None).
    """

    def __init__(
        self,
        path: Path,
        batch_size: int = 1,
        gpu: int | None = None,
        folded: bool = False,
        kept: Collection[str] = (),
        search: Mapping[str, int] | None = None,
    ) -> None:
        """Build the net and fill it; SrnError where the weights do not account for a net exactly.

        `folded`: with batch normalisation folded into the weights (`folding.py`), faster, equal but for rounding; only
        scores, maps, features and the blobs `kept` can be read then. `search`: settings of what makes scores of the
        net's outputs, where something does (`System.searching`), in place of the run's.
        """
        weights = read_weights(path)
        self.path = path
        self.architecture = architecture_of(weights, path)
        for name in self.system.leaves:  # a snapshot of a first stage whose trunk is fixed still has them
            weights.pop(name, None)
        self.message = deploy_message(self.architecture, weights, batch_size)
        blobs = {top for layer in self.message.layer for top in layer.top}
        self.searching = self._searching(weights, blobs, search or {})
        found = blobs.union(self.searching.scores if self.searching else ())
        self.scores = tuple(name for name in self.system.score_names if name in found)
        self._made = {one.name: one for one in self.system.maps if one.of and blobs.issuperset(one.needs)}
        self.maps = tuple(name for name in self.system.map_names if name in blobs or name in self._made)
        if not self.scores:
            whole = parameter_layers(deploy_message(self.architecture))
            missing = [name for name in whole if name not in weights]
            raise SrnError(
                f"{path} can compute no score: {len(missing)} layers are missing, the first is {missing[0]}",
                "give a caffemodel that tools/run_stage.py wrote",
            )
        self.features = self._features(self.message)
        use_device(gpu)
        features = (self.features,) if self.features else ()
        needed = {blob for one in self._made.values() for blob in one.needs}
        needed.update(self.searching.reads if self.searching else (), blobs.intersection(self.scores))
        self._kept = (*self.scores, *self.maps, *sorted(needed), *features, *kept) if folded else None
        self._still = self._built(self.message, weights, folded)
        self.net = self._still.net

    @property
    def system(self) -> System:
        """Whose net it is."""
        return self.architecture.system

    def places(self, blob: str) -> Places:
        """Where the cells of a map, or of the features, lie in the image; SrnError where that cannot be told."""
        places = places_of(self.message, self._made[blob].needs[0] if blob in self._made else blob)
        for branches in places.uneven:
            message(f"note: {blob} lies where the middle of all branches is; they differ at {branches}")
        return places

    def _searching(self, weights: Weights, blobs: Collection[str], asked: Mapping[str, int]):
        """What makes further scores of the net's outputs; None where nothing does, or not of these weights."""
        kind = self.system.searching_class()
        if kind is None or not blobs >= set(kind.reads):
            if asked:
                raise UsageError(f"{self.path} has nothing to search", "leave --search out")
            return None
        settings = settings_of(self.path)
        return kind(self.architecture, weights, str(self.path), settings and settings.recipe, asked)

    def _features(self, net) -> str | None:
        """What the global average pooling of the system's classifier reads."""
        activation = self.system.activation
        pooling = [layer for layer in net.layer if activation and layer.name == activation.pooling]
        return pooling[0].bottom[0] if pooling else None

    def _built(self, net, weights: Weights, folded: bool) -> ForwardNet:
        """The net (a NetParameter) in Caffe, or that part of it which begins with the images."""
        return ForwardNet(net, weights, str(self.path), folded, self._kept)

    def forward(self, images: Sequence[np.ndarray], outputs: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """Run N x 3 x S x S images (BGR minus mean); returns `outputs` (default: the scores)."""
        return self._outputs(self._still, images, outputs)

    def _outputs(
        self, net: ForwardNet, values: Sequence[np.ndarray], outputs: Collection[str] | None
    ) -> dict[str, np.ndarray]:
        """What a net makes of `values`, and what its maps and a search make of that."""
        wanted = list(outputs or self.scores)
        searched = [name for name in wanted if self.searching and name in self.searching.scores]
        reads = self.searching.reads if searched else ()
        needs = {name: self._made[name].needs if name in self._made else (name,) for name in wanted}
        needs |= dict.fromkeys(searched, reads)
        blobs = net.forward(values, list(dict.fromkeys(blob for several in needs.values() for blob in several)))
        found = self.searching({name: blobs[name].copy() for name in reads}) if searched else {}
        for name in wanted:
            if name in self._made:
                found[name] = self._made[name].of(*(blobs[blob] for blob in needs[name]))
            elif name not in searched:
                found[name] = blobs[name].copy()
        return {name: found[name] for name in wanted}

    def forward_records(
        self, records: Sequence[int], views: Callable[[], np.ndarray], outputs: Collection[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Run records of a split, whose images `views` loads; returns `outputs` (default: the scores)."""
        return self.forward(views(), outputs)
