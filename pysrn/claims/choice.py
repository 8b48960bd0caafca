"""Choosing recipes on a part of the training images: both contestants get as many tries, the test images none.

The part is cut out of the training pair (`data/cut.py`). What is trained for a choice never sees the pair's test split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from pysrn.claims.claim import ALONE, WHOLE, Try, claims, tries
from pysrn.claims.measures import mean_ap
from pysrn.claims.record import POINTS, Record
from pysrn.claims.runs import DataSet, Job, families, share_first_stages_of
from pysrn.console import UsageError, message
from pysrn.data.cut import cut_pair
from pysrn.systems.system import System

FRACTION = 0.2  # of the training images, held out; assumed
SEED = 0  # of the cut and of the runs: one seed a try; assumed

Train = Callable[[Job], None]  # runs what is missing of a job, scores of its (held out) images included


def choose(
    system: System, data: DataSet, runs: Path, record: Record, train: Train, gpu: int | None = None
) -> Mapping[str, Try]:
    """Search the recipes of a system and of its baseline on held-out training images, and record what was taken.

    UsageError where results have been made with the recipes of before.
    """
    key = f"{system.name} {data.name}"
    if key in record.choices:
        message(f"{key}: chosen already")
        return chosen(system, data, record)
    own = {f"{claim.key} {data.name}" for owner, claim in claims().values() if owner is system}
    if made := [name for name, found in record.results.items() if name in own and found["seeds"]]:
        raise UsageError(f"{', '.join(made)} are finished without a choice", "choose first, in another --out")
    held_out = runs / f"{data.name}-validation"
    cut_pair(data.folder, held_out, FRACTION, SEED)
    part = replace(data, name=held_out.name, folder=held_out, boxes=None)
    scores = {WHOLE: (system.last_stage, system.result), ALONE: (system.baseline.stage, system.baseline.score)}
    taken: dict[str, Try] = {}
    found: dict[str, dict] = {}
    for family, job in families(system, part, runs, gpu).items():  # the system first: its budget is the baseline's
        stage, score = scores[family]
        values, before = {}, []
        for one in tries(system)[family]:
            tried = replace(job, seed=SEED, chosen=taken | {family: one})
            share_first_stages_of(before, tried)
            train(tried)
            before.append(tried)
            values[one.name] = POINTS * mean_ap(stage, **{score: 1.0}).of(tried.trained)
            message(f"{key}, {job.training.title}, {one.name}: {values[one.name]:.2f} mAP on held-out images")
        best = max(values, key=values.get)
        taken[family] = next(one for one in tries(system)[family] if one.name == best)
        found[family] = {"tries": values, "taken": asdict(taken[family]), "fraction": FRACTION, "seed": SEED}
    record.choices[key] = found
    record.write()
    return taken


def chosen(system: System, data: DataSet, record: Record) -> dict[str, Try]:
    """Family -> the recipe that was chosen; none where nothing was: the recipes as they are."""
    found = record.choices.get(f"{system.name} {data.name}", {})
    return {
        family: Try(one["taken"]["name"], tuple(one["taken"]["lengths"]), tuple(one["taken"]["rates"]))
        for family, one in found.items()
    }
