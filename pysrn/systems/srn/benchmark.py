"""What the benchmarks have to know of SRN: how large its random weights are, and what a stage computes in PyTorch.

See `pysrn/benchmark/usual.py` for what such a module is asked for. PyTorch is imported only where it is used, because
Caffe's side reads `SPREAD`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

# Layer -> standard deviation of its output over the check batch; where BN follows, about. Attention values and
# confidences spread by 2, which makes maps with clear peaks.
SPREAD = {
    "att_conv1": 1.0, "att_conv2": 1.0, "att_conv3": 2.0, "conf_conv1": 2.0, "conf_conv2": 2.0,
    "sr_conv2": 1.0, "sr_conv3": 1.0, "sr_conv4": 1.0, "sr_fc": 1.5, "cls_fc": 1.5,
}  # fmt: skip


def stage_scores(model: nn.Module, stage: int) -> nn.Module:
    """Images -> the scores of a stage's losses by name; see `torch_stages.StageScores`."""
    from pysrn.systems.srn.torch_stages import StageScores

    return StageScores(model, stage)
