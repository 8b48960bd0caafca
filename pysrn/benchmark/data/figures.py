"""All figures of the data room in one run: building, feeding, and waiting for data in training.

`tools/benchmark.py data` prints what this returns. Everything is made in a folder given and may be deleted after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pysrn.benchmark.data.building import SPLIT, build, compare_building, copy_photos, make_photos, write_list
from pysrn.benchmark.data.feeding import compare_feeding
from pysrn.benchmark.data.waiting import measure_waiting
from pysrn.benchmark.timing import summary_lines
from pysrn.recipes import class_names

PARTS = ("build", "feed", "wait")
# What is trained on a CPU: (data set, batch size or the recipe's own, steps a round)
NETS = (("coco", 4, 1), ("shapes", None, 10))  # assumed: 4 is what fits a laptop; a round takes some seconds


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    images: int = 1000
    rounds: int = 7
    batch_size: int = 16
    batches: int = 20  # of a round of feeding
    workers: tuple[int, ...] = (1, 2)
    threads: int = 2  # of building
    parts: tuple[str, ...] = PARTS
    nets: tuple[tuple[str, int | None, int], ...] = NETS


def measure(plan: Plan, work: Path, images: Path | None = None, data: Path | None = None) -> Iterator[tuple[str, dict]]:
    """Yield (title, figures) as they come; `work` is a folder that is there.

    `images`: photos to build from in place of made ones. `data`: an LMDB pair whose `train` split is fed in place of
    the two made here.
    """
    photos = work / "photos"
    if images is None:
        make_photos(photos, plan.images)
    else:
        copy_photos(images, photos, plan.images)
    write_list(photos, len(class_names("shapes")))
    if "build" in plan.parts:
        yield "building, images/s", compare_building(photos, work, plan.rounds, plan.threads)
    if "feed" in plan.parts:
        for title, folder in _pairs_to_feed(photos, work, data).items():
            for workers in plan.workers:
                found = compare_feeding(folder, SPLIT, plan.batch_size, workers, plan.batches, plan.rounds)
                yield f"feeding from {title}, {workers} worker{'s' if workers > 1 else ''}, images/s", found
    if "wait" in plan.parts:
        for dataset, batch_size, steps in plan.nets:
            folder = work / f"pair_{dataset}"
            build(photos, folder, dataset, "jpeg")
            settings = {"steps": steps, "rounds": plan.rounds, "batch_size": batch_size}
            yield f"waiting for data, {dataset}", measure_waiting(dataset, folder, **settings)


def report_lines(title: str, figures: dict) -> list[str]:
    """The lines that say what was measured."""
    if "waited_share" in figures:
        step, constant = figures["step_seconds"], figures["constant_step_seconds"]
        return [
            f"{title} ({figures['net']}, batch {figures['batch_size']})",
            f"  a step takes {step:.3f} s, of which {1000 * figures['waited_seconds']:.2f} ms are spent waiting: "
            f"{figures['waited_share']:.2%}",
            f"  with constant data it takes {constant:.3f} s: {figures['slowdown'] - 1:+.1%} with the real data layer",
        ]
    return [title, *summary_lines(figures, digits=1, ratio_digits=2)]


def _pairs_to_feed(photos: Path, work: Path, data: Path | None) -> dict[str, Path]:
    if data is not None:
        return {data.name: data}
    pairs = {encoding: work / f"pair_{encoding}" for encoding in ("jpeg", "raw")}
    for encoding, folder in pairs.items():
        build(photos, folder, "coco", encoding)
    return pairs
