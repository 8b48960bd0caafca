"""A run's figures beside those of the paper: difference and verdict for each metric, and `compare.json`.

The measure is the one that the paper used on the data set (`paper.py`: columns, top-3 rule); ours come from
`metrics.evaluate`. `comparison_text.py` shows what this finds, `tools/compare.py` is the command line of both.
Everything here is in percent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pysrn.console import MissingError, UsageError
from pysrn.evaluate.bootstrap import RESAMPLES, Interval, mean_ap_interval
from pysrn.evaluate.current_labels import check_together, load_labelled
from pysrn.evaluate.metrics import Evaluation, evaluate
from pysrn.evaluate.table import save_json
from pysrn.predict.predictions import Predictions, find_predictions, load_predictions
from pysrn.predict.trained import settings_of, system_of
from pysrn.recipes import DATASETS, OWN_DATASET, class_names
from pysrn.systems.published import AP_PREFIX, COLUMNS, MAP_AT_10, TOP3_PREFIX, Figure, Method, PaperTable, Tolerance
from pysrn.systems.system import System

SLACK = 1e-9  # a difference of exactly the tolerance is within it, however it is rounded in binary
OWN_TOP3_RULE = "top3_thresholded"  # assumed, where the paper says nothing
OUTSIDE = ("above", "below", "not defined")


@dataclass(frozen=True)
class Row:
    """One metric: the paper's figure, ours (NaN where it is not defined), and what is allowed between them."""

    metric: str
    paper: Figure
    ours: float
    tolerance: Tolerance

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's; None where either is missing."""
        return None if self.paper.value is None or math.isnan(self.ours) else self.ours - self.paper.value

    @property
    def verdict(self) -> str:
        """`within`, `above` or `below` the tolerance, `not defined` (ours), or `no figure` (in the paper)."""
        if self.paper.value is None:
            return "no figure"
        if self.difference is None:
            return "not defined"
        if abs(self.difference) <= self.tolerance.points + SLACK:
            return "within"
        return "above" if self.difference > 0 else "below"


@dataclass(frozen=True)
class Comparison:
    """One row of the paper's table (`method`) against one score of a predictions file."""

    method: str
    path: Path
    score: str
    images: int
    rows: tuple[Row, ...]
    interval: Interval | None

    @property
    def outside(self) -> list[Row]:
        """The rows outside their tolerance."""
        return [row for row in self.rows if row.verdict in OUTSIDE]


def tolerances(system: System, dataset: str, changes: Mapping[str, float] | None = None) -> dict[str, Tolerance]:
    """Tolerance of each metric. `changes`: metric -> points, from the user.

    Raises UsageError for a metric that there is not or a number below zero.
    """
    found = dict(system.published.tolerances(dataset))
    for name, points in (changes or {}).items():
        if name not in found:
            raise UsageError(f"no metric {name!r}: they are {', '.join(COLUMNS)}")
        if not 0 <= points < math.inf:
            raise UsageError(f"the tolerance of {name} must be a number of points from 0: {points}")
        found[name] = Tolerance(points, "given by the user")
    return found


def compare_rows(
    table: PaperTable | None,
    method: str,
    found: Evaluation,
    allowed: Mapping[str, Tolerance],
    classes: Sequence[str] = (),
) -> tuple[Row, ...]:
    """The metrics of one evaluation beside a method's row; without a table every paper cell is empty.

    `classes`: whose AP a column `AP <class>` is.
    """
    columns = COLUMNS if table is None else table.columns
    row = {} if table is None else table.rows[method]
    rule = OWN_TOP3_RULE if table is None else table.top3_rule
    plain = table is not None and not table.interpolated
    return tuple(
        Row(name, row.get(name, Figure(None)), 100 * _ours(found, name, rule, plain, classes), allowed[name])
        for name in columns
    )


def _ours(found: Evaluation, column: str, top3_rule: str | None, plain: bool, classes: Sequence[str]) -> float:
    if column == "mAP":
        return found.mean_ap_non_interpolated if plain else found.mean_ap
    if column == MAP_AT_10:
        return found.map_at_10
    if column.startswith(AP_PREFIX):
        return float(found.average_precision[list(classes).index(column.removeprefix(AP_PREFIX))])
    if column.startswith(TOP3_PREFIX):
        return found.decisions[top3_rule][column.removeprefix(TOP3_PREFIX)]
    return found.decisions["threshold"][column]


def compare_run(
    run: Path,
    split: str = "test",
    changes: Mapping[str, float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    labels: Path | None = None,
) -> tuple[System, str, list[Comparison]]:
    """System and data set of a run's folder (or of a predictions file), and a comparison for each of its methods.

    Resampled for the interval of mAP is the first of them; `resamples` 0: none. `labels`: see `evaluate_files`.

    Raises:
        MissingError: no predictions, or none with labels.
        SrnError: a damaged file, classes other than the data set's, files of different images.
        UsageError: a bad tolerance.
    """
    paths = find_predictions(run, split)
    loaded = load_labelled(paths, labels)
    system, dataset = system_of(paths[0]), dataset_of(paths[0], loaded[0])
    check_together(paths, loaded, loaded[0].classes if dataset == OWN_DATASET else class_names(dataset), "compared")
    allowed = tolerances(system, dataset, changes)
    chosen = _chosen(system, paths, loaded)
    if not chosen:
        raise MissingError(
            f"no predictions of the whole net or of stage {system.baseline.stage} in {run}", f"tools/predict.py {run}"
        )
    comparisons, table = [], system.published.tables.get(dataset)
    for method, path, found, score in chosen:
        measured = evaluate(found.scores[score], found.labels, what=f"{path}: {score}")
        interval = None
        if resamples and not comparisons and (table is None or table.interpolated):  # its mAP is of that kind
            interval = mean_ap_interval(found.scores[score], found.labels, resamples, seed)
        rows = compare_rows(table, method, measured, allowed, found.classes)
        comparisons.append(Comparison(method, path, score, measured.images, rows, interval))
    return system, dataset, comparisons


def check_published(run: Path, split: str) -> None:
    """Raise UsageError where the paper has no figures for the data set of a run."""
    path = find_predictions(run, split)[0]
    dataset = dataset_of(path, load_predictions(path))
    if dataset not in system_of(path).published.tables:
        raise UsageError(f"--expect: the paper has no figures for {dataset}", "leave --expect out")


def dataset_of(path: Path, found: Predictions) -> str:
    """The data set of the run that a predictions file lies in, else the one with the same labels, else `folder`."""
    settings = settings_of(path)
    if settings is not None:
        return settings.recipe.dataset.name
    labels = sorted(found.classes)
    return next((name for name in DATASETS if sorted(class_names(name)) == labels), OWN_DATASET)


def _chosen(
    system: System, paths: Sequence[Path], loaded: Sequence[Predictions]
) -> list[tuple[str, Path, Predictions, str]]:
    """For each method of the paper its title, and the predictions and the score that stand against it."""
    pairs = list(zip(paths, loaded, strict=True))
    chosen = []
    for method in system.published.methods or (Method(system.title, system.result),):
        if method.alone:
            chosen += [(method, *pair) for pair in pairs if list(pair[1].scores) == [method.score]][:1]
        else:
            chosen += [(method, *pair) for pair in pairs if method.score in pair[1].scores][-1:]
    return [(method.title, path, found, method.score) for method, path, found in chosen]


def write_json(system: System, dataset: str, comparisons: Sequence[Comparison], path: Path) -> None:
    """Write `compare.json`: percent, `null` where a figure is missing or not defined."""
    table = system.published.tables.get(dataset)
    content = {
        "dataset": dataset,
        "paper_has_figures": table is not None,
        "unit": "percent",
        "top3_rule": table.top3_rule if table else OWN_TOP3_RULE,
        "test_images_of_the_paper": DATASETS[dataset].test_images if table else None,
        "comparisons": [_plain(found) for found in comparisons],
    }
    save_json(content, path)


def _plain(found: Comparison) -> dict:
    interval = found.interval
    return {
        "method": found.method,
        "file": str(found.path),
        "score": found.score,
        "images": found.images,
        "rows": [
            {
                "metric": row.metric,
                "paper": row.paper.value,
                "ours": None if math.isnan(row.ours) else row.ours,
                "difference": row.difference,
                "tolerance": row.tolerance.points,
                "tolerance_reason": row.tolerance.reason,
                "verdict": row.verdict,
                "sources": list(row.paper.sources),
                "trust": row.paper.trust,
                "note": row.paper.note,
            }
            for row in found.rows
        ],
        "mAP_interval": interval and interval.to_json(100),
    }
