"""One stage of one run: all that is known of it before it is trained, and the folder that its process starts from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from pysrn.console import existing_file
from pysrn.data.pair.manifest import read_manifest
from pysrn.nets import messages, prototxt
from pysrn.nets.folding import Weights
from pysrn.nets.in_caffe import loadable
from pysrn.nets.layers import give_blobs, parameter_layers
from pysrn.nets.losses import loss_tops
from pysrn.nets.portable import say_global
from pysrn.nets.solvers import stage_solver
from pysrn.precision import precision_in_use
from pysrn.recipes import PLATEAU, Recipe, StageSpec
from pysrn.systems.stage_nets import DataSource, new_layers, recipe_deploy_net, stage_net
from pysrn.systems.system import Stage
from pysrn.train.fixed.settings import change_feed
from pysrn.train.fixed.split_net import WHOLE_NET, SplitNet
from pysrn.train.launch import Machine
from pysrn.train.run_folder import RunFolder
from pysrn.train.settings import Settings
from pysrn.train.stage import snapshots, validation
from pysrn.train.stage.files import NET, SOLVER, VALIDATION_NET
from pysrn.train.stage.job import Job
from pysrn.train.stage.schedule import Rules, rules_of


@dataclass(frozen=True)
class PreparedStage:
    """A stage of `run`, trained as `settings` say."""

    run: RunFolder
    settings: Settings
    number: int

    @property
    def recipe(self) -> Recipe:
        """The run's recipe."""
        return self.settings.recipe

    @property
    def stage(self) -> Stage:
        """What the system says of it."""
        return self.recipe.system.stage(self.number)

    @property
    def plan(self) -> StageSpec:
        """Its numbers."""
        return self.recipe.stages[self.number - 1]

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.run.stage(self.number)

    @property
    def iterations(self) -> int:
        """Solver iterations, at most."""
        return self.recipe.iterations(self.number)

    @property
    def title(self) -> str:
        """For people."""
        return f"stage {self.number} ({self.stage.name})"

    @property
    def is_first(self) -> bool:
        """Whether it starts from first weights, or from scratch."""
        return self.number == self.recipe.stage_numbers[0]

    @property
    def source(self) -> Path | None:
        """The weights that it starts from; None: from scratch. MissingError where first weights are not there."""
        if not self.is_first:
            return self.run.weights(max(n for n in self.recipe.stage_numbers if n < self.number))
        return None if self.settings.weights is None else existing_file(self.settings.weights, "first weights")

    @cached_property
    def rules(self) -> Rules:
        """When it is validated, and what that does."""
        return rules_of(self.recipe, self.number)

    @cached_property
    def constants(self) -> Weights:
        """Blobs of its layers that no training changes, from its data."""
        return self.recipe.system.constants(self.recipe, Path(self.settings.data))

    def net(self, data: DataSource) -> messages.NetParameter:
        """Its whole net, reading only what is not held out for validation."""
        net = stage_net(self.recipe, self.number, data)
        give_blobs(net, self.constants)
        if self.recipe.validation_images:
            change_feed(net, records=self.recipe.training_records)
        return net

    @cached_property
    def digest(self) -> str:
        """A hash of everything that decides its result, apart from its starting weights; and of the net's name.

        The data counts by what its manifest says it was made from, not by the folder's name.
        """
        return self._hash(self.net(DataSource("", workers=0)))

    @cached_property
    def training(self) -> str:
        """The digest without what says whose the net is: alike where two systems train the same."""
        net = self.net(DataSource("", workers=0))
        net.ClearField("name")
        say_global(net, {"data": (1, 3, self.recipe.input.size, self.recipe.input.size)})
        return self._hash(net)

    def _hash(self, net: messages.NetParameter) -> str:
        solver = stage_solver(self.recipe, self.number, "", "")
        manifest = read_manifest(Path(self.settings.data)) or {}
        parts = {"seed": manifest.get("seed"), "train": manifest.get("splits", {}).get("train")}
        if self.rules.kind == PLATEAU or self.rules.best:  # otherwise validation changes nothing
            parts["schedule"] = self.rules.identity()
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
        for part in (net, solver):
            digest.update(part.SerializeToString(deterministic=True))
        return digest.hexdigest()

    def line(self, ranks: int = 1) -> str:
        """What it trains with, in one line."""
        plan, recipe = self.plan, self.recipe
        drops = ", ".join(f"{round(fraction * self.iterations)}" for fraction in plan.drops)
        if plan.schedule == PLATEAU:
            rate = f"lr {plan.base_lr:g}, x {plan.gamma:g} after {plan.patience} validations without a new best "
            rate += f"(every {recipe.validate_every(self.number)} iterations), down to {plan.min_lr:g}"
        else:
            rate = f"lr {plan.base_lr:g}, x {plan.gamma:g} at {drops or 'no iteration'}"
        rate += ", ends with its best weights" if self.rules.best else ""
        own = recipe.batch_size // ranks
        batch = f"batch {own} x {recipe.iter_size} x {ranks} = {recipe.batch_size * recipe.iter_size}"
        images = f"{recipe.training_records[1]} images, {recipe.validation_images} for validation"
        which = ", ".join(filter(None, (recipe.trunk, recipe.system.words_of(recipe))))
        return f"  {which}, {batch} (of a rank x iter size x ranks), {rate}, {images}"


def stages_of(run: RunFolder, settings: Settings, last: int | None = None) -> list[PreparedStage]:
    """The stages 1 to `last` (None: all) of a run."""
    numbers = settings.recipe.stage_numbers
    return [PreparedStage(run, settings, number) for number in numbers if number <= (last or number)]


def prepare(stage: PreparedStage, first: int, machine: Machine) -> None:
    """Write what the process reads that trains a stage from iteration `first` on: nets, solver, job.json."""
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
    if recipe.trunk_is_fixed(stage.number) and not machine.whole_net:
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
        precision=precision_in_use(),
    ).write(folder)
