"""A bit that turns over in a file is found, or changes nothing that is read."""

import os
import signal

import numpy as np
import pytest

from pysrn.console import SrnError
from tests.faults.bit_flips import KINDS

REFUSED, SAME, OTHER = range(3)


def read_in_child(kind, folder, wanted) -> int:
    """A process of its own for each try: reading a database whose tree is damaged may end it, as `--verify` says."""
    child = os.fork()
    if child == 0:
        result = OTHER
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            result = SAME if kind.read(folder) == wanted else OTHER
        except SrnError:
            result = REFUSED
        finally:
            os._exit(result)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)
        return REFUSED
    return os.WEXITSTATUS(status)


@pytest.mark.parametrize("tries", [25, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_turned_bit_is_found_or_changes_nothing(name, tries, tmp_path):
    kind, rng = KINDS[name], np.random.default_rng(tries)
    kind.make(tmp_path)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size)
    whole = {path: path.read_bytes() for path in files}
    wanted, counts = kind.read(tmp_path), {REFUSED: 0, SAME: 0}
    for number in range(tries):
        path = files[number % len(files)]
        content = bytearray(whole[path])
        at = int(rng.integers(len(content)))
        content[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        found = read_in_child(kind, tmp_path, wanted)
        assert found in counts, f"{path.name}, byte {at}, {whole[path][at]} as {content[at]}: other values are taken"
        counts[found] += 1
        for each, bytes_ in whole.items():  # a cache mends itself
            each.write_bytes(bytes_)
    print(f"{name}: {tries} bits of {len(files)} files: {counts[REFUSED]} found, {counts[SAME]} without consequence")
    assert counts[REFUSED] or name == "features"
