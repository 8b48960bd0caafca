"""From photo to label: `tools/predict.py FOLDER` against a DataLoader with PyTorch's net, and against OpenVINO.

Each is a process of its own that decodes, resizes, runs the net and writes a file of scores. Before anything is timed
all have written the same scores. Each round also runs a folder of one batch: what a contestant takes to start.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from shutil import copyfile

import numpy as np

from pysrn.benchmark.contender import THREADS
from pysrn.benchmark.data.building import build, copy_photos, make_photos, write_list
from pysrn.benchmark.photos.job import PhotoJob
from pysrn.benchmark.plan import OURS
from pysrn.benchmark.realistic_weights import random_weights
from pysrn.benchmark.speed import FP32_TOLERANCE, check_peers, compare, onnx_file
from pysrn.benchmark.timing import alternate, summary
from pysrn.benchmark.usual import usual_recipe
from pysrn.benchmark.whole_process import run_to_end
from pysrn.console import UsageError, check_packages, message
from pysrn.nets.caffemodel import read_weights
from pysrn.predict.trained import architecture_of, find_weights, settings_of, system_of
from pysrn.processes import environment, python_module
from pysrn.systems.registry import default_system
from pysrn.systems.system import Architecture

TOOL = Path(__file__).resolve().parents[3] / "tools" / "predict.py"
EAGER, COMPILED, PEER = "PyTorch, DataLoader", "torch.compile, DataLoader", "OpenVINO"


@dataclass(frozen=True)
class Photos:
    """`images`: a folder of JPEG files in place of made ones. `run`: in place of random weights of `trunk`."""

    count: int = 2000
    rounds: int = 3
    batch: int = 16
    threads: int = 2
    workers: int = 1  # of the peers: processes of the DataLoader, threads that decode
    images: Path | None = None
    run: str | None = None
    trunk: str | None = None
    pytorch: bool = True
    compiled: bool = True
    peers: tuple[str, ...] = ()


def measure(plan: Photos) -> dict:
    """Images a second of all contestants, with their start and without, peaks of memory, agreement.

    Raises MissingError for a missing package, UsageError for a system whose labels are searched for, SrnError when a
    contestant fails, ToleranceError when it computes other scores.
    """
    check_packages("torch")
    check_peers(plan.peers)
    if plan.count <= plan.batch:
        raise UsageError(f"--count must be more than --batch, {plan.batch}: one batch is what starting takes")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        one_batch, job, commands = _material(plan, work)
        kept = environment(**dict.fromkeys(THREADS, str(plan.threads)), TORCHINDUCTOR_CACHE_DIR=str(work / "compiled"))

        def seconds(name: str, told: PhotoJob) -> float:
            return run_to_end(commands[name](told), kept, name).seconds

        peaks, agreement, reference = {}, {}, {}
        for name in commands:
            message(f"{name}: {plan.count} photos")
            peaks[name] = run_to_end(commands[name](job), kept, name, weighed=True).peak_mb
            found = read_scores(Path(job.out), job.scores)
            reference = reference or found
            agreement[name] = compare(reference, found, name)
            Path(job.out).unlink()
        message(f"{plan.rounds} rounds")
        names = list(commands)
        whole = alternate({name: lambda name=name: seconds(name, job) for name in names}, plan.rounds)
        start = alternate({name: lambda name=name: seconds(name, one_batch) for name in names}, plan.rounds)
    behind = plan.count - plan.batch
    return {
        "plan": asdict(plan) | {"images": plan.images and plan.images.name, "run": plan.run and Path(plan.run).name},
        "whole": summary({name: [plan.count / one for one in whole[name]] for name in names}, OURS),
        "behind_start": summary(
            {
                name: [behind / (one - first) for one, first in zip(whole[name], start[name], strict=True)]
                for name in names
            },
            OURS,
        ),
        "start_seconds": {name: float(np.median(start[name])) for name in names},
        "peak_mb": peaks,
        "agreement": agreement,
        "tolerance": FP32_TOLERANCE[0],
    }


def read_scores(file: Path, scores: Sequence[str]) -> dict[str, np.ndarray]:
    """Name -> N x C, from what ours or a peer wrote."""
    with np.load(file) as stored:
        return {name: stored[name] for name in scores}


def report_lines(found: Mapping) -> list[str]:
    """The lines that say what was measured."""
    plan = found["plan"]
    lines = [
        f"photos: {plan['count']} of {plan['images'] or 'made ones'}, batch {plan['batch']}, "
        f"{plan['threads']} threads, {plan['rounds']} rounds; scores alike to {found['tolerance']}",
        f"  {'images/s':<28}{'whole':>8}  {'ours is':<22}{'behind start':>13}  {'ours is':<22}"
        f"{'start, s':>9}{'peak MB':>9}",
    ]
    for name in found["peak_mb"]:
        cells = ""
        for kind, width in (("whole", 8), ("behind_start", 13)):
            ratio = found[kind]["ratio"].get(name)
            told = f"{ratio['median']:.2f}x ({ratio['least']:.2f} to {ratio['most']:.2f})" if ratio else ""
            cells += f"{found[kind]['median'][name]:{width}.1f}  {told:<22}"
        lines.append(f"  {name:<28}{cells}{found['start_seconds'][name]:9.2f}{found['peak_mb'][name]:9.0f}")
    return lines


def _material(plan: Photos, work: Path) -> tuple[PhotoJob, PhotoJob, dict]:
    """The jobs of one batch and of all photos, and by name what makes a command line of a job."""
    system = system_of(plan.run) if plan.run else default_system()
    if system.searching:
        raise UsageError(f"photos: {system.title} searches for its labels, which the peers do not")
    photos, few = work / "photos", work / "few"
    if plan.images is None:
        make_photos(photos, plan.count)
    else:
        copy_photos(plan.images, photos, plan.count)
    few.mkdir()
    for path in islice(sorted(photos.iterdir()), plan.batch):
        copyfile(path, few / path.name)
    recipe = usual_recipe(system, trunk=plan.trunk)
    weights = find_weights(plan.run) if plan.run else random_weights(recipe, work)
    net = architecture_of(read_weights(weights), weights)
    labelled = [] if settings_of(weights) else ["--data", str(_labels(few, work, recipe.dataset.name))]
    job = PhotoJob(
        photos=str(photos),
        out=str(work / "scores.npz"),
        weights=str(weights),
        onnx=_onnx(weights, net, work) if plan.peers else "",
        scores=system.score_names,
        batch=plan.batch,
        threads=plan.threads,
        workers=plan.workers,
        **PhotoJob.pixels_of(net.input),
    )

    def ours(told: PhotoJob) -> list[str]:
        words = ["--run", told.weights, *labelled, "--out", told.out, "--batch-size", str(told.batch)]
        return [sys.executable, str(TOOL), "--images", told.photos, *words]

    def eager(told: PhotoJob) -> list[str]:
        return python_module("pysrn.benchmark.photos.torch_peer", told.to_json())

    commands = {OURS: ours}
    if plan.pytorch:
        commands[EAGER] = eager
        if plan.compiled:
            commands[COMPILED] = lambda told: eager(replace(told, compiled=True))
    if plan.peers:
        commands[PEER] = lambda told: python_module("pysrn.benchmark.photos.openvino_peer", told.to_json())
    return replace(job, photos=str(few)), job, commands


def _labels(photos: Path, work: Path, dataset: str) -> Path:
    """An LMDB pair that names the labels of weights of no run."""
    listed = work / "labelled"
    copy_photos(photos, listed, 1)
    write_list(listed, 1)
    build(listed, work / "pair", dataset, "jpeg", 1)
    return work / "pair"


def _onnx(weights: Path, net: Architecture, work: Path) -> str:
    """The weights as an ONNX file."""
    from pysrn.convert.torch_export import check_images

    return onnx_file(weights, check_images(net.input, 2, seed=1), work)
