"""Where and how a stage runs: devices, processes, snapshots, caching; changes no result but for rounding."""

from __future__ import annotations

from dataclasses import dataclass

from pysrn.console import UsageError
from pysrn.train.fixed.feature_room import Caching
from pysrn.train.launch import PLAIN, Launch


@dataclass(frozen=True)
class Machine:
    """Devices and processes of a training run."""

    gpus: tuple[int, ...] = ()  # of each machine, shared out among its ranks; empty: CPU
    workers: int = 1
    snapshot_every: int = 200
    keep: int = 2  # newest snapshots that stay on disk, besides the best
    tensorboard: bool = False
    launch: Launch = PLAIN
    whole_net: bool = False  # train all stages as their checked-in nets are: in one piece, nothing folded
    caching: Caching | None = None  # of the trunk's features in stages with a fixed trunk

    def __post_init__(self) -> None:
        """Raises UsageError for devices that no rank would use, and a cache for a net that computes all itself."""
        if self.whole_net and self.caching:
            raise UsageError("--whole-net computes the trunk in every iteration: it has no use for --cache-features")
        if len(self.gpus) > self.launch.ranks:
            raise UsageError(
                f"--gpu names {len(self.gpus)} devices, but --ranks is {self.launch.ranks}",
                f"give --ranks {len(self.gpus)}, or fewer devices",
            )
