"""Trained weights: where a run keeps them, which run they are of, and which net they belong to.

The net is recognised by the names and shapes of the weights, so that a lone caffemodel is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pysrn.console import MissingError, SrnError, UsageError
from pysrn.nets.layers import batch_norm_names
from pysrn.recipes import STAGE_NAMES, TRUNKS, HeadSpec
from pysrn.systems.srn.heads import blocks_prefix
from pysrn.systems.trunks import resnet
from pysrn.train.run_folder import FEATURES, WEIGHTS, RunFolder
from pysrn.train.settings import Settings

Weights = Mapping[str, list[np.ndarray]]
RUNS = Path("runs")  # where tools/run_stage.py and tools/demo.py put theirs


@dataclass(frozen=True)
class Architecture:
    """What the weights say about their net."""

    trunk: str
    classes: int
    heads: HeadSpec


def find_weights(path: str | Path, stage: int | None = None) -> Path:
    """The caffemodel meant by `path`: a file, a stage's folder, or a run's folder (stage 4, or `stage`).

    Raises MissingError saying which stages are there, UsageError for a stage number that does not apply.
    """
    path = Path(path)
    if path.is_file():
        if stage is not None:
            raise UsageError(f"{path} is a file: a stage can be chosen in a run's folder only")
        return path
    if not path.is_dir():
        raise MissingError(f"weights not found: neither a file nor a folder {path}", f"tools/run_stage.py {stage or 4}")
    if stage is None and (path / WEIGHTS).is_file():
        return path / WEIGHTS
    run, stage = RunFolder(path), stage or max(STAGE_NAMES)
    if stage not in STAGE_NAMES:
        raise UsageError(f"no stage {stage}: stages are {', '.join(map(str, STAGE_NAMES))}")
    if not run.weights(stage).is_file():
        done = [str(number) for number in STAGE_NAMES if run.weights(number).is_file()]
        there = f"finished stages: {', '.join(done)}" if done else "no finished stage is there"
        raise MissingError(f"no file {run.weights(stage)}; {there}", f"tools/run_stage.py {stage}")
    return run.weights(stage)


def default_run(runs: Path = RUNS) -> Path:
    """The run meant when none is named: the one in `runs` that was finished last, else runs/shapes."""
    finished = runs.glob(f"*/stage{max(STAGE_NAMES)}/{WEIGHTS}")
    newest = max(finished, key=lambda path: path.stat().st_mtime_ns, default=None)
    return runs / "shapes" if newest is None else newest.parents[1]


def main_net_weights(weights: Path) -> Path:
    """Weights of the main net alone, stage 1 of the run that the caffemodel `weights` is of; else `weights`."""
    run = RunFolder(weights.parent.parent)
    first = run.weights(min(STAGE_NAMES))
    return first if run.read_settings() is not None and first.is_file() else weights


def features_of(weights: Path) -> Path:
    """The folder for trunk features of the run that the caffemodel `weights` is of; UsageError where it is of none."""
    run = RunFolder(weights.absolute().parent.parent)
    if run.read_settings() is None:
        raise UsageError(f"{weights} is of no run that could keep its features", "give --cache-folder FOLDER")
    return run.path / FEATURES


def settings_of(path: str | Path) -> Settings | None:
    """The settings of the run that a caffemodel, a stage's or a run's folder belongs to, or None."""
    path = Path(path).absolute()
    for folder in (path, *path.parents[:2]):
        if folder.is_dir() and (settings := RunFolder(folder).read_settings()) is not None:
            return settings
    return None


def architecture_of(weights: Weights, source: str | Path) -> Architecture:
    """Recognise the net by names and shapes of its weights; SrnError where they are of another net."""
    preact = batch_norm_names("pool1")[0] in weights
    blocks = {name.split("_branch")[0] for name in weights if name.startswith("res") and "_branch" in name}
    for spec in TRUNKS.values():
        names = [name for stage in resnet.STAGES for name in resnet.block_names(spec, stage)]
        to_features = {name for name in names if int(name[3]) <= resnet.FEATURE_STAGE}
        same = spec.preact == preact and _width(weights, "conv1") == spec.width
        same = same and len(weights["conv1"]) == 1 + spec.conv1_bias  # the release, or v1.5 (TrunkSpec.conv1_bias)
        if same and to_features <= blocks <= set(names):
            break
    else:
        few = ", ".join(list(weights)[:3])
        raise SrnError(
            f"{source} holds another net: its layers ({few}, ...) fit no trunk of {', '.join(TRUNKS)}",
            "give a caffemodel that tools/run_stage.py wrote",
        )
    heads = _heads_of(weights, source, preact)
    confidence = "conf_conv2" if heads.variant == "released" else "conf_conv1"
    counts = {_width(weights, name) for name in ("cls_fc", "att_conv3", confidence, "sr_fc")} - {None}
    if not counts:
        raise SrnError(f"{source} has no SRN layers, only the trunk {spec.name}", "train it: tools/run_stage.py 1")
    if min(counts) < 1:
        raise SrnError(f"{source} contradicts itself: a part has no labels")
    if len(counts) > 1:
        raise SrnError(f"{source} contradicts itself: its parts have {' and '.join(map(str, sorted(counts)))} labels")
    return Architecture(spec.name, counts.pop(), heads)


def _heads_of(weights: Weights, source: str | Path, preact: bool) -> HeadSpec:
    """Structure and widths of the heads; those of a part that is not there are the defaults.

    Without any head (stage 1) the trunk's family decides the variant, as in a recipe.
    """
    hidden = [name for name in ("att_conv1", "conf_conv1", "sr_conv2") if name in weights]
    normalised = any(batch_norm_names(name)[0] in weights for name in hidden)
    heads = HeadSpec(variant="released" if normalised or (preact and not hidden) else "paper")
    if "att_conv1" in weights:
        heads = replace(heads, attention_width=_width(weights, "att_conv1"))
    if heads.variant == "released" and "conf_conv1" in weights:
        apart = replace(heads, confidence_sees_blocks=False)
        shared = not any(name.startswith(f"{blocks_prefix(apart)}res") for name in weights)
        heads = replace(heads, confidence_width=_width(weights, "conf_conv1"), confidence_sees_blocks=shared)
    if "sr_conv2" in weights and "sr_conv4" in weights:
        width = _width(weights, "sr_conv2")
        heads = replace(heads, regulariser_width=width, neurons_per_channel=_width(weights, "sr_conv4") // width)
    if min(value for name, value in vars(heads).items() if name.endswith(("_width", "_channel"))) < 1:
        raise SrnError(f"{source} contradicts itself: its heads have no channels ({heads})")
    return heads


def _width(weights: Weights, layer: str) -> int | None:
    """Outputs of a convolution or fully connected layer; None when it is not there.

    A legacy four-axis shape of a fully connected layer (1 x 1 x outputs x inputs) has them third.
    """
    if layer not in weights:
        return None
    shape = weights[layer][0].shape
    return shape[2] if layer.endswith("_fc") and len(shape) == 4 else shape[0] if shape else None
