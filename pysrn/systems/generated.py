"""The files that a recipe's nets and solvers are generated to, and keeping the checked-in ones equal.

`tools/make_prototxt.py` is the command line of this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from google.protobuf.message import Message

from pysrn.nets.messages import NetParameter
from pysrn.nets.prototxt import check_net, read_message, write_message
from pysrn.nets.solvers import stage_solver
from pysrn.recipes import EMBEDDED, Recipe
from pysrn.systems.stage_nets import DataSource, recipe_deploy_net, stage_net, stock_stage_net
from pysrn.systems.system import System

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


def generated_files(recipe: Recipe, root: Path) -> dict[Path, Message]:
    """All nets and solvers of a recipe by the path they have below `root`: the stages and deploy."""
    folder = root / folder_name(recipe)
    source = DataSource(folder=f"data/{recipe.dataset.name}")
    files: dict[Path, Message] = {}
    for number in recipe.stage_numbers:
        stage = recipe.system.stage(number)
        net_path = folder / f"stage{number}_{stage.name}.prototxt"
        files[net_path] = stage_net(recipe, number, source)
        prefix = f"runs/{run_name(recipe)}/stage{number}/snapshot"
        files[folder / f"stage{number}_solver.prototxt"] = stage_solver(recipe, number, net_path.as_posix(), prefix)
    files[folder / "deploy.prototxt"] = recipe_deploy_net(recipe)
    for message in files.values():
        if isinstance(message, NetParameter):
            check_net(message)
    return files


def stock_files(recipe: Recipe, root: Path) -> dict[Path, Message]:
    """The stage nets with stock `Data` layers, by path; not checked in."""
    folder, data = root / folder_name(recipe) / "stock", f"data/{recipe.dataset.name}"
    return {
        folder / f"stage{number}_{recipe.system.stage(number).name}.prototxt": stock_stage_net(recipe, number, data)
        for number in recipe.stage_numbers
    }


def write_all(system: System, root: Path, datasets: list[str], stock: bool = False) -> list[Path]:
    """Write the generated files of the named data sets below `root`; returns their paths."""
    written = []
    make = stock_files if stock else generated_files
    for recipe in recipes_of(system, datasets):
        for path, message in make(recipe, root).items():
            write_message(message, path)
            written.append(path)
    return written


def stale_files(system: System, root: Path, datasets: list[str]) -> list[str]:
    """What below `root` differs from the generator: one line a file that is missing, different or not ours."""
    lines = []
    for recipe in recipes_of(system, datasets):
        expected = generated_files(recipe, root)
        for path, message in expected.items():
            if not path.is_file():
                lines.append(f"{path}: missing")
            elif read_message(path, type(message)) != message:
                lines.append(f"{path}: differs from the generator")
        present = set((root / folder_name(recipe)).glob("*.prototxt"))
        lines.extend(f"{path}: not made by the generator" for path in sorted(present - set(expected)))
    return lines
