"""A million records, predicted in parts and joined: each once, with the memory that ten thousand take."""

import contextlib
import time
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from pysrn.benchmark.whole_process import family
from pysrn.data.build import build_dataset
from pysrn.data.pair.encoding import Encoding
from pysrn.data.pair.lmdb_file import pair_paths
from pysrn.data.pair.pair_writer import write_pair
from pysrn.data.readers.records import Sample
from pysrn.predict.columns import read_columns
from pysrn.recipes import class_names
from tests.systems.toy import STORED
from tests.toy_tool import start

FEW, MANY, PARTS, AT_ONCE = 10_000, 1_000_000, 4, 2
LABELS = class_names("shapes")
PICTURES = 64  # that all records show
GROWTH = 1.1  # assumed


def write_records(folder: Path, count: int) -> None:
    """A pair of so many records that show a few pictures."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    pictures = [folder / f"{number}.png" for number in range(PICTURES)]
    for path in pictures:
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (16, 16)))
    labels = np.where(rng.random((PICTURES, len(LABELS))) < 0.3, 1, -1).astype(np.int8)
    numbers = [number % PICTURES for number in range(count)]
    samples = [Sample(f"{at}", pictures[number], labels[number]) for at, number in enumerate(numbers)]
    encoding = Encoding(quality=50, size=STORED)
    write_pair(samples, folder / "data", "test", LABELS, 0, dataset="own", encoding=encoding)


def own_memory(processes) -> int:
    """Bytes that these processes hold for themselves: a database's pages are the system's, which takes them back."""
    found = 0
    for process in processes:
        with contextlib.suppress(OSError):
            rows = Path(f"/proc/{process}/status").read_text().splitlines()
            sizes = dict(row.split(":", 1) for row in rows)
            found += sum(int(sizes[name].split()[0]) for name in ("RssAnon", "RssShmem") if name in sizes)
    return found * 1024


def peak_of(*commands) -> int:
    """The most that any of these commands holds until all of them have ended well."""
    most = 0
    try:
        while any(command.poll() is None for command in commands):
            time.sleep(0.05)
            most = max(most, *(own_memory(family(command.pid)) for command in commands))
    finally:
        for command in commands:
            command.kill()  # of one that has ended: nothing
    assert not any(command.returncode for command in commands)
    return most


@pytest.mark.slow
def test_memory_does_not_grow_with_the_records(tmp_path):
    counts = {"train": 16, "test": 4}
    build_dataset("shapes", tmp_path / "shapes", counts=counts, encoding=Encoding(size=STORED), workers=1)
    run = ("--system", "toy", "--data", tmp_path / "shapes", "--runs", tmp_path / "runs", "--iterations", 2)
    assert start("run_stage", *run, "--workers", 1).wait() == 0

    predicting, joining = {}, {}
    for count in (FEW, MANY):
        place = tmp_path / str(count)
        write_records(place, count)
        words = ("predict", "--run", tmp_path / "runs/toy-shapes", "--data", place / "data", "-o", place / "p.npz")
        began = time.monotonic()
        rounds = [range(first, first + AT_ONCE) for first in range(1, PARTS + 1, AT_ONCE)]
        peaks = [peak_of(*(start(*words, "--part", f"{one}/{PARTS}") for one in some)) for some in rounds]
        predicting[count] = max(peaks)
        seconds = time.monotonic() - began
        joining[count] = peak_of(start("predict", "--join", "-o", place / "p.npz"))
        megabytes = [peaks[count] / 1e6 for peaks in (predicting, joining)]
        print(f"{count} records: {seconds:.0f} s, {megabytes[0]:.0f} MB a part, {megabytes[1]:.0f} MB to join")

        columns, images = read_columns(place / "p.npz")[1], pair_paths(place / "data", "test")[0]
        with lmdb.open(str(images), readonly=True, lock=False) as environment, environment.begin() as transaction:
            stored = (key.decode() for key in transaction.cursor().iternext(values=False))
            assert sum(key == other for key, other in zip(columns["keys"].texts(), stored, strict=True)) == count
    assert predicting[MANY] < GROWTH * predicting[FEW]
    assert joining[MANY] < GROWTH * joining[FEW]
