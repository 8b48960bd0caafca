"""The stages for plain `caffe train`: nets with stock `Data` layers, a solver for the CPU and one for the GPU.

A stage of ours ends in weights with everything learned so far. Caffe's snapshot holds the layers of its own net only.
So a stage starts from the last snapshots of all stages before it, which `caffe train -weights A,B,C` takes one after
the other. What is fixed is the same in each of them.
"""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import Message

from pysrn.nets.messages import SolverParameter
from pysrn.nets.solvers import stage_solver
from pysrn.recipes import PLATEAU, Recipe
from pysrn.systems.stage_nets import stock_stage_net

MODES = {"cpu": SolverParameter.CPU, "gpu": SolverParameter.GPU}


def stock_files(recipe: Recipe, folder: Path, data: str) -> dict[Path, tuple[Message, str]]:
    """Path -> message and the words at its head, of all stages; the nets read the LMDB pair `data`."""
    files: dict[Path, tuple[Message, str]] = {}
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
