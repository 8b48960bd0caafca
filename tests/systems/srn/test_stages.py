"""What each stage net holds, learns and is trained with; the checked-in prototxt; the solvers."""

from pathlib import Path

import pytest
from caffe.proto import caffe_pb2

from pysrn.console import SrnError
from pysrn.nets import prototxt
from pysrn.nets.solvers import stage_solver
from pysrn.recipes import DATASETS, StageSpec
from pysrn.systems.srn.heads import VARIANTS
from tests.srn import NEW_PREFIXES, RECIPES, replace, stages
from tools import make_prototxt

ROOT = Path(__file__).resolve().parents[3]
SMALL = replace(RECIPES["shapes"], batch_size=2)
SOURCE = stages.DataSource("somewhere")


def names(net, prefix=""):
    return {layer.name for layer in net.layer if layer.name.startswith(prefix)}


def with_dummy_data(net: caffe_pb2.NetParameter, classes: int) -> caffe_pb2.NetParameter:
    """The net with its data layer replaced by Gaussian images and labels from 0 to 1, to run it alone."""
    data = net.layer[0]
    batch = 2
    data.Clear()
    data.name, data.type = "data", "DummyData"
    data.top.extend(["data", "label"])
    for shape in ((batch, 3, 224, 224), (batch, classes)):
        data.dummy_data_param.shape.add(dim=shape)
    data.dummy_data_param.data_filler.add(type="gaussian", std=50)
    data.dummy_data_param.data_filler.add(type="uniform", min=0, max=1)
    return net


def learnable(net):
    return {layer.name for layer in net.layer if any(p.lr_mult for p in layer.param)}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dataset", sorted(RECIPES.keys() & DATASETS.keys()))
def test_each_stage_holds_only_what_it_needs(dataset, variant):
    recipe = replace(RECIPES[dataset], variant=variant)
    nets = {stage: stages.stage_net(recipe, stage, SOURCE) for stage in (1, 2, 3, 4)}
    assert not names(nets[1], ("att_", "conf_", "sr_"))
    for stage in (2, 3):
        assert not names(nets[stage], ("res5", "bn5", "pool5", "cls_"))
    assert not names(nets[2], "sr_") and names(nets[2], "score_att")
    assert names(nets[3], "sr_") and not names(nets[3], "score_att")
    losses = {"loss_cls", "loss_att", "loss_sr"}
    assert names(nets[4]) >= (names(nets[1]) | names(nets[2]) | names(nets[3])) - losses


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dataset", sorted(RECIPES.keys() & DATASETS.keys()))
def test_each_stage_learns_what_it_should(dataset, variant):
    recipe = replace(RECIPES[dataset], variant=variant)
    deploy = stages.recipe_deploy_net(recipe)
    whole = set(stages.parameter_layers(deploy))
    statistics = {layer.name for layer in deploy.layer if layer.type == "BatchNorm"}
    learners = whole - statistics
    heads = {
        prefix: {name for name in learners if name.startswith(prefix)} for prefix in ("cls_", "att_", "conf_", "sr_")
    }
    trunk = learners - set().union(*heads.values())
    expected = {
        1: trunk | heads["cls_"],
        2: heads["att_"] | heads["conf_"],
        3: heads["sr_"],
        4: learners,
    }
    for stage, layers in expected.items():
        net = stages.stage_net(recipe, stage, SOURCE)
        assert learnable(net) == layers
        assert stages.fixed_layers(net).isdisjoint(learnable(net))
        if stage in (2, 3):  # statistics of fixed layers would move with lr_mult 0 alone
            prefixes = NEW_PREFIXES[stage]
            moving = {name for name in statistics if name.startswith(prefixes)}
            assert stages.fixed_layers(net) == set(stages.parameter_layers(net)) - layers - moving
            stored = {x.name: x.batch_norm_param.use_global_stats for x in net.layer if x.type == "BatchNorm"}
            assert stored == {name: not name.startswith(prefixes) for name in stored}


def test_statistics_follow_the_batch_only_where_the_stage_says_so():
    for train_bn in (False, True):
        recipe = replace(SMALL, stages=(StageSpec(1, train_bn=train_bn), *SMALL.stages[1:]))
        net = stages.stage_net(recipe, 1, SOURCE)
        stored = {x.batch_norm_param.use_global_stats for x in net.layer if x.type == "BatchNorm"}
        assert stored == {not train_bn}
        moving = {x.name for x in net.layer if x.type == "BatchNorm"}
        assert (stages.fixed_layers(net) == set()) if train_bn else (stages.fixed_layers(net) == moving)


@pytest.mark.parametrize("train_bn", [False, True])
def test_joint_stage_has_one_policy_for_trunk_and_heads(train_bn):
    recipe = replace(SMALL, variant="released", stages=(*SMALL.stages[:3], StageSpec(1, train_bn=train_bn)))
    net = stages.stage_net(recipe, 4, SOURCE)
    stored = {x.name: x.batch_norm_param.use_global_stats for x in net.layer if x.type == "BatchNorm"}
    assert set(stored.values()) == {not train_bn} and {"bn4a", "att_conv1_bn", "sr_conv4_bn"} <= set(stored)
    assert stages.fixed_layers(net) == (set() if train_bn else set(stored))


def test_checked_in_prototxt_equal_the_generator(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert make_prototxt.main(["--check"]) == 0
    assert make_prototxt.main(["--out", str(tmp_path), "shapes"]) == 0
    assert make_prototxt.main(["--check", "--out", str(tmp_path), "shapes"]) == 0
    (tmp_path / "srn/shapes" / "stray.prototxt").write_text("")
    deploy = tmp_path / "srn/shapes" / "deploy.prototxt"
    deploy.write_text(deploy.read_text().replace("num_output: 16", "num_output: 17"))
    (tmp_path / "srn/shapes" / "stage1_solver.prototxt").unlink()
    capsys.readouterr()
    assert make_prototxt.main(["--check", "--out", str(tmp_path), "shapes"]) == 4
    said = capsys.readouterr().err
    assert "deploy.prototxt: differs" in said and "stage1_solver.prototxt: missing" in said and "stray" in said


def test_net_check_names_what_is_wrong():
    net = stages.recipe_deploy_net(SMALL)
    net.layer[3].bottom[0] = "nowhere"
    with pytest.raises(SrnError, match="reads nowhere"):
        prototxt.check_net(net)
    net = stages.recipe_deploy_net(SMALL)
    net.layer[4].name = net.layer[3].name
    with pytest.raises(SrnError, match="two layers are named"):
        prototxt.check_net(net)


def test_damaged_prototxt_is_refused_by_name(tmp_path):
    path = tmp_path / "bad.prototxt"
    path.write_text("layer { nonsense: 1 }")
    with pytest.raises(SrnError, match="bad.prototxt is not a NetParameter"):
        prototxt.read_message(path, caffe_pb2.NetParameter)


def test_solver_follows_the_recipe():
    recipe = RECIPES["coco"]
    solver = stage_solver(recipe, 1, "net", "prefix")
    iterations = -(-30 * (82_783 - 4_139) // 96)  # 30 epochs of the 95 % that train, in batches of 96
    assert solver.max_iter == iterations == recipe.iterations(1)
    assert (solver.base_lr, solver.momentum) == (pytest.approx(1e-3), pytest.approx(0.9))
    assert solver.lr_policy == "fixed" and not solver.stepvalue  # a plateau is seen outside of Caffe
    drops = replace(recipe, stages=(replace(recipe.stages[0], schedule="multistep"), *recipe.stages[1:]))
    solver = stage_solver(drops, 1, "net", "prefix")
    assert solver.lr_policy == "multistep"
    assert list(solver.stepvalue) == [round(iterations / 2), round(iterations * 0.8)]
    counted = replace(recipe, stages=(replace(recipe.stages[0], iterations=7), *recipe.stages[1:]))
    assert stage_solver(counted, 1, "net", "prefix").max_iter == 7


def test_recipes_of_the_paper_train_as_stated():
    for name in ("coco", "nus_wide", "wider_attribute", "voc2007"):
        recipe = RECIPES[name]
        assert recipe.batch_size * recipe.iter_size == 96 and recipe.weight_decay == 5e-4
        assert 0 < recipe.validation_images < 0.1 * recipe.dataset.train_images
        for plan in recipe.stages:
            assert (plan.schedule, plan.base_lr, plan.gamma, plan.min_lr) == ("plateau", 1e-3, 0.1, 1e-5)
            epoch = (recipe.dataset.train_images - recipe.validation_images) / 96
            assert plan.validate_every == pytest.approx(epoch, rel=0.05)
    shapes = RECIPES["shapes"]
    assert {plan.schedule for plan in shapes.stages} == {"multistep"} and shapes.validation_images == 0
