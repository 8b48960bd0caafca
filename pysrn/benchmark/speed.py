"""Training steps, steps over a fixed trunk, and inference: our Caffe against stock Caffe and PyTorch.

Before anything is timed all contestants compute the same weights on the same batch, and what comes out is compared.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pysrn.benchmark.contender import CAFFE, INFER, OPENVINO, TORCH, TRAIN, Contender, Job
from pysrn.benchmark.limit import COPY, PASSES, PRODUCT, limit_of
from pysrn.benchmark.nets import losses_of, recipe_of, whole_net
from pysrn.benchmark.plan import FORMATS, INFERENCE, OURS, PEERS, Plan, contestants
from pysrn.benchmark.realistic_weights import random_weights
from pysrn.benchmark.timing import alternate, summary
from pysrn.console import MissingError, ToleranceError, check_packages, message
from pysrn.nets.caffemodel import read_weights
from pysrn.precision import FP32
from pysrn.predict.trained import find_weights

# Largest difference between two contestants that still compute the same net. Rounding alone makes 1e-5 of the scores
# and 1e-2 of the gradients (stock Caffe with another BLAS kernel); another net would differ by about 1.
FP32_TOLERANCE = 1e-3, 5e-2
BF16_TOLERANCE = 0.2, 0.5  # assumed: three digits through a hundred layers; another net differs by about 1
OPENVINO_TRIED = "openvino==2026.4.1"  # no dependency: only benchmarks ask for it
BLOCK = 1 << 20  # numbers compared at a time
TRIAL_ROUNDS = 3  # of one memory format of PyTorch against the other


def measure(plan: Plan) -> dict:
    """Seconds, ratios of ours, peaks of memory, agreement, versions.

    Raises MissingError without PyTorch or weights, ToleranceError when a contestant computes another net.
    """
    check_peers(plan.peers)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        work = Path(folder)
        job = material(plan, work)
        contenders, agreement = start_all(plan, job, contestants(plan), stack)
        measured = contenders | start_limit(plan, job, stack)
        message(f"{plan.rounds} rounds")
        figures = alternate({name: contender.seconds for name, contender in measured.items()}, plan.rounds)
        for contender in contenders.values():
            peak = round(contender.peak_mb())
            contender.description |= {"peak_mb": peak, "channels_last": contender.job.channels_last}
    work = contenders[OURS].description[PASSES]
    limit = {"limit": limit_of(work, *(figures.pop(name) for name in (PRODUCT, COPY)))} if plan.limit else {}
    for contender in contenders.values():
        contender.description.pop(PASSES, None)
    return {
        **limit,
        "plan": asdict(plan) | {"run": plan.run and Path(plan.run).name},  # figures are kept: no path of a machine
        "seconds": summary(figures, OURS),
        "agreement": agreement,
        "contestants": {name: contender.description for name, contender in contenders.items()},
    }


def start_all(
    plan: Plan, job: Job, asked: Mapping[str, tuple[dict, dict[str, str]]], stack: ExitStack
) -> tuple[dict[str, Contender], dict[str, dict[str, float]]]:
    """The contestants asked for (see `plan.contestants`), all computing the same, and how they differ.

    `stack` closes them. Raises as `start`.
    """
    tolerance = FP32_TOLERANCE if plan.precision == FP32 else BF16_TOLERANCE
    contenders: dict[str, Contender] = {}
    reference: dict[str, np.ndarray] = {}
    agreement = {}
    for name, (differences, environment) in asked.items():
        message(f"starting {name}")
        contenders[name], found, agreement[name] = start(
            name, replace(job, **differences), environment, reference, plan.formats, tolerance
        )
        stack.callback(contenders[name].close)
        reference = reference or found
    return contenders, agreement


def start_limit(plan: Plan, job: Job, stack: ExitStack) -> dict[str, Contender]:
    """What measures the machine's limit, prepared; nothing where the plan wants none. `stack` closes it."""
    started = {}
    for work in (PRODUCT, COPY) if plan.limit else ():
        told = replace(job, framework=TORCH, work=work, precision=plan.precision, layers=False)
        started[work] = Contender(work, told, {})
        stack.callback(started[work].close)
        started[work].prepare()
    return started


def check_peers(peers: Sequence[str]) -> None:
    """Raise MissingError for a package of a peer that is not installed."""
    if peers:
        check_packages("torch", "onnx", "onnxruntime")
    if OPENVINO in map(PEERS.get, peers) and find_spec(OPENVINO) is None:
        raise MissingError(f"the Python package {OPENVINO} is not installed", f"pip install {OPENVINO_TRIED}")


def compare(
    expected: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    name: str,
    tolerance: tuple[float, float] = FP32_TOLERANCE,
) -> dict[str, float]:
    """Differences by kind: `scores` (losses and maps too), at worst, relative to the greatest value above 1; and
    `gradients` (names with a slash), relative L2 over all.

    Raises ToleranceError when they are no rounding, or when something is missing.
    """
    if set(expected) != set(found):
        odd = ", ".join(sorted(set(expected) ^ set(found))[:5])
        raise ToleranceError(f"{name} computes another net: only one side has {odd}")
    scores, squares, total = 0.0, 0.0, 0.0
    for key, values in expected.items():
        if "/" in key:
            values, other = values.reshape(-1), found[key].reshape(-1)
            for begin in range(0, len(values), BLOCK):  # a gradient may be a GB
                block = values[begin : begin + BLOCK].astype(np.float64)
                squares += np.sum((other[begin : begin + BLOCK] - block) ** 2)
                total += np.sum(block**2)
        else:
            difference = found[key].reshape(values.shape).astype(np.float64) - values
            scores = float(np.maximum(scores, np.abs(difference).max() / max(1.0, np.abs(values).max())))
    result = {"scores": scores}
    if total:
        result["gradients"] = float(np.sqrt(squares / total))
    # `not <=` finds NaN, too
    if not (scores <= tolerance[0] and result.get("gradients", 0.0) <= tolerance[1]):
        raise ToleranceError(f"{name} computes another net than the first contestant: {result}")
    return result


def ratio_text(ratio: Mapping[str, float] | None) -> str:
    """Median, least and most of a ratio; nothing where there is none, as of ours against itself."""
    return f"{ratio['median']:.3f} ({ratio['least']:.3f} to {ratio['most']:.3f})" if ratio else ""


def report_lines(figures: Mapping) -> list[str]:
    """The lines that say what was measured."""
    plan, seconds = figures["plan"], figures["seconds"]
    stage = "" if plan["part"] == INFERENCE else f", stage {plan['stage']}"
    net = ", ".join(filter(None, (plan["trunk"], plan["variant"], plan.get("dataset"))))
    lines = [
        f"{plan['part']}{stage}: {net}, batch {plan['batch']}, {plan['threads']} threads, {plan['rounds']} rounds",
        f"  {'':<24}{'seconds':>9}   {'time of ours / its time':<26}{'peak MB':>8}{'scores':>10}{'gradients':>11}",
    ]
    for name, median in seconds["median"].items():
        behind = ratio_text(seconds["ratio"].get(name))
        found, same = figures["contestants"][name], figures["agreement"][name]
        gradients = f"{same['gradients']:11.1e}" if "gradients" in same else ""
        lines.append(f"  {name:<24}{median:9.4f}   {behind:<26}{found['peak_mb']:8d}{same['scores']:10.1e}{gradients}")
    if limit := figures.get("limit"):
        ours = seconds["median"][OURS] / limit["seconds"]
        lines.append(
            f"  limit: {limit['operations'] / 1e9:.1f} GFLOP at {limit['operations_a_second'] / 1e9:.0f} GFLOP/s, "
            f"{limit['bytes'] / 1e6:.0f} MB at {limit['bytes_a_second'] / 1e9:.1f} GB/s: {limit['seconds']:.4f} s, "
            f"ours {ours:.2f} times that"
        )
    parts = figures["contestants"][OURS]["engine_parts"]
    if parts is None:
        lines.append("  this Caffe has no speed patches: ours is stock Caffe")
    elif not parts:
        lines.append("  no part of the engine is in use: ours is stock Caffe")
    return lines


def start(
    name: str,
    job: Job,
    environment: Mapping[str, str],
    reference: Mapping[str, np.ndarray],
    tried: tuple[str, ...],
    tolerance: tuple[float, float],
) -> tuple[Contender, dict[str, np.ndarray], dict[str, float]]:
    """A contestant, warmed up, what it computes where there is no `reference`, and how it differs from that.

    PyTorch's is in the memory format in which it is faster here.

    A format in which it computes another net than `reference` (empty: nothing to compare with) is left out, and the
    description says so: torch.compile 2.13 has been seen to give wrong gradients in one of the two. Raises
    ToleranceError when none is left.
    """
    checked: dict[str, tuple[Contender, dict[str, np.ndarray], dict[str, float]]] = {}
    wrong: dict[str, ToleranceError] = {}
    for layout in tried if job.framework == TORCH else FORMATS[:1]:
        contender = Contender(name, replace(job, channels_last=layout == FORMATS[1]), environment)
        found = contender.check(Path(job.inputs).with_name("check.npz"))
        try:
            checked[layout] = (
                contender,
                {} if reference else found,
                compare(reference or found, found, f"{name}, {layout},", tolerance),
            )
            contender.prepare()
        except ToleranceError as error:
            wrong[layout] = error
            contender.close()
        del found
    if not checked:
        raise next(iter(wrong.values()))
    best = next(iter(checked))
    if len(checked) > 1:
        figures = alternate({layout: contender.seconds for layout, (contender, *_) in checked.items()}, TRIAL_ROUNDS)
        best = min(figures, key=lambda layout: min(figures[layout]))
        checked[best][0].description["trial_of_formats"] = figures
    for layout in checked.keys() - {best}:
        checked[layout][0].close()
    for error in wrong.values():
        message(f"left out: {error}")
    if wrong:
        checked[best][0].description["left_out"] = {layout: str(error) for layout, error in wrong.items()}
    return checked[best]


def material(plan: Plan, work: Path) -> Job:
    """Weights and a batch, and the job that all contestants share."""
    try:
        from pysrn.convert.torch_export import check_images
    except ModuleNotFoundError as error:
        raise MissingError(f"the peers need the Python package {error.name}", "pip install -e .[torch]") from None
    os.environ.setdefault("GLOG_minloglevel", "2")
    weights = find_weights(plan.run) if plan.run else random_weights(plan.recipe(), work)
    recipe = recipe_of(read_weights(weights), weights, plan.dataset)
    images = check_images(recipe.input, plan.batch, seed=1)
    labels = np.random.default_rng(1).integers(0, 2, (plan.batch, len(recipe.dataset.classes))).astype(np.float32)
    np.savez(work / "inputs.npz", data=images, label=labels)
    training = plan.part != INFERENCE
    return Job(
        framework=CAFFE,
        work=TRAIN if training else INFER,
        weights=str(weights),
        inputs=str(work / "inputs.npz"),
        threads=plan.threads,
        round_seconds=plan.round_seconds,
        stage=plan.stage,
        dataset=plan.dataset,
        losses=losses_of(whole_net(recipe, plan.stage)) if training else (),
        onnx=onnx_file(weights, images, work) if plan.peers else "",
    )


def onnx_file(weights: Path, images: np.ndarray, work: Path) -> str:
    """The net of the weights for those who read ONNX."""
    from pysrn.convert.onnx_export import export_onnx
    from pysrn.convert.torch_weights import model_of
    from pysrn.predict.trained import architecture_of

    read = read_weights(weights)
    model = model_of(read, architecture_of(read, weights), weights).eval()
    return str(export_onnx(model, work / "net.onnx", np.repeat(images, 2, axis=0)[:2])[0])
