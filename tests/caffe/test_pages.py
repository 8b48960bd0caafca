"""Larger arrays of a net lie in pages of 2 MB, where the system gives them."""

import os
import subprocess
import sys

import pytest

from pysrn.report.setup_report import large_pages
from tests.caffe import engine

FILLS_64_MB = """
import re
from pathlib import Path
from tests.caffe.running import build, text_net

def huge():
    return int(re.search("AnonHugePages: *([0-9]+) kB", Path("/proc/self/smaps_rollup").read_text())[1]) / 1024

before = huge()
net = build(text_net("", data=(16, 1 << 20)), "test")
net.blobs["data"].data[...] = 1
print(huge() - before)
"""


def huge_megabytes(setting: str) -> float:
    """How much of a net with an array of 64 MB lies in such pages."""
    command = [sys.executable, "-c", FILLS_64_MB]
    environment = engine.environment(setting)
    done = subprocess.run(command, env=environment, cwd=engine.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout)


def test_arrays_lie_in_large_pages(parts):
    chosen = large_pages()
    if chosen not in ("always", "madvise"):
        pytest.skip("the system gives no pages of 2 MB")
    if "memory" not in parts or "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("no part memory, or a sanitizer's memory")
    # Single pages may be small ones, where memory is in pieces.
    assert huge_megabytes(engine.ALL) >= 32
    if chosen == "madvise":
        assert huge_megabytes(engine.STOCK) < 2
