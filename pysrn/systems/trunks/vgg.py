"""VGG-16 up to fc7, with names, order and shapes of the public release (VGG_ILSVRC_16_layers, configuration D).

Its caffemodel loads with nothing left over but `fc8`.
"""

from __future__ import annotations

from pysrn.nets import messages
from pysrn.nets.layers import Learning, add_layer, convolution, relu, set_learning

NAME, TITLE = "vgg16", "VGG-16"
CHANNELS = {1: (64, 64), 2: (128, 128), 3: (256, 256, 256), 4: (512, 512, 512), 5: (512, 512, 512)}  # the release
WIDTH = 4096  # fc6 and fc7, the release
DROPOUT = 0.5  # the release
IMAGENET_CLASSIFIER = "fc8"  # the only thing of the release that stage 1 leaves
FC_STD, FC_BIAS = 0.005, 0.1  # assumed: the fillers of CaffeNet; the release has none


def add_trunk(net: messages.NetParameter, data: str, learning: Learning) -> str:
    """Add conv1_1 to fc7, rectified; dropout only where it learns. Returns `fc7`: N x 4096 of a 224 x 224 image."""
    top = data
    for block, channels in CHANNELS.items():
        for number, width in enumerate(channels, 1):
            name = f"conv{block}_{number}"
            top = relu(net, f"relu{block}_{number}", convolution(net, name, top, width, 3, learning, pad=1))
        pooling = {"pool": "MAX", "kernel_size": 2, "stride": 2}
        top = add_layer(net, f"pool{block}", "Pooling", top, pooling_param=pooling)
    for number in (6, 7):
        filler = {"type": "gaussian", "std": FC_STD}
        bias = {"type": "constant", "value": FC_BIAS}
        values = {"num_output": WIDTH, "weight_filler": filler, "bias_filler": bias}
        top = add_layer(net, f"fc{number}", "InnerProduct", top, inner_product_param=values)
        set_learning(net, learning, 2.0)  # the release: biases learn twice as fast
        relu(net, f"relu{number}", top)
        if not learning.fixed:
            add_layer(net, f"drop{number}", "Dropout", top, top, dropout_param={"dropout_ratio": DROPOUT})
    return top
