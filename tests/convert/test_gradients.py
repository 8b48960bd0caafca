"""One training step: the gradients of Caffe and of PyTorch, from the stage-4 net that training runs."""

import caffe
import numpy as np
import pytest
import torch
from torch.nn import functional

from pysrn.benchmark.realistic_weights import write_realistic
from pysrn.convert import torch_weights
from pysrn.nets import messages, prototxt
from pysrn.nets.caffemodel import read_weights
from pysrn.nets.layers import add_layer
from pysrn.predict.deploy import deploy_message
from pysrn.systems.srn.nets import stage_losses
from pysrn.systems.stage_nets import DataSource, stage_net
from tests.srn import RECIPES, Architecture, check_images, replace


def caffe_gradients(recipe, weights, images, labels, folder):
    """Layer name -> gradients of its blobs, and the losses, from the training net of stage 4."""
    message = messages.NetParameter(name="step")
    for name, array in (("data", images), ("label", labels)):
        add_layer(message, name, "Input", [], input_param={"shape": [{"dim": list(array.shape)}]})
    message.layer.extend(stage_net(recipe, 4, DataSource("none")).layer[1:])
    prototxt.write_message(message, folder / "step.prototxt")
    net = caffe.Net(str(folder / "step.prototxt"), caffe.TRAIN)
    for name, blobs in net.params.items():
        for blob, values in zip(blobs, weights[name], strict=True):
            blob.data[...] = values
    net.blobs["data"].data[...], net.blobs["label"].data[...] = images, labels
    net.forward()
    net.backward()
    losses = [float(net.blobs[layer.top[0]].data) for layer in message.layer if layer.type == "SigmoidCrossEntropyLoss"]
    return {name: [blob.diff.copy() for blob in blobs] for name, blobs in net.params.items()}, losses


@pytest.mark.parametrize(("variant", "ending"), [("paper", ""), ("paper", "_v15"), ("released", "")])
def test_gradients_of_one_training_step_agree(variant, ending, tmp_path):
    recipe = replace(RECIPES["shapes"], variant=variant, trunk=f"resnet14{ending}")
    classes = len(recipe.dataset.classes)
    architecture = Architecture(recipe.trunk, classes, recipe.heads)
    images = check_images(3, seed=5)
    path = write_realistic(tmp_path / "weights.caffemodel", architecture, images)
    labels = np.random.default_rng(1).integers(0, 2, (3, classes)).astype(np.float32)
    weights = read_weights(path)
    expected, losses = caffe_gradients(recipe, weights, images, labels, tmp_path)

    model = torch_weights.load_model(path)  # evaluation mode: stored statistics, as stage 4 has them
    scores = model(torch.from_numpy(images))._asdict()
    found = [
        functional.binary_cross_entropy_with_logits(scores[name], torch.from_numpy(labels), reduction="sum") / 3
        for name in stage_losses(recipe, 4)
    ]
    assert [loss.item() for loss in found] == pytest.approx(losses, rel=1e-5)
    sum(found).backward()
    gradients = {}
    for name, parameter in model.named_parameters():
        part, _, kind = name.rpartition(".")
        is_norm = isinstance(model.get_submodule(part), torch.nn.BatchNorm2d)
        layer = torch_weights.batch_norm_names(part)[1] if is_norm else torch_weights.layer_name(part)
        gradients[layer, kind] = np.zeros(1) if parameter.grad is None else parameter.grad.numpy()
    worst = {}
    for layer, diffs in expected.items():
        if layer in [entry.name for entry in deploy_message(architecture).layer if entry.type == "BatchNorm"]:
            continue
        # Of the layer's greatest: the softmax makes the gradient of att_conv3's bias zero, what is left is rounding.
        greatest = max(np.abs(diff).max() for diff in diffs)
        for kind, diff in zip(("weight", "bias"), diffs, strict=False):
            worst[layer, kind] = np.abs(diff - gradients[layer, kind].reshape(-1, *diff.shape[1:])).max() / greatest
    assert set(worst) == set(gradients)
    assert all(np.isfinite(value) for value in worst.values())
    print(f"\n{recipe.trunk}, {variant}: at worst {max(worst.values()):.1e} relative, in {max(worst, key=worst.get)}")
    assert max(worst.values()) < 1e-3
