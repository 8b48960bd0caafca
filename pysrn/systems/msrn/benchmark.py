"""What the benchmarks have to know of MSRN: how large random weights are, what else a stage minimises."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

# Layer -> standard deviation of its output over the check batch: features and embeddings whose products make peaks.
SPREAD = {
    "emb_gat2_W": 1.0, "emb_gatz_W": 1.0, "tap_project1": 1.0, "tap_project2": 1.0, "tap_project3": 1.0,
    "fuse_fc1": 1.0, "fuse_fc2": 1.5, "cls_fc": 1.5,
}  # fmt: skip


def further_losses(model: nn.Module) -> list[Tensor]:
    """The group loss."""
    return [model.group_loss()]
