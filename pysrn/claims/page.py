"""docs/claims.md: the rule, a line for every claim, and for each that was run its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pysrn.claims.claim import Claim, claims
from pysrn.claims.record import COUNTED, Record
from pysrn.claims.verdict import FACT, NOT_RUN, RULE

SEEDS = 5  # of a command that was not given yet
HEAD = """\
# Claims

What the three papers claim, each sentence an experiment with a verdict ([D16](design.md#d16-a-claim-has-a-verdict)).
`tools/claims.py` writes this page from `claims.json` beside it.

- [Commands](#commands)
- [The rule](#the-rule)
- [Verdicts](#verdicts)
- [What was run](#what-was-run)
- [What was chosen](#what-was-chosen)

## Commands

```
tools/claims.py --plan                      # every claim: the runs that are missing, and about how long they take
tools/claims.py S4 --data shapes --seeds 5  # run what is missing, measure, write the row; the same command resumes
tools/claims.py S1 --data posters --choose  # before: choose the recipes on held-out training images
tools/claims.py --facts                     # what is only counted
tools/claims.py S1 --shuffle-labels         # a check of the tool: nothing can be learned, so the row must fail
```

`--data NAME` is the LMDB pair `data/NAME`. `--training WORDS` are words for `tools/run_stage.py` in all runs of it.
`--boxes FOLDER` has its annotations, where a claim needs places.
Both are kept in `claims.json`, so later commands need not repeat them.

`--gpu N` trains, predicts and computes maps on a CUDA device ([not run](docker.md#gpu)). The row's command says so.

`shapes` has labels of drawn pictures, `posters` concepts of film posters, `coco_photos` objects of photographs.
Any pair of one's own will do. The rows of the last two are of these files, which are not part of the project:

```
tools/make_lmdb.py folder --root POSTERS --out data/posters       # 4,000 film posters: 3,200 to train, 800 to test
python tests/real/coco_photos.py COCO_IMAGES data/photos          # 506 photographs of COCO: 380 and 126, with boxes
tools/make_lmdb.py folder --root data/photos --out data/coco_photos
tools/claims.py C4 --data coco_photos --seeds 3 --boxes data/photos
```

Runs of one seed share the stages that they begin with where these are the same to the bit, and cached features.
So claims of one data set cost less together.
`shapes`: choose its recipe anew before S1. Its own was chosen while looking at test images
([how](evaluation.md)).

"""


def page(record: Record) -> str:
    """The whole page, Markdown."""
    known = [claim for _, claim in claims().values()]
    parts = [HEAD, _table(("", "claim", "test"), [(one.key, one.says, one.test) for one in known]), "\n", RULE]
    parts += ["\n## Verdicts\n\n", _verdicts(known, record), "\n## What was run\n\n", _rows(known, record)]
    return "".join([*parts, "\n## What was chosen\n\n", _choices(record)])


def _table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [titles, ["---"] * len(titles), *lines])


def _verdicts(known: Iterable[Claim], record: Record) -> str:
    lines = []
    for claim in known:
        names = [COUNTED] if claim.facts else []
        names += [*claim.data, *_run_on(claim, record)]
        for name in dict.fromkeys(names):
            lines.append(_line(claim, name, record.results.get(f"{claim.key} {name}")))
    return _table(("", "data", "seeds", "verdict", "looks at the test images", "command"), lines)


def _run_on(claim: Claim, record: Record) -> list[str]:
    """Data sets that there are results of."""
    names = [key.removeprefix(f"{claim.key} ") for key in record.results if key.startswith(f"{claim.key} ")]
    return [name for name in names if name != COUNTED]


def _line(claim: Claim, name: str, found: dict | None) -> list[str]:
    if found is None:
        count = SEEDS * len({side.training for row in claim.rows for side in row.sides})
        why = NOT_RUN if name == COUNTED else f"{NOT_RUN}: {count} trainings"
        return [claim.key, name, "", why, "", f"`{default_command(claim, name)}`"]
    counts = ("", "") if name == COUNTED else (str(len(found["seeds"])), str(found["looks"]))
    return [claim.key, name, counts[0], f"**{found['verdict']}**", counts[1], f"`{found['command']}`"]


def default_command(claim: Claim, name: str) -> str:
    """What runs a claim on a data set."""
    if name == COUNTED:
        return f"tools/claims.py {claim.key} --facts"
    return f"tools/claims.py {claim.key} --data {name} --seeds {SEEDS}"


def _rows(known: Iterable[Claim], record: Record) -> str:
    lines = []
    for claim in known:
        for key, found in record.results.items():
            if key.split()[0] == claim.key:
                lines += [_row(key, row, found) for row in found["rows"]]
    titles = ("row", "kind", "favoured", "points", "other", "points", "difference", "interval", "verdict", "hours")
    return _table(titles, lines) if lines else "Nothing yet.\n"


def _row(key: str, row: dict, found: dict) -> list[str]:
    if row["kind"] == FACT:
        within = f"{row['low']:g} to {row['high']:g} {row['unit']}"
        return [key, FACT, row["title"], f"{row['value']:.3f}", within, "", "", "", row["verdict"], ""]
    values = [sum(row[name]) / len(row[name]) for name in ("favoured_values", "other_values")]
    ends = "-" if row["low"] is None else f"{row['low']:+.2f} to {row['high']:+.2f}"
    cells = [key, row["kind"], row["favoured"], f"{values[0]:.2f}", row["other"], f"{values[1]:.2f}"]
    return [*cells, f"{row['mean']:+.2f}", ends, row["verdict"], f"{hours(found):.2f}"]


def hours(found: dict) -> float:
    """What the trainings of a result took; those that several claims share count in each."""
    seconds = (time for runs in found["seconds"].values() for stages in runs for time in stages.values())
    return sum(seconds) / 3600


def _choices(record: Record) -> str:
    if not record.choices:
        return "Nothing yet: rows take the recipes as they are.\n"
    lines = [
        (key, family, ", ".join(f"{name} {value:.2f}" for name, value in one["tries"].items()), one["taken"]["name"])
        for key, families in record.choices.items()
        for family, one in families.items()
    ]
    return _table(("system and data", "recipe of", "tried: mAP on held-out training images", "taken"), lines)
