"""What the benchmarks have to know of MSRN: how large its random weights are, and what a stage computes in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pysrn.console import UsageError
from pysrn.systems.msrn.nets import MSRN

if TYPE_CHECKING:
    from torch import Tensor, nn

# Layer -> standard deviation of its output over the check batch: features and embeddings whose products make peaks.
SPREAD = {
    "emb_gat2_W": 1.0, "emb_gatz_W": 1.0, "tap_project1": 1.0, "tap_project2": 1.0, "tap_project3": 1.0,
    "fuse_fc1": 1.0, "fuse_fc2": 1.5, "cls_fc": 1.5,
}  # fmt: skip


def stage_scores(model: nn.Module, stage: int) -> nn.Module:
    """Images -> the score of the last stage; UsageError for another."""
    from pysrn.benchmark.torch_stage import Scores

    if stage != MSRN:
        raise UsageError(f"stage {stage} of MSRN is an ordinary net: there is nothing to compare")
    return Scores(model)


def further_losses(model: nn.Module) -> list[Tensor]:
    """The group loss."""
    return [model.group_loss()]
