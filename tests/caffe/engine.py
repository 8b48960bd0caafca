"""The settings of CAFFE_ENGINE under test, and a child process for each that runs cases.

Beside the settings of the engine, children run stock Caffe with other BLAS kernels,
which says how much rounding alone may change.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PARTS = ("elementwise", "onednn", "grouped", "fusion", "memory", "recurrent", "large", "winograd")
STOCK, ALL = "stock", "all"
ROOT = Path(__file__).resolve().parents[2]
THREADS = 2  # so that what the parts do with several threads is under test, too
_ASK = "import json, caffe; print(json.dumps(list(caffe.engine_parts()) if hasattr(caffe, 'engine_parts') else None))"
# Kernels of OpenBLAS that differ in how they sum, from new to old, and what each needs of the processor.
KERNELS = {"SkylakeX": "avx512f", "Haswell": "avx2", "Sandybridge": "avx", "Nehalem": "sse4_2", "Prescott": "sse3"}
_KERNEL = (
    "import caffe; from pysrn.report.setup_report import describe_blas; "
    "print(describe_blas(caffe._caffe.__file__, True, []).get('kernel', ''))"
)


@dataclass(frozen=True)
class Result:
    """What a child left: the numbers of each case, or its last words for a case that ended it."""

    numbers: dict[str, dict[str, np.ndarray]]
    failures: dict[str, str]


def environment(setting: str, kernel: str | None = None) -> dict[str, str]:
    """Of a child. `setting`: a value of CAFFE_ENGINE, or `all` for its absence."""
    found = {name: value for name, value in os.environ.items() if name not in ("CAFFE_ENGINE", "OPENBLAS_CORETYPE")}
    found |= {"GLOG_minloglevel": "2", "OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "passive"}
    if setting != ALL:
        found["CAFFE_ENGINE"] = setting
    if kernel is not None:
        found["OPENBLAS_CORETYPE"] = kernel
    return found


def engine_parts(setting: str = ALL) -> list[str] | None:
    """The parts that a process with this setting uses; None: this Caffe has no speed patches."""
    return json.loads(_python(environment(setting), "-c", _ASK))


def other_kernels() -> list[str]:
    """Three kernels of OpenBLAS besides the one that this machine uses: those next below it, else next above it.

    Above: on a processor that OpenBLAS does not know it takes the oldest.
    """
    own = _python(environment(STOCK), "-c", _KERNEL).strip()
    known = {"Zen": "Haswell", "Cooperlake": "SkylakeX", "Sapphirerapids": "SkylakeX"}.get(own, own)
    if known not in KERNELS:
        return []
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii").replace("pni", "sse3").split()  # Linux's word for it
    able, place = [name for name, flag in KERNELS.items() if flag in flags], list(KERNELS).index(known)
    below = [name for name in able if list(KERNELS).index(name) > place]
    above = [name for name in reversed(able) if list(KERNELS).index(name) < place]
    return [*below, *above][:3]


def run_cases(folder: Path, module: str, cases: Sequence[str], setting: str, kernel: str | None = None) -> Result:
    """Run cases of `tests.caffe.<module>` in a child; after one that ends the child the others go on in a new one."""
    folder.mkdir()
    result, pending = Result({}, {}), list(cases)
    while pending:
        command = [sys.executable, "-m", "tests.caffe.running", str(folder), module, *pending]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(setting, kernel))
        for case in list(pending):
            path = folder / f"{case}.npz"
            if not path.is_file():
                break
            with np.load(path) as stored:
                result.numbers[case] = dict(stored)
            path.unlink()
            pending.remove(case)
        if pending:
            result.failures[pending.pop(0)] = f"exit code {done.returncode}: {done.stderr[-1500:]}"
    return result


def _python(environment_of_child: dict[str, str], *words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, env=environment_of_child)
    if done.returncode:
        raise RuntimeError(done.stderr[-800:])
    return done.stdout
