"""What real solver steps change and leave alone, stage by stage in both variants, and which losses drive them."""

import caffe
import numpy as np
import pytest

from pysrn.nets import prototxt
from pysrn.nets.solvers import stage_solver
from pysrn.systems.srn.heads import VARIANTS
from tests.srn import RECIPES, replace, stages
from tests.systems.srn.test_stages import SOURCE, with_dummy_data

LEARNERS = {1: ("",), 2: ("att_", "conf_"), 3: ("sr_",), 4: ("",)}  # prefixes of what a stage may change
JOINT_LOSS = {  # stage 4 as a function of the logits (y_cls, y_sr, y_att)
    "paper": lambda cls, sr, att: [0.5 * cls + 0.5 * sr, att],  # Eq. 10
    "released": lambda cls, sr, att: [cls, sr, att],
}
CASES = [(variant, stage) for variant in VARIANTS for stage in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    """step(variant, stage): solver, all blobs before and after one step of a solver on two random images."""
    done = {}

    def run(variant, stage):
        if (variant, stage) not in done:
            done[variant, stage] = one_step(variant, stage, tmp_path_factory.mktemp("step"))
        return done[variant, stage]

    return run


def one_step(variant, stage, folder):
    recipe = replace(RECIPES["shapes"], batch_size=2, variant=variant)
    message = with_dummy_data(stages.stage_net(recipe, stage, SOURCE), len(recipe.dataset.classes))
    prototxt.write_message(message, folder / "net.prototxt")
    solver_message = stage_solver(recipe, stage, str(folder / "net.prototxt"), str(folder / "snapshot"))
    prototxt.write_message(solver_message, folder / "solver.prototxt")
    solver = caffe.get_solver(str(folder / "solver.prototxt"))
    random = np.random.default_rng(stage)
    for layer in message.layer:
        if layer.type == "BatchNorm":  # of a net that has seen some batches
            mean, variance, factor = solver.net.params[layer.name]
            mean.data[...] = 8 * random.normal(0, 0.1, mean.data.shape)
            variance.data[...] = 8 * random.uniform(0.5, 1.5, variance.data.shape)
            factor.data[...] = 8
    before = copies(solver.net)
    solver.step(1)
    return message, solver, before, copies(solver.net)


def copies(net):
    return {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}


@pytest.mark.parametrize(("variant", "stage"), CASES)
def test_what_learns_gets_a_gradient_and_changes(step, variant, stage):
    message, solver, before, after = step(variant, stage)
    without_effect = {("att_conv3", 1)}  # one number for all positions: the softmax over positions does not see it
    if stage == 1:
        without_effect.add(("conv1", 1))  # the BN behind it takes the batch's mean away
    learnt = 0
    for layer in message.layer:
        for i, param in enumerate(layer.param):
            if layer.type == "BatchNorm" or not layer.name.startswith(LEARNERS[stage]):
                continue
            assert param.lr_mult > 0, layer.name
            gradient = np.abs(solver.net.params[layer.name][i].diff).max()
            if (layer.name, i) in without_effect:
                assert gradient < 1e-5, (layer.name, i, gradient)
                continue
            assert gradient > 1e-9, (layer.name, i)
            assert np.any(before[layer.name][i] != after[layer.name][i]), (layer.name, i)
            learnt += 1
    assert learnt >= 5


@pytest.mark.parametrize(("variant", "stage"), CASES)
def test_what_is_fixed_keeps_every_bit(step, variant, stage):
    message, _, before, after = step(variant, stage)
    moving_statistics = stage == 1 or (variant == "released" and stage in (2, 3))
    fixed, moved = set(), set()
    for layer in message.layer:
        if not layer.param:
            continue
        same = all(x.tobytes() == y.tobytes() for x, y in zip(before[layer.name], after[layer.name], strict=True))
        mine = layer.name.startswith(LEARNERS[stage])
        if not mine or (layer.type == "BatchNorm" and not moving_statistics):
            assert same, layer.name
            fixed.add(layer.name)
        elif layer.type == "BatchNorm":
            assert all(np.any(x != y) for x, y in zip(before[layer.name], after[layer.name], strict=True)), layer.name
            assert after[layer.name][2] == pytest.approx(0.9 * 8 + 1)  # the fork's momentum
            moved.add(layer.name)
    assert stages.fixed_layers(message) == fixed
    assert bool(moved) == moving_statistics
    if stage == 3 and variant == "released":
        assert {"att_conf_res1_bn", "att_conv1_bn", "conf_conv1_bn", "bn4a"} <= fixed


@pytest.mark.parametrize("variant", VARIANTS)
def test_stage_4_has_the_declared_losses(step, variant):
    """The loss written out on the score blobs: its value, and its slope in every single logit."""
    _, solver, _, _ = step(variant, 4)
    blobs = solver.net.blobs
    label, batch = blobs["label"].data.astype(float), len(blobs["label"].data)
    scores = {name: blobs[name].data.astype(float) for name in ("score_cls", "score_sr", "score_att")}

    def loss(scores):
        terms = JOINT_LOSS[variant](*scores.values())
        return sum((np.logaddexp(0, y) - label * y).sum() / batch for y in terms)  # sum over labels, mean over images

    outputs = [float(blobs[name].data) for name in solver.net.outputs]
    assert sum(outputs) == pytest.approx(loss(scores), rel=1e-5)
    assert len(outputs) == len(JOINT_LOSS[variant](0, 0, 0))
    for name, values in scores.items():
        slopes = np.zeros_like(values)
        for position in np.ndindex(values.shape):
            sides = []
            for change in (1e-4, -1e-4):
                moved = values.copy()
                moved[position] += change
                sides.append(loss(scores | {name: moved}))
            slopes[position] = (sides[0] - sides[1]) / 2e-4
        assert np.abs(slopes).max() > 0.01
        np.testing.assert_allclose(blobs[name].diff, slopes, atol=2e-6, err_msg=name)


def test_the_confidence_branch_reads_the_blocks_or_the_features():
    for sees, bottom in ((True, "att_conf_res2_relu"), (False, "res4a_relu")):
        heads = replace(RECIPES["shapes"].heads, variant="released", confidence_sees_blocks=sees)
        net = stages.deploy_net("resnet14_preact", 16, heads)
        prototxt.check_net(net)
        bottoms = {layer.name: list(layer.bottom) for layer in net.layer}
        assert bottoms["conf_conv1"] == [bottom]
        assert bottoms["att_conv1"] == ["att_conf_res2_relu" if sees else "att_res2_relu"]
        assert bottoms["att_conf_input_bn" if sees else "att_input_bn"] == ["res4a_relu"]
