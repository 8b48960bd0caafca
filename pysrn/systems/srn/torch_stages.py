"""What each of SRN's stages computes of its net in PyTorch, as `nets.py` has it for Caffe, and no more."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pysrn.systems.srn.torch_model import SRN


class StageScores(nn.Module):
    """N x 3 x 224 x 224 -> the scores that the losses of stage 1 to 4 are of, by name, each N x C logits.

    Stages 2 and 3 need the trunk up to X alone: they take res5 out of the model for good.
    """

    def __init__(self, model: SRN, stage: int) -> None:
        super().__init__()
        self.model, self.stage = model, stage
        if stage in (2, 3):
            model.trunk.res5 = nn.Identity()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The scores, with gradients for what the stage learns."""
        model = self.model
        if self.stage == 4:
            return model(images)._asdict()
        if self.stage == 1:
            top = model.trunk(images)[1]
            return {"score_cls": model.cls_fc(functional.avg_pool2d(top, 7).flatten(1))}
        with torch.no_grad():
            features = model.trunk(images)[0]
        with torch.set_grad_enabled(self.stage == 2):
            blocks = model.residual_blocks(features) if model.released else features
            attention = model.attention(blocks)
            confidence = model.confidence(blocks if model.heads.confidence_sees_blocks else features)
        if self.stage == 2:
            return {"score_att": (confidence * attention).sum((2, 3))}
        with torch.no_grad():
            weighted = model.weighted(attention, confidence)
        return {"score_sr": model.regulariser(weighted)}
