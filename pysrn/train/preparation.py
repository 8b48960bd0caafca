"""Writes what the process that trains a stage reads: its net, the net's twin for validation, its solver, job.json."""

from __future__ import annotations

from dataclasses import asdict

from pysrn.nets import messages, prototxt
from pysrn.nets.in_caffe import loadable
from pysrn.nets.layers import parameter_layers
from pysrn.nets.losses import loss_tops
from pysrn.nets.solvers import stage_solver
from pysrn.systems.stage_nets import DataSource, new_layers, recipe_deploy_net, stage_net
from pysrn.train.fixed.split_net import WHOLE_NET, SplitNet
from pysrn.train.machine import Machine
from pysrn.train.prepared import PreparedStage
from pysrn.train.stage import snapshots, validation
from pysrn.train.stage.files import NET, SOLVER, VALIDATION_NET
from pysrn.train.stage.job import Job


def prepare(stage: PreparedStage, first: int, machine: Machine) -> None:
    """Write a stage's folder for the process that trains it from iteration `first` on."""
    folder, recipe, source = stage.folder, stage.recipe, stage.source
    folder.mkdir(parents=True, exist_ok=True)
    samples = first * recipe.batch_size * recipe.iter_size
    net = stage.net(DataSource(stage.settings.data, first_sample=samples, workers=machine.workers))
    prototxt.check_net(net)
    net = loadable(net)
    whole_names, new = parameter_layers(net), sorted(new_layers(net, recipe, stage.stage))
    losses = loss_tops(net)
    twin, parts = None, None
    if stage.rules.validate_every is not None:
        done = snapshots.read_schedule(folder, first)["validations"] if first else 0
        twin = validation.validation_net(net, recipe.validation_records, done)
    (folder / WHOLE_NET).unlink(missing_ok=True)  # says later in which form the stage was begun
    if stage.stage.fixed_trunk and not machine.whole_net:
        parts = SplitNet(folder, recipe, stage.number, source, net)
        place = machine.caching and machine.caching.place(stage.run.path)
        how = machine.caching and machine.caching.precision, place, bool(machine.gpus)
        net, twin = parts.prepare(net, *how), twin and parts.prepare(twin, *how)
    prototxt.write_message(net, folder / NET)
    if twin:
        prototxt.write_message(twin, folder / VALIDATION_NET)
    solver = stage_solver(recipe, stage.number, str(folder / NET), str(snapshots.partial_prefix(folder)))
    solver.display = 0  # log.csv has every iteration
    solver.solver_mode = messages.SolverParameter.GPU if machine.gpus else messages.SolverParameter.CPU
    prototxt.write_message(solver, folder / SOLVER)
    whole = parameter_layers(recipe_deploy_net(recipe))
    earlier = [stage_net(recipe, number, DataSource("")) for number in recipe.stage_numbers if number < stage.number]
    known = dict.fromkeys(name for one in earlier for name in parameter_layers(one))
    dropped = [name for name in known if recipe.system.part_of(name) in stage.stage.drops]
    dropped += recipe.system.leaves if stage.is_first else ()
    Job(
        source=None if source is None else str(source),
        may_initialise=new,
        may_leave=list(recipe.system.leaves) if stage.is_first else sorted({*whole, *dropped} - set(whole_names)),
        carry=not stage.is_first or parts is not None,
        dropped=dropped,
        fixed=parts.fixed_names if parts else [],
        whole_net=str(parts.whole_path) if parts else None,
        losses=losses,
        resume_from=first or None,
        snapshot_every=machine.snapshot_every,
        keep=machine.keep,
        gpus=list(machine.gpus),
        ranks=machine.launch.ranks,
        schedule=asdict(stage.rules),
        base_lr=stage.plan.base_lr,
        validation_images=recipe.validation_images,
        tensorboard=machine.tensorboard,
    ).write(folder)
