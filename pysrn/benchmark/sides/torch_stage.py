"""A stage of training in PyTorch: what learns, which statistics follow the batch, and the losses.

All of it is read from the stage's net for Caffe; only how scores are computed is the system's own (`usual.py`).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pysrn.benchmark.usual import own_module
from pysrn.convert import torch_weights
from pysrn.nets import messages
from pysrn.systems.system import System


class Scores(nn.Module):
    """All scores and maps of a model by name: what a stage of a system without a module of its own computes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """N x 3 x S x S -> name -> output."""
        return self.model(images)._asdict()


class StageLosses(nn.Module):
    """Images and labels -> the losses of a stage; computes nothing that the stage does not need."""

    def __init__(
        self,
        model: nn.Module,
        system: System,
        stage: int,
        net: messages.NetParameter,
        losses: tuple[tuple[str, str], ...],
    ) -> None:
        """`net` is the stage's for Caffe; `losses` are pairs of a loss and its score."""
        super().__init__()
        own = own_module(system)
        self.scores = own.stage_scores(model, stage) if hasattr(own, "stage_scores") else Scores(model)
        self.further = getattr(own, "further_losses", lambda model: [])
        full = {layer.top[0] for layer in net.layer if layer.loss_param.normalization == layer.loss_param.FULL}
        self.of_losses = [(score, loss in full) for loss, score in losses]
        norms = [layer for layer in net.layer if layer.type == "BatchNorm"]  # whose statistics are those of the batch:
        following = {layer.name for layer in norms if not layer.batch_norm_param.use_global_stats}
        for path, part in model.named_modules():
            if isinstance(part, nn.BatchNorm2d):
                part.train(torch_weights.batch_norm_names(path)[0] in following)

    def forward(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """One loss a score as Caffe's (the sum, or where that is FULL the mean, over the labels), then further ones."""
        found = self.scores(images)
        losses = [
            functional.binary_cross_entropy_with_logits(found[name], labels, reduction="sum")
            / (labels.numel() if full else len(images))
            for name, full in self.of_losses
        ]
        return losses + self.further(self.scores.model)


def caffe_layer(model: nn.Module, parameter: str) -> str:
    """The Caffe layer that a parameter of the model is in; of a BatchNorm2d the Scale layer."""
    path = parameter.rpartition(".")[0]
    if isinstance(model.get_submodule(path), nn.BatchNorm2d):
        return torch_weights.batch_norm_names(path)[1]
    return torch_weights.layer_name(path)


def fold(model: nn.Module) -> None:
    """Fold every BatchNorm2d that follows a convolution, and of which nothing learns, into it."""
    for part in model.modules():
        for name, convolution in list(part.named_children()):
            for norm in (f"bn_{name}", f"{name}_bn"):
                follower = getattr(part, norm, None)
                if isinstance(convolution, nn.Conv2d) and _fixed_norm(follower):
                    setattr(part, name, fuse_conv_bn_eval(convolution, follower))
                    setattr(part, norm, nn.Identity())


def _fixed_norm(part: nn.Module | None) -> bool:
    learns = part is not None and any(parameter.requires_grad for parameter in part.parameters())
    return isinstance(part, nn.BatchNorm2d) and not part.training and not learns
