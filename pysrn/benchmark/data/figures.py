"""All figures of the data room in one run: building, feeding, and waiting for data in training.

`tools/benchmark.py data` prints what this returns. Everything is made in a folder given and may be deleted after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pysrn.benchmark.data.building import SPLIT, build, compare_building, copy_photos, make_photos, write_list
from pysrn.benchmark.data.feeding import compare_feeding
from pysrn.benchmark.data.waiting import measure_waiting
from pysrn.benchmark.timing import summary_lines
from pysrn.recipes import class_names

PARTS = ("build", "feed", "wait")
# What is trained on a CPU: (data set, batch size or the recipe's own, steps a round)
NETS = (("coco", 4, 1), ("shapes", None, 10))  # assumed: 4 is what fits a laptop; a round takes some seconds
BATCH_SIZE, BATCHES = 16, 20  # of a round of feeding
WORKERS = (1, 2)  # of feeding
THREADS = 2  # of building


def measure(
    work: Path, count: int, rounds: int, parts: Sequence[str], images: Path | None, data: Path | None
) -> Iterator[tuple[str, dict]]:
    """Yield (title, figures) as they come; `work` is a folder that is there, `count` how many images are built from.

    `images`: photos to build from in place of made ones. `data`: an LMDB pair whose `train` split is fed in place of
    the two made here.
    """
    photos = work / "photos"
    if images is None:
        make_photos(photos, count)
    else:
        copy_photos(images, photos, count)
    write_list(photos, len(class_names("shapes")))
    if "build" in parts:
        yield "building, images/s", compare_building(photos, work, rounds, THREADS)
    if "feed" in parts:
        pairs = {encoding: work / f"pair_{encoding}" for encoding in ("jpeg", "raw")}
        for encoding, folder in pairs.items() if data is None else ():
            build(photos, folder, "coco", encoding)
        for title, folder in (pairs if data is None else {data.name: data}).items():
            for workers in WORKERS:
                found = compare_feeding(folder, SPLIT, BATCH_SIZE, workers, BATCHES, rounds)
                yield f"feeding from {title}, {workers} worker{'s' if workers > 1 else ''}, images/s", found
    if "wait" in parts:
        for dataset, batch_size, steps in NETS:
            folder = work / f"pair_{dataset}"
            build(photos, folder, dataset, "jpeg")
            settings = {"steps": steps, "rounds": rounds, "batch_size": batch_size}
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
