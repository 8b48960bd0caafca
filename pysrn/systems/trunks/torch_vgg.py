"""VGG-16 up to fc7 as a PyTorch module, the same net as `vgg.py` makes for Caffe; names are Caffe's."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from pysrn.systems.trunks.vgg import CHANNELS, WIDTH

FEATURES = 512 * 7 * 7  # of a 224 x 224 image, in the order of channels, rows, columns, as Caffe's


class Vgg16(nn.Module):
    """N x 3 x 224 x 224 -> fc7: N x 4096. Without dropout: no stage here trains it in PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        for block, channels in CHANNELS.items():
            for number, width in enumerate(channels, 1):
                self.add_module(f"conv{block}_{number}", nn.Conv2d(inputs, width, 3, padding=1))
                inputs = width
        self.fc6, self.fc7 = nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Images -> fc7, rectified."""
        return self.full(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """Images -> pool5: N x 512 x 7 x 7."""
        for block, channels in CHANNELS.items():
            for number in range(1, len(channels) + 1):
                x = functional.relu(getattr(self, f"conv{block}_{number}")(x))
            x = functional.max_pool2d(x, 2, ceil_mode=True)
        return x

    def full(self, x: Tensor) -> Tensor:
        """pool5 -> fc7, rectified."""
        return functional.relu(self.fc7(functional.relu(self.fc6(x.flatten(1)))))
