"""The validation loss: which images, seen how, with which weights; and that asking for it changes nothing."""

from dataclasses import replace

import caffe
import numpy as np
import pytest

from pysrn.console import UsageError
from pysrn.data.feed.prefetch import Feeder
from pysrn.nets import messages, prototxt
from pysrn.train.fixed.settings import change_feed
from pysrn.train.stage import validation
from tests.srn import RECIPES, stages
from tests.srn import feed as feed_of

IMAGES = 12  # of 48: two whole batches of five, and two images of a third


@pytest.fixture(scope="module")
def recipe(small_data):
    shapes = RECIPES["shapes"]
    dataset = replace(shapes.dataset, train_images=48)
    return replace(shapes, dataset=dataset, batch_size=5, validation_fraction=IMAGES / 48)


@pytest.fixture
def trained(recipe, small_data, tmp_path):
    """A stage 1 net after two steps from scratch, its message, and what writes its twin."""
    message = stages.stage_net(recipe, 1, stages.DataSource(str(small_data), workers=0))
    change_feed(message, records=recipe.training_records)
    prototxt.write_message(message, tmp_path / "net.prototxt")
    solver = messages.SolverParameter(
        net=str(tmp_path / "net.prototxt"), base_lr=1e-3, lr_policy="fixed", random_seed=1, max_iter=9
    )
    solver.solver_mode = messages.SolverParameter.CPU
    prototxt.write_message(solver, tmp_path / "solver.prototxt")
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    solver.step(2)

    def twin(done=0):
        net = validation.validation_net(message, recipe.validation_records, done)
        prototxt.write_message(net, tmp_path / "validation.prototxt")
        return validation.Validation(tmp_path / "validation.prototxt", solver.net, IMAGES)

    return solver.net, message, twin


def never():
    return False


def test_loss_is_caffes_own_over_exactly_the_images_held_out(recipe, trained, small_data, tmp_path):
    net, message, twin = trained
    loss = twin().loss(never)
    feed = feed_of(small_data, "train", IMAGES, train=False, records=(36, 48), workers=0)
    data, label = Feeder(feed).next_batch()
    reference = messages.NetParameter()
    reference.CopyFrom(message)
    del reference.layer[0]
    for layer in reference.layer:
        if layer.type == "BatchNorm":
            layer.batch_norm_param.ClearField("use_global_stats")  # Caffe's TEST phase takes the stored ones
    for top, values in (("data", data), ("label", label)):
        reference.input.append(top)
        reference.input_shape.add(dim=values.shape)
    prototxt.write_message(reference, tmp_path / "reference.prototxt")
    other = caffe.Net(str(tmp_path / "reference.prototxt"), caffe.TEST)
    other.share_with(net)
    other.blobs["data"].data[...], other.blobs["label"].data[...] = data, label
    expected = float(other.forward()["loss_cls"])
    assert loss == pytest.approx(expected, rel=1e-5)


def test_validation_moves_no_bit_of_the_trained_net(trained):
    net, _, twin = trained
    before = {name: [blob.data.tobytes() for blob in blobs] for name, blobs in net.params.items()}
    twin().loss(never)
    assert before == {name: [blob.data.tobytes() for blob in blobs] for name, blobs in net.params.items()}


def test_a_resumed_validation_has_the_same_images_in_the_same_rows(trained):
    """The third batch of five goes around, so the second validation begins with another image than the first."""
    _, _, twin = trained
    first, figures, last_batches = twin(), [], []
    for _ in range(3):
        figures.append(first.loss(never))
        last_batches.append(first._net.blobs["data"].data.tobytes())
    assert len(set(last_batches)) == 3
    for done in (1, 2):
        resumed = twin(done)
        assert resumed.loss(never) == figures[done]
        assert resumed._net.blobs["data"].data.tobytes() == last_batches[done]
    np.testing.assert_allclose(figures, figures[0], rtol=1e-5)  # the same weights and images


def test_validation_stops_when_asked(trained):
    assert trained[2]().loss(lambda: True) is None


def test_several_losses_are_summed(recipe, small_data, tmp_path):
    """Stage 4 has two or three; the twin's batch is as large as the part, so Caffe's own means are the reference."""
    recipe = replace(recipe, batch_size=IMAGES)
    message = stages.stage_net(recipe, 4, stages.DataSource(str(small_data), workers=0))
    twin = validation.validation_net(message, recipe.validation_records)
    for layer in twin.layer:
        if layer.type == "BatchNorm":  # untrained: nothing is stored yet
            layer.batch_norm_param.use_global_stats = False
    prototxt.write_message(twin, tmp_path / "twin.prototxt")
    net = caffe.Net(str(tmp_path / "twin.prototxt"), caffe.TEST)
    loss = validation.Validation(tmp_path / "twin.prototxt", net, IMAGES).loss(never)
    net.forward()
    losses = [float(net.blobs[stages.loss_name(score)].data) for score in stages.stage_losses(recipe, 4)]
    assert len(losses) > 1 and loss == pytest.approx(sum(losses), rel=1e-4)


def test_parts_of_the_training_records(recipe):
    assert recipe.training_records == (0, 36) and recipe.validation_records == (36, 48)
    with pytest.raises(UsageError, match="leaves none of 48"):
        validation.check_parts(replace(recipe, validation_fraction=0.999))
    with pytest.raises(UsageError, match="of 48 is none"):
        validation.check_parts(replace(recipe, validation_fraction=0.001))
    plateau = tuple(replace(plan, schedule="plateau") for plan in recipe.stages)
    validation.check_parts(replace(recipe, stages=plateau))
    with pytest.raises(UsageError, match="of 48 is none"):
        validation.check_parts(replace(recipe, stages=plateau, validation_fraction=0.0))
