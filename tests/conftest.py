"""Fixtures that more than one room uses."""

import os
import signal
from pathlib import Path

import pytest

# `pytest -n N`: each of the N processes takes its share of the cores. OpenMP reads this once, when it is loaded.
if processes := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // int(processes))))

from tests.small_model import shapes_folder, shapes_model  # noqa: F401

# A shell starts jobs in the background with Ctrl-C ignored, and what the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real images, label lists and ImageNet weights; not part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no ../shared/data: real images and weights are not on this machine")
    return SHARED_DATA
