"""Building databases: our pair writer against Caffe's own `convert_imageset`, each in a process of its own.

Both read the same list of files from the page cache, warp bilinearly to the same square and store JPEG of quality 95
(that of `convert_imageset` is OpenCV's default). Ours writes the labels, the manifest and the keys in shuffled order,
too. Run as `python -m pysrn.benchmark.data.building PHOTOS OUT THREADS` it is our contestant.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import lmdb

from pysrn.benchmark.data.material import LIST, read_samples
from pysrn.benchmark.timing import alternate, summary
from pysrn.console import MissingError, SrnError
from pysrn.data.pair.encoding import Encoding
from pysrn.data.pair.lmdb_file import pair_paths
from pysrn.data.pair.pair_writer import write_pair
from pysrn.recipes import STORED_SIZE, class_names

OURS, PEER = "pysrn", "convert_imageset"
LABELS = "coco"  # whose class names the databases get
SPLIT = "train"
STORED = {name: Encoding(name, quality=95, interpolation="linear") for name in ("jpeg", "raw")}  # as the peer does


def compare_building(photos: Path, work: Path, rounds: int, threads: int) -> dict:
    """Images/s of both. Raises MissingError without `convert_imageset`, SrnError when one of them fails."""
    program = shutil.which(PEER)
    if program is None:
        raise MissingError(f"{PEER} is not in PATH", "docker/local tools/benchmark.py data")
    count = len((photos / LIST).read_text(encoding="utf-8").splitlines())
    for path in photos.iterdir():
        path.read_bytes()  # into the page cache

    def ours() -> float:
        out = work / "ours"
        command = [sys.executable, "-m", "pysrn.benchmark.data.building", str(photos), str(out), str(threads)]
        return count / _timed(command, out, pair_paths(out, SPLIT)[0], count)

    def peer() -> float:
        out = work / "peer"
        return count / _timed(peer_command(program, photos, out), out, out, count)

    return summary(alternate({OURS: ours, PEER: peer}, rounds), OURS) | {"images": count, "threads": threads}


def peer_command(program: str, photos: Path, out: Path) -> list[str]:
    """The command line of `convert_imageset`."""
    size = [f"-resize_height={STORED_SIZE}", f"-resize_width={STORED_SIZE}"]
    return [program, *size, "-encoded", "-encode_type=jpg", f"{photos}/", str(photos / LIST), str(out)]


def run(command: list[str]) -> None:
    """Run a builder. Raises SrnError with its last words when it fails."""
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SrnError(f"{Path(command[0]).name} ended with exit code {done.returncode}: {done.stderr[-500:]}")


def _timed(command: list[str], out: Path, database: Path, count: int) -> float:
    """Seconds of a command that fills `database` with `count` records. What it wrote is removed."""
    started = time.perf_counter()
    run(command)
    seconds = time.perf_counter() - started
    with lmdb.open(str(database), readonly=True, lock=False) as environment:
        entries = environment.stat()["entries"]
    shutil.rmtree(out)
    if entries != count:
        raise SrnError(f"{Path(command[0]).name} wrote {entries} of {count} records")
    return seconds


def build(photos: Path, out: Path, labels: str, encoding: str, threads: int | None = None) -> None:
    """Build the pair of the listed photos with the classes of the data set `labels`."""
    classes = class_names(labels)
    samples = read_samples(photos, len(classes))
    write_pair(samples, out, SPLIT, classes, 0, dataset=labels, encoding=STORED[encoding], workers=threads)


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]), LABELS, "jpeg", int(sys.argv[3]))
