"""How far oneDNN's convolutions are from the same sums in float64."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.caffe.layer_cases import convolution
from tests.caffe.running import build, text_net

UNIT = 2.0**-24  # what rounding a number to float32 may change


@pytest.mark.parametrize(
    ("parameters", "shape", "most"),
    [
        # as oneDNN computes them by itself: 5.9, 8.2 and 2.6
        ("num_output: 1024 kernel_size: 1", (2, 256, 14, 14), 3),
        ("num_output: 128 kernel_size: 1", (1, 512, 28, 28), 3),
        ("num_output: 64 kernel_size: 7 pad: 3 stride: 2", (2, 3, 112, 112), 2),
    ],
)
def test_rounding_of_convolutions(parameters, shape, most, parts):
    if "onednn" not in parts or "avx512bw" not in Path("/proc/cpuinfo").read_text(encoding="ascii"):
        pytest.skip("no part onednn, or no vectors of 16")
    net = build(text_net(convolution(parameters), data=shape), "test")
    found = net.forward()["conv"]
    arguments = (net.blobs["data"].data, *(blob.data for blob in net.params["conv"]))
    stride, pad = (2, 3) if "stride" in parameters else (1, 0)
    exact = torch.nn.functional.conv2d(*(torch.tensor(one).double() for one in arguments), stride, pad).numpy()
    rounding = np.sqrt(((found - exact) ** 2).mean() / (exact**2).mean()) / UNIT
    print(f"{rounding:.2f} units")
    assert rounding < most
