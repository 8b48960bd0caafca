"""Each layer's time in inference or in a training step beside PyTorch's and OpenVINO's, and its share of the limit.

Before anything is timed all contestants compute the same numbers (`speed.py`). A row's time is the median over
alternating rounds. The times of whole passes are measured, too: rows that do not add up to them say nothing.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from pysrn.benchmark.contender import OPENVINO, TORCH, Job
from pysrn.benchmark.layers.rows import ROWS, UPDATE, Row, block_of, row_of_each, sum_by_row
from pysrn.benchmark.limit import PASSES, limit_of
from pysrn.benchmark.plan import INFERENCE, LAYERED, OURS, Plan, contestants
from pysrn.benchmark.speed import check_peers, material, start_all, start_limit
from pysrn.benchmark.timing import alternate
from pysrn.console import message


def measure(plan: Plan) -> dict:
    """Rows with operations, bytes, their limit and the seconds of all contestants; wholes, agreement, versions.

    `plan.part` is `inference` or `step`. Raises as `speed.measure`.
    """
    check_peers(plan.peers)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        job = replace(material(plan, Path(folder)), layers=True)
        contenders, agreement = start_all(plan, job, compared(plan), stack)
        speeds = start_limit(plan, job, stack)
        message(f"{plan.rounds} rounds")
        wholes = alternate({name: one.seconds for name, one in (contenders | speeds).items()}, plan.rounds)
        parts = alternate({name: one.parts for name, one in contenders.items()}, plan.rounds)
    described = {name: contender.description for name, contender in contenders.items()}
    rows, work = _told_rows(described[OURS].pop(ROWS)), described[OURS].pop(PASSES)
    times = {
        name: [sum_by_row(as_caffe_has_it(one, contenders[name].job, rows), rows) for one in rounds]
        for name, rounds in parts.items()
    }
    speed = [wholes.pop(name) for name in speeds]
    return {
        "plan": asdict(plan) | {"run": plan.run and Path(plan.run).name},
        ROWS: [_figures(row, times, work, speed) for row in (*rows, Row(UPDATE, -1, -1, ()))],
        "limit": limit_of(work, *speed) if speed else None,
        "whole": {name: statistics.median(seconds) for name, seconds in wholes.items()},
        "rounds": wholes,
        "agreement": agreement,
        "contestants": described,
    }


def compared(plan: Plan) -> dict[str, tuple[dict, dict[str, str]]]:
    """Of the contestants (`plan.py`) ours, PyTorch's fastest without torch.compile, and those of LAYERED asked for."""
    known = contestants(replace(plan, stock=False, compiled=False))
    torch = next(name for name, (job, _) in known.items() if job["framework"] == TORCH)
    return {name: one for name, one in known.items() if name in (OURS, torch, *LAYERED)}


def as_caffe_has_it(parts: Sequence[tuple[str, float]], job: Job, rows: Sequence[Row]) -> Sequence[tuple[str, float]]:
    """Pairs of layer and seconds under Caffe's names. OpenVINO has paths of the PyTorch net, with more behind them:
    `/trunk/conv1/Conv/WithoutBiases`. What is known by no such name keeps its own.
    """
    if job.framework != OPENVINO:
        return parts
    from pysrn.convert.torch_weights import layer_name

    known = row_of_each(rows)

    def named(node: str) -> str:
        words = node.strip("/").split("/")
        paths = (layer_name(".".join(words[:end])) for end in range(len(words), 0, -1))
        return next((path for path in paths if path in known), node)

    return [(named(node), seconds) for node, seconds in parts]


def by_block(rows: Sequence[Mapping]) -> list[dict]:
    """The rows of one block added up, in the order of the first ones."""
    blocks: dict[str, dict] = {}
    for row in rows:
        name = block_of(row["name"])
        so_far = blocks.setdefault(name, {"name": name, "seconds": dict.fromkeys(row["seconds"], 0.0)})
        for key in ("operations", "bytes", "limit_seconds"):
            so_far[key] = so_far.get(key, 0) + row[key]
        for contestant, seconds in row["seconds"].items():
            so_far["seconds"][contestant] += seconds
    return list(blocks.values())


def report_lines(figures: Mapping, each: bool = False) -> list[str]:
    """The lines that say what was measured: a line a block, or with `each` a line a layer."""
    plan, rows, whole = figures["plan"], figures[ROWS], figures["whole"]
    peers = [name for name in whole if name != OURS]
    stage = "" if plan["part"] == INFERENCE else f", stage {plan['stage']}"
    head = f"{'ms':<18}{OURS:>9}{'share':>8}{'GFLOP':>8}{'MB':>8}{'limit':>9}{'of limit':>10}"
    lines = [
        f"layers, {plan['part']}{stage}: {plan['trunk']}, {plan['dataset']}, batch {plan['batch']}, "
        f"{plan['threads']} threads, {plan['rounds']} rounds",
        "  " + head + "".join(f"{name:>18}" for name in peers),
    ]
    total = sum(row["seconds"][OURS] for row in rows)
    for row in rows if each else by_block(rows):
        ours = row["seconds"][OURS]
        if not any(row["seconds"].values()):
            continue
        of_limit = f"{row['limit_seconds'] / ours:10.0%}" if ours and row["limit_seconds"] else f"{'':10}"
        lines.append(
            f"  {row['name']:<18}{1e3 * ours:9.3f}{ours / total:8.1%}{row['operations'] / 1e9:8.2f}"
            f"{row['bytes'] / 1e6:8.1f}{1e3 * row['limit_seconds']:9.3f}{of_limit}"
            + "".join(f"{1e3 * row['seconds'][name]:18.3f}" for name in peers)
        )
    for title, found in (("sum of the rows", _sums(rows)), ("a whole pass", whole)):
        cells = "".join(f"{1e3 * found[name]:18.3f}" for name in peers)
        lines.append(f"  {title:<18}{1e3 * found[OURS]:9.3f}{'':43}{cells}")
    return lines


def _sums(rows: Sequence[Mapping]) -> dict[str, float]:
    return {name: sum(row["seconds"][name] for row in rows) for name in rows[0]["seconds"]}


def _told_rows(told: Sequence[Mapping]) -> list[Row]:
    return [Row(**one | {name: tuple(one[name]) for name in ("layers", "blobs")}) for one in told]


def _figures(row: Row, times: Mapping, work: Sequence[Mapping], speed: Sequence[Sequence[float]]) -> dict:
    """What is kept of a row."""
    needed = [one for one in work if one["layer"] in row.layers]
    rounds = {name: [one.get(row.name, 0.0) for one in rounds] for name, rounds in times.items()}
    return {
        "name": row.name,
        "layers": list(row.layers),
        **{key: sum(one[key] for one in needed) for key in ("operations", "bytes")},
        "limit_seconds": limit_of(needed, *speed)["seconds"] if speed else 0.0,  # without a limit there is none
        "seconds": {name: statistics.median(values) for name, values in rounds.items()},
        "rounds": rounds,
    }
