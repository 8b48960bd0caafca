"""What a data layer is told: which records, in which order, cut and scaled how. Reads no images: imports little."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from pysrn.console import UsageError
from pysrn.recipes import CORNERS_AND_CENTRE, QUARTERS, Augmentation, Input

LATER = ("views", "places", "scale")  # fields that param_strs of earlier versions have not


@dataclass(frozen=True)
class FeedSettings:
    """What the data layer is told in its `param_str`.

    `first_sample` is the number of the sample to begin with, counted over all epochs and ranks. `records`: only the
    records from the first number up to, not including, the second are fed; None means all. `rank` of `ranks`
    processes is fed its part of every global batch of `ranks * batch_size` samples: rank after rank they are what a
    single process with that batch size sees. `views`: an image has so many views in training, one an epoch, and goes
    through them again and again; None: a new one in every epoch. `places`: where a crop may lie (`recipes.Input`).
    """

    folder: str
    split: str
    batch_size: int
    seed: int = 0
    crop_size: int = field(kw_only=True)
    image_size: int = field(kw_only=True)
    scale_ratios: tuple[float, ...] = field(kw_only=True)
    max_distort: int = field(kw_only=True)
    mirror: bool = field(kw_only=True)
    mean: tuple[float, ...] = field(kw_only=True)
    train: bool = True
    first_sample: int = 0
    workers: int = 1
    records: tuple[int, int] | None = None
    rank: int = 0
    ranks: int = 1
    views: int | None = None
    places: tuple[tuple[int, int], ...] = CORNERS_AND_CENTRE
    scale: float = 1.0

    @classmethod
    def of(cls, eaten: Input, augmentation: Augmentation, **others) -> FeedSettings:
        """What feeds nets that eat `eaten`, in training with views of `augmentation`; `others` are further fields."""
        own = {"crop_size": eaten.size, "image_size": eaten.stored_size}
        own |= {"mean": eaten.mean, "places": eaten.places, "scale": eaten.scale}
        return cls(**others, **own, **vars(augmentation))

    def __post_init__(self) -> None:
        """Raises UsageError for a value that cannot be."""
        least = dict.fromkeys(("batch_size", "crop_size", "image_size", "ranks"), 1)
        least |= dict.fromkeys(("max_distort", "first_sample", "workers", "rank"), 0)
        least |= {} if self.views is None else {"views": 1}
        for name, low in least.items():
            if not isinstance(getattr(self, name), int) or getattr(self, name) < low:
                raise UsageError(f"data layer: {name} is {getattr(self, name)!r}, a whole number from {low} is needed")
        if not self.scale_ratios or not all(0 < ratio <= 1 for ratio in self.scale_ratios):
            raise UsageError(f"data layer: scale_ratios {self.scale_ratios} must lie in (0, 1]")
        if self.rank >= self.ranks:
            raise UsageError(f"data layer: rank {self.rank} of {self.ranks}: ranks are counted from 0")
        if self.records is not None:
            whole = len(self.records) == 2 and all(isinstance(bound, int) for bound in self.records)
            if not whole or not 0 <= self.records[0] < self.records[1]:
                raise UsageError(f"data layer: records {self.records} is no range: [first, behind the last] is needed")
        if not self.places or not all(
            len(place) == 2 and set(place) <= set(range(QUARTERS + 1)) for place in self.places
        ):
            raise UsageError(f"data layer: places {self.places}: (row, column) in quarters, 0 to 4, is needed")
        if len(self.mean) != 3:
            raise UsageError(f"data layer: mean needs three numbers (B, G, R), not {self.mean}")

    @classmethod
    def from_json(cls, text: str) -> FeedSettings:
        """Settings of a `param_str`. Raises UsageError for damaged JSON and for unknown or missing names."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise UsageError(f"data layer: param_str is not JSON: {error}") from None
        known = {field.name: field for field in dataclasses.fields(cls)}
        if isinstance(values, dict):
            values = _unsaid() | values
        needed = {name for name, field in known.items() if field.default is dataclasses.MISSING}
        if not isinstance(values, dict) or not needed <= set(values) <= set(known):
            given = set(values) if isinstance(values, dict) else set()
            odd = [f"unknown {name}" for name in sorted(given - set(known))]
            odd += [f"missing {name}" for name in sorted(needed - given)]
            raise UsageError(f"data layer: param_str: {', '.join(odd)}")
        for name in ("scale_ratios", "mean", "records", "places"):
            if isinstance(values.get(name), list):
                values[name] = tuple(tuple(one) if isinstance(one, list) else one for one in values[name])
        return cls(**values)

    def to_json(self) -> str:
        """The `param_str` of these settings."""
        return json.dumps(self.to_values())

    def to_values(self) -> dict:
        """The same as plain values; `LATER` ones only where they say something, so that older forms stay alike."""
        later = {one.name: one.default for one in dataclasses.fields(self) if one.name in LATER}
        return {name: value for name, value in dataclasses.asdict(self).items() if later.get(name, self) != value}


@cache
def _unsaid() -> dict:
    """What a `param_str` means by what it does not say: a hand-written one has folder, split and batch size alone.

    Those of the package's first version, whose nets people have.
    """
    return json.loads(resources.files("pysrn.data.feed").joinpath("unsaid.json").read_text("utf-8"))
