"""The README's table of speed, made of the figures that are kept: what `tools/benchmark.py ... --json` wrote.

`tests/benchmark/test_speed_table.py` keeps the README equal to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pysrn.benchmark.plan import CACHED, FIXED, INFERENCE, OURS, STEP
from pysrn.systems.registry import default_system, system_named

FIGURES = Path(__file__).resolve().parents[2] / "tests" / "data" / "benchmarks"
BEGIN, END = "<!-- speed: tools/benchmark.py table -->", "<!-- /speed -->"
TITLES = {STEP: "training step, stage {stage}", FIXED: "training step, stage {stage}", INFERENCE: "inference"}
# The contestant that stands in a column; the first that was measured
COLUMNS = {
    "stock Caffe": ("stock Caffe",),
    "PyTorch": ("PyTorch, folded", "PyTorch"),
    "torch.compile": ("torch.compile, folded", "torch.compile"),
}


def table(folder: Path) -> str:
    """Markdown from all figures of `folder`, a table a processor, between the two markers."""
    return "\n".join([BEGIN, *parted(_lines_of(reports) for reports in by_processor(folder)), END])


def by_processor(folder: Path) -> list[list[dict]]:
    """All reports in `folder` and below it, those of one processor together."""
    found: dict[str, list[dict]] = {}
    for path in sorted(folder.rglob("*.json"), key=lambda path: path.name):
        report = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(report["machine"]["cpu"], []).append(report)
    return [found[cpu] for cpu in sorted(found)]


def folder_of(cpu: str) -> str:
    """The name of the folder that holds a processor's figures."""
    return re.sub(r"[^a-z0-9]+", "-", cpu.lower()).strip("-")


def parted(tables: Iterable[list[str]]) -> list[str]:
    """The lines of several tables (empty ones are left out), an empty line between two."""
    filled = [lines for lines in tables if lines]
    return [line for number, lines in enumerate(filled) for line in (["", *lines] if number else lines)]


def _lines_of(reports: Sequence[Mapping]) -> list[str]:
    """The conditions and the table of one processor; nothing where it has no such figures."""
    measured = [(report["machine"], report[part]) for report in reports for part in TITLES if part in report]
    if not measured:
        return []
    order = ("variant", "stage", "batch")
    measured.sort(key=lambda pair: [list(TITLES).index(pair[1]["plan"]["part"]), *map(pair[1]["plan"].get, order)])
    names = ["seconds", "ours", *COLUMNS, "ours / PyTorch", "ours / compiled", "MB: ours, stock, PyTorch"]
    head = ["| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1)]
    lines = [*_conditions(measured), "", *head]
    for _, found in measured:
        lines += _rows(found)
    return lines


def _conditions(measured: list[tuple[Mapping, Mapping]]) -> list[str]:
    """One line for each machine and setting: where the figures are from."""
    found = {
        f"{machine['cpu']}, {machine['cores']} cores; {found['plan']['threads']} threads; PyTorch "
        f"{machine['versions']['torch']}; medians of {found['plan']['rounds']} alternating rounds."
        for machine, found in measured
    }
    return sorted(found)


def _rows(found: Mapping) -> list[str]:
    plan, seconds = found["plan"], found["seconds"]
    median, ratio = seconds["median"], seconds["ratio"]
    names = [next((name for name in choices if name in median), None) for choices in COLUMNS.values()]
    title = f"{TITLES[plan['part']].format(**plan)}, batch {plan['batch']}"
    system = system_named(plan.get("system", default_system().name))  # early figures are of the default one
    if system is not default_system():
        title = f"{system.title} on {plan['dataset']}, {title}"
    if plan["variant"] != next(iter(system.variants)):
        title += f", `{plan['variant']}`"
    peaks = [f"{found['contestants'][name]['peak_mb']:,}" if name else "-" for name in (OURS, *names[:2])]
    cells = [
        title,
        _seconds(median[OURS]),
        *(_seconds(median[name]) if name else "" for name in names),
        *(spread_text(ratio[name]) if name else "" for name in names[1:]),
        " / ".join(peaks),
    ]
    rows = [cells]
    if CACHED in median:
        faster = f"{ratio[CACHED]['median']:.1f} times as fast as without"
        peak = f"{found['contestants'][CACHED]['peak_mb']:,}"
        rows.append(["- with cached features", _seconds(median[CACHED]), "", "", "", faster, "", peak])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def spread_text(ratio: Mapping) -> str:
    """The median and its spread."""
    return f"{ratio['median']:.2f} ({ratio['least']:.2f}-{ratio['most']:.2f})"
