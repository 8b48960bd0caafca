"""No bytes make a reader fail otherwise than by a refusal: inputs that fuzzing found, and bytes changed at random."""

from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.readers import READERS, prepared

INPUTS = Path(__file__).parent / "inputs"
CHANGED = 60  # inputs a reader; tests/fuzz/fuzz.py tries millions


def changed(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes flipped, cut out, repeated or taken from elsewhere in the content."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        at, other = (int(number) for number in rng.integers(len(data), size=2))
        length = int(rng.integers(1, 9))
        kind = rng.integers(4)
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[other : other + length]
        else:
            data[at : at + length] = rng.integers(256, size=length, dtype=np.uint8).tobytes()
    return bytes(data)


@pytest.mark.parametrize("name", sorted(READERS))
def test_whole_files_are_taken_and_changed_ones_refused_or_taken(name, tmp_path):
    rng = np.random.default_rng(0)
    with prepared(name, tmp_path) as (reader, folder):
        seeds = reader.seeds()
        assert all(reader(seed, folder) for seed in seeds)
        taken = [reader(changed(seeds[number % len(seeds)], rng), folder) for number in range(CHANGED)]
    assert not all(taken)


@pytest.mark.parametrize("path", sorted(INPUTS.glob("*")), ids=lambda path: path.name[:40])
def test_what_once_failed_is_refused_or_taken(path, tmp_path):
    with prepared(path.name.partition("-")[0], tmp_path) as (reader, folder):
        reader(path.read_bytes(), folder)
