"""The files that a recipe's nets and solvers are generated to, and keeping the checked-in ones equal.

`tools/make_prototxt.py` is the command line of this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from google.protobuf.message import Message

from pysrn.nets.messages import NetParameter
from pysrn.nets.portable import as_portable_as_can_be
from pysrn.nets.prototxt import check_net, read_message, write_message
from pysrn.nets.solvers import stage_solver
from pysrn.recipes import EMBEDDED, Recipe
from pysrn.systems.deploy_files import DEPLOY, words_on
from pysrn.systems.stage_nets import DataSource, recipe_deploy_net, stage_net
from pysrn.systems.stock import stock_files
from pysrn.systems.system import Architecture, System

Files = dict[Path, tuple[Message, str]]  # path -> message, and the words at its head
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
