"""Writes what the process that trains a stage reads: its net, the net's twin for validation, its solver, job.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from caffe.proto import caffe_pb2

from pysrn.console import UsageError, existing_file
from pysrn.nets import prototxt
from pysrn.nets.solvers import stage_solver
from pysrn.recipes import Recipe
from pysrn.systems.srn import nets as stages
from pysrn.train.fixed.feature_room import STAGES_IN_PARTS, Caching
from pysrn.train.fixed.net_in_parts import NetInParts
from pysrn.train.launch import PLAIN, Launch
from pysrn.train.run_folder import NET, SOLVER, VALIDATION_NET, WHOLE_NET, RunFolder
from pysrn.train.settings import Settings
from pysrn.train.stage import snapshots, validation
from pysrn.train.stage.first_weights import RELEASE_CLASSIFIER
from pysrn.train.stage.job import Job
from pysrn.train.stage.schedule import rules_of


@dataclass(frozen=True)
class Device:
    """Where and how a stage runs; changes no result but for rounding."""

    gpus: tuple[int, ...] = ()  # of each machine, shared out among its ranks; empty: CPU
    workers: int = 1
    snapshot_every: int = 200
    keep: int = 2  # newest snapshots that stay on disk, besides the best
    tensorboard: bool = False
    launch: Launch = PLAIN
    whole_net: bool = False  # train stages 2 and 3 as their checked-in nets are: in one piece, nothing folded
    caching: Caching | None = None  # of the trunk's features in stages 2 and 3

    def __post_init__(self) -> None:
        """Raises UsageError for devices that no rank would use, and a cache for a net that computes all itself."""
        if self.whole_net and self.caching:
            raise UsageError("--whole-net computes the trunk in every iteration: it has no use for --cache-features")
        if len(self.gpus) > self.launch.ranks:
            raise UsageError(
                f"--gpu names {len(self.gpus)} devices, but --ranks is {self.launch.ranks}",
                f"give --ranks {len(self.gpus)}, or fewer devices",
            )


def prepare(run: RunFolder, settings: Settings, number: int, first: int, device: Device) -> None:
    """Write a stage's folder for the process that trains it from iteration `first` on."""
    folder, recipe = run.stage(number), settings.recipe
    folder.mkdir(parents=True, exist_ok=True)
    source = source_weights(run, settings, number)
    data = stages.DataSource(
        settings.data, first_sample=first * recipe.batch_size * recipe.iter_size, workers=device.workers
    )
    net = training_net(recipe, number, data)
    prototxt.check_net(net)
    whole_names, new = stages.parameter_layers(net), sorted(stages.new_layers(net, number))
    rules, twin, parts = rules_of(recipe, number), None, None
    if rules.validate_every is not None:
        done = snapshots.read_schedule(folder, first)["validations"] if first else 0
        twin = validation.validation_net(net, validation.validation_records(recipe), done)
    (folder / WHOLE_NET).unlink(missing_ok=True)  # says later in which form the stage was begun
    if number in STAGES_IN_PARTS and not device.whole_net:
        parts = NetInParts(run, recipe, number, source, net)
        how = device.caching, bool(device.gpus)
        net, twin = parts.prepare(net, *how), twin and parts.prepare(twin, *how)
    prototxt.write_message(net, folder / NET)
    if twin:
        prototxt.write_message(twin, folder / VALIDATION_NET)
    solver = stage_solver(recipe, number, str(folder / NET), str(snapshots.partial_prefix(folder)))
    solver.display = 0  # log.csv has every iteration
    solver.solver_mode = caffe_pb2.SolverParameter.GPU if device.gpus else caffe_pb2.SolverParameter.CPU
    prototxt.write_message(solver, folder / SOLVER)
    whole = stages.parameter_layers(stages.recipe_deploy_net(recipe))
    Job(
        source=None if source is None else str(source),
        may_initialise=new,
        may_leave=[RELEASE_CLASSIFIER] if number == 1 else sorted(set(whole) - set(whole_names)),
        carry=number > 1,
        fixed=parts.fixed_names if parts else [],
        whole_net=str(parts.whole_path) if parts else None,
        losses=[stages.loss_name(score) for score in stages.stage_losses(recipe, number)],
        resume_from=first or None,
        snapshot_every=device.snapshot_every,
        keep=device.keep,
        gpus=list(device.gpus),
        ranks=device.launch.ranks,
        schedule=asdict(rules),
        base_lr=recipe.stages[number - 1].base_lr,
        validation_images=recipe.validation_images,
        tensorboard=device.tensorboard,
    ).write(folder)


def training_net(recipe: Recipe, stage: int, data: stages.DataSource) -> caffe_pb2.NetParameter:
    """The stage's net, reading only what is not held out for validation."""
    net = stages.stage_net(recipe, stage, data)
    if recipe.validation_images:
        validation.hold_out(net, validation.training_records(recipe))
    return net


def source_weights(run: RunFolder, settings: Settings, stage: int) -> Path | None:
    """The weights that a stage starts from; None: from scratch."""
    if stage > 1:
        return run.weights(stage - 1)
    return None if settings.weights is None else existing_file(settings.weights, "ImageNet weights")


def stage_line(recipe: Recipe, stage: int, ranks: int = 1) -> str:
    """What a stage trains with, in one line."""
    plan = recipe.stages[stage - 1]
    drops = ", ".join(f"{round(fraction * recipe.iterations(stage))}" for fraction in plan.drops)
    if plan.schedule == "plateau":
        rate = f"lr {plan.base_lr:g}, x {plan.gamma:g} after {plan.patience} validations without a new best "
        rate += f"(every {plan.validate_every} iterations), down to {plan.min_lr:g}"
    else:
        rate = f"lr {plan.base_lr:g}, x {plan.gamma:g} at {drops or 'no iteration'}"
    own = recipe.batch_size // ranks
    batch = f"batch {own} x {recipe.iter_size} x {ranks} = {recipe.batch_size * recipe.iter_size}"
    images = f"{validation.training_records(recipe)[1]} images, {recipe.validation_images} for validation"
    return f"  {recipe.trunk}, variant {recipe.variant}, {batch} (of a rank x iter size x ranks), {rate}, {images}"
