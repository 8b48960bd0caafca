"""The recurrent part of CNN-RNN alone, on features that are given."""

from dataclasses import replace

from pysrn.nets import messages
from pysrn.nets.layers import add_layer
from pysrn.systems.cnn_rnn import nets
from pysrn.systems.registry import system_named
from pysrn.systems.stage_nets import DataSource, stage_net

SYSTEM = system_named("cnn_rnn")


def training_net(heads, classes, images, width, with_gradient=False):
    """Inputs `pool5` (images x width x 1 x 1) and `label`; `with_gradient`: `feature` instead, and parameters `pool5`
    that are added to it, whose gradient is the feature's."""
    recipe = SYSTEM.recipe("shapes")
    labels = tuple(f"label {number}" for number in range(classes))
    recipe = replace(recipe, heads=heads, dataset=replace(recipe.dataset, labels=labels))
    whole = stage_net(recipe, nets.RECURRENT, DataSource("", workers=0))
    net = messages.NetParameter(name="recurrent")
    feature = "feature" if with_gradient else "pool5"
    add_layer(net, feature, "Input", [], input_param={"shape": [{"dim": [images, width, 1, 1]}]})
    if with_gradient:
        add_layer(net, "pool5", "Bias", feature, bias_param={"axis": 0, "num_axes": -1})
    add_layer(net, "label", "Input", [], input_param={"shape": [{"dim": [images, classes]}]})
    net.layer.extend(layer for layer in whole.layer if layer.name.startswith(("rnn_", "loss_")))
    return net
