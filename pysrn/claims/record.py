"""What is known of the claims: `claims.json`, which docs/claims.md is made of."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pysrn.claims.claim import Claim, Row
from pysrn.claims.runs import DataSet, Job
from pysrn.claims.verdict import FACT, of_fact, t_interval, together, verdict
from pysrn.console import SrnError, UsageError
from pysrn.whole_files import write_json

FILE = "claims.json"
COUNTED = "counted"  # in place of a data set, of facts
POINTS = 100


class Record:
    """`data`: name -> its words and boxes; `choices`: "system data" -> family -> what was tried and taken;
    `results`: "claim data" -> seeds, rows, verdict, looks, cost, command.
    """

    def __init__(self, folder: Path) -> None:
        """Read the record of a folder, empty where there is none; SrnError where it is damaged."""
        self.path = folder / FILE
        content: dict[str, Any] = {}
        if self.path.is_file():
            try:
                content = json.loads(self.path.read_text("utf-8"))
                if not isinstance(content, dict):
                    raise ValueError("it holds no object")
            except ValueError as error:
                raise SrnError(f"{self.path} is damaged: {error}", "take the one of the last commit") from None
        self.data: dict[str, dict] = content.get("data", {})
        self.choices: dict[str, dict] = content.get("choices", {})
        self.results: dict[str, dict] = content.get("results", {})

    def write(self) -> None:
        """Replace the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"data": self.data, "choices": self.choices, "results": self.results})

    def dataset(self, name: str, folder: Path, words: Sequence[str] | None, boxes: Path | None) -> DataSet:
        """A data set as it is recorded, or as it is given now; UsageError where results were made with other words."""
        known = self.data.get(name)
        now = {"training": list(words or ()), "boxes": boxes and str(boxes)}
        if known and words is not None and known["training"] != now["training"]:
            made = [key for key in self.results if key.endswith(f" {name}")]
            if made:
                raise UsageError(
                    f"{', '.join(made)} were made with --training {shlex.quote(shlex.join(known['training']))}",
                    "leave --training out, or give another --out",
                )
        elif known:
            now = known | ({"boxes": str(boxes)} if boxes else {})
        self.data[name] = now
        return DataSet(name, folder, tuple(now["training"]), now["boxes"] and Path(now["boxes"]))

    def refuse_second_look(self, claim: Claim, name: str, seeds: Sequence[int], again: bool) -> bool:
        """Whether a result is there already and stays; UsageError for one of other seeds: that is a second look."""
        known = self.results.get(f"{claim.key} {name}")
        if known is None or again:
            return False
        if known["seeds"] != list(seeds):
            raise UsageError(
                f"{claim.key} on {name} is finished with {len(known['seeds'])} seeds: other seeds are a second look "
                "at the test images",
                "give --again, which is counted in the row, or another --out",
            )
        return True

    def finish(self, claim: Claim, data: DataSet, seeds: Sequence[int], jobs: Mapping[tuple, Job], command: str) -> str:
        """Measure the rows of a claim, whose runs (training and seed -> run) are finished; returns the verdict."""
        rows = [_measured(row, seeds, jobs) for row in claim.rows_on(data.dataset)]
        return self._put(
            claim,
            data.name,
            {
                "seeds": list(seeds),
                "rows": rows,
                "seconds": {
                    training.name: [jobs[training, seed].seconds for seed in seeds]
                    for training in claim.trainings(data.dataset)
                },
                "recipes": {family: asdict(one) for family, one in next(iter(jobs.values())).chosen.items()},
                "command": command,
            },
        )

    def count(self, claim: Claim, command: str) -> str:
        """Count the facts of a claim; returns the verdict."""
        rows = []
        for fact in claim.facts:
            value = fact.value()
            about = {"kind": FACT, "title": fact.title, "value": value, "low": fact.low, "high": fact.high}
            rows.append(about | {"unit": fact.unit, "verdict": of_fact(value, fact.low, fact.high)})
        return self._put(claim, COUNTED, {"seeds": [], "rows": rows, "command": command})

    def _put(self, claim: Claim, name: str, values: dict) -> str:
        key = f"{claim.key} {name}"
        found = together([row["verdict"] for row in values["rows"]])
        looks = self.results.get(key, {}).get("looks", 0) + 1
        self.results[key] = values | {"verdict": found, "looks": looks}
        self.write()
        return found


def _measured(row: Row, seeds: Sequence[int], jobs: Mapping[tuple, Job]) -> dict:
    """A row's figures in points, by seed, with interval and verdict."""

    def of(side, measure) -> list[float]:
        if side is None or measure is None:
            return [0.0 for _ in seeds]
        return [POINTS * measure(jobs[side.training, seed].trained) for seed in seeds]

    favoured, other = of(row.favoured, row.favoured.measure.of), of(row.other, row.other and row.other.measure.of)
    chance = of(row.favoured, row.favoured.measure.chance)
    differences = [a - b for a, b in zip(favoured, other, strict=True)]
    found = t_interval(differences)
    above = [a - b for a, b in zip(favoured, chance, strict=True)]
    ends = {name: value if found.count > 1 else None for name, value in (("low", found.low), ("high", found.high))}
    return {
        "kind": row.kind,
        "favoured": row.favoured.title,
        "other": row.other.title if row.other else "nothing",
        "favoured_values": favoured,
        "other_values": other,
        "chance": chance,
        "differences": differences,
        "mean": found.mean,
        **ends,
        "verdict": verdict(row.kind, differences, above),
    }
