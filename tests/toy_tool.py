"""A tool of the package in a process of its own, with the system `tests/systems/toy.py` beside the package's."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def start(name: str, *words: object) -> subprocess.Popen:
    """Start tools/<name>.py; it and all that it starts are one process group."""
    own = {"PYSRN_SYSTEMS": "tests.systems.toy", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "tools" / f"{name}.py", *words]
    return subprocess.Popen(list(map(str, command)), env=os.environ | own, start_new_session=True)
