"""The files that a recipe's nets and solvers are generated to, and keeping the checked-in ones equal.

`tools/make_prototxt.py` is the command line of this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from google.protobuf.message import Message

from pysrn.nets.messages import NetParameter, SolverParameter
from pysrn.nets.portable import as_portable_as_can_be
from pysrn.nets.prototxt import check_net, read_message, write_message
from pysrn.nets.solvers import stage_solver
from pysrn.recipes import EMBEDDED, PLATEAU, Recipe
from pysrn.systems.deploy_files import DEPLOY, words_on
from pysrn.systems.stage_nets import DataSource, recipe_deploy_net, stage_net, stock_stage_net
from pysrn.systems.system import Architecture, System

Files = dict[Path, tuple[Message, str]]  # path -> message, and the words at its head
MODES = {"cpu": SolverParameter.CPU, "gpu": SolverParameter.GPU}  # of the solvers for plain `caffe train`
READ_BY_PEOPLE = "coco"  # checked in beside the embedded data set: the others differ from it in counts only


def recipes_of(system: System, datasets: Iterable[str]) -> list[Recipe]:
    """The recipes of the named data sets, each in every variant."""
    return [system.recipe(dataset, variant) for dataset in datasets for variant in system.variants]


def checked_in(system: System) -> list[str]:
    """The data sets whose files are kept in the repository."""
    return [name for name in (EMBEDDED, READ_BY_PEOPLE) if name in system.recipes]


def folder_name(recipe: Recipe) -> str:
    """`<system>/<dataset>`; of another variant than the default `<system>/<dataset>_<variant>`."""
    return f"{recipe.system.name}/{run_name(recipe)}"


def run_name(recipe: Recipe) -> str:
    """`<dataset>`, of another variant than the default `<dataset>_<variant>`."""
    variant = recipe.system.variant_of(recipe)
    return recipe.dataset.name + ("" if variant == next(iter(recipe.system.variants)) else f"_{variant}")


def generated_files(recipe: Recipe, root: Path) -> Files:
    """All nets and solvers of a recipe by the path they have below `root`: the stages and deploy."""
    folder = root / folder_name(recipe)
    source = DataSource(folder=f"data/{recipe.dataset.name}")
    files: Files = {}
    for number in recipe.stage_numbers:
        stage = recipe.system.stage(number)
        net_path = folder / f"stage{number}_{stage.name}.prototxt"
        files[net_path] = stage_net(recipe, number, source), ""
        prefix = f"runs/{run_name(recipe)}/stage{number}/snapshot"
        files[folder / f"stage{number}_solver.prototxt"] = stage_solver(recipe, number, net_path.as_posix(), prefix), ""
    deploy = as_portable_as_can_be(recipe_deploy_net(recipe))
    files[folder / DEPLOY] = deploy, words_on(Architecture.of(recipe), deploy)
    for message, _ in files.values():
        if isinstance(message, NetParameter):
            check_net(message)
    return files


def write_all(system: System, root: Path, datasets: list[str], stock: bool = False) -> list[Path]:
    """Write the generated files of the named data sets below `root`; returns their paths."""
    written = []
    for recipe in recipes_of(system, datasets):
        written += write_stock(recipe, root) if stock else _write(generated_files(recipe, root))
    return written


def write_stock(recipe: Recipe, root: Path, data: str | None = None) -> list[Path]:
    """Write what plain `caffe train` needs, for the LMDB pair `data`; not checked in. Returns the paths."""
    return _write(stock_files(recipe, root / folder_name(recipe) / "stock", data or f"data/{recipe.dataset.name}"))


def _write(files: Files) -> list[Path]:
    for path, (message, words) in files.items():
        write_message(message, path, words)
    return list(files)


def stale_files(system: System, root: Path, datasets: list[str]) -> list[str]:
    """What below `root` differs from the generator: one line a file that is missing, different or not ours."""
    lines = []
    for recipe in recipes_of(system, datasets):
        expected = generated_files(recipe, root)
        for path, (message, _) in expected.items():
            if not path.is_file():
                lines.append(f"{path}: missing")
            elif read_message(path, type(message)) != message:
                lines.append(f"{path}: differs from the generator")
        present = set((root / folder_name(recipe)).glob("*.prototxt"))
        lines.extend(f"{path}: not made by the generator" for path in sorted(present - set(expected)))
    return lines


def stock_files(recipe: Recipe, folder: Path, data: str) -> Files:
    """All stages for plain `caffe train`: nets with stock `Data` layers that read the pair `data`, solvers by device.

    A stage of ours ends in weights with everything learned so far. Caffe's snapshot holds the layers of its own net
    only. So a stage starts from the last snapshots of all stages before it, which `caffe train -weights A,B,C` takes
    one after the other. What is fixed is the same in each of them.
    """
    files: Files = {}
    for number in recipe.stage_numbers:
        net = folder / f"stage{number}_{recipe.system.stage(number).name}.prototxt"
        files[net] = stock_stage_net(recipe, number, data), ""
        for mode, value in MODES.items():
            solver = stage_solver(recipe, number, net.as_posix(), _prefix(recipe, number, folder))
            solver.solver_mode = value
            path = folder / f"stage{number}_solver_{mode}.prototxt"
            files[path] = solver, _words(recipe, number, folder, path)
    return files


def last_snapshot(recipe: Recipe, stage: int, folder: Path) -> str:
    """What Caffe writes at the end of a stage."""
    return f"{_prefix(recipe, stage, folder)}_iter_{recipe.iterations(stage)}.caffemodel"


def _prefix(recipe: Recipe, stage: int, folder: Path) -> str:
    """Of the snapshots: beside the nets, because Caffe makes no folder."""
    return (folder / f"stage{stage}_{recipe.system.stage(stage).name}").as_posix()


def _words(recipe: Recipe, stage: int, folder: Path, solver: Path) -> str:
    """The command, what it starts from, and what is otherwise than with tools/run_stage.py."""
    earlier = [number for number in recipe.stage_numbers if number < stage]
    weights = ",".join(last_snapshot(recipe, before, folder) for before in earlier)
    if not earlier and recipe.system.leaves and not recipe.stages[stage - 1].train_bn:
        weights = "IMAGENET.caffemodel"  # its statistics are kept: from scratch there would be none
    given = f" \\\n      -weights {weights}" if weights else ""
    words = f"Stage {stage} ({recipe.system.stage(stage).name}) by plain Caffe, where these paths start from:\n"
    words += f"  caffe train -solver {solver.as_posix()}{given}\n"
    if earlier:
        words += "It needs the snapshots of all stages before it: each holds the layers of its own net only.\n"
    if recipe.stages[stage - 1].schedule == PLATEAU:
        words += "Caffe knows no plateau: the rate stays, and max_iter is the upper bound.\n"
    return words + "Images are cropped at random places, in one scale, in the order of the LMDB. Nothing is held out.\n"
