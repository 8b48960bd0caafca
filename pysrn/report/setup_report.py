"""What this installation consists of and what it lacks: Caffe, BLAS, machine, Python packages, data folders.

Used by tools/check_setup.py. Everything is asked of the thing itself (the loaded library, the layer registry,
the installed packages), not of the files it was made from.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from pysrn.console import MissingError
from pysrn.nets.in_caffe import check_gpu, engine_in_use

# Types in the checked-in prototxt files, and Data, which the nets for plain `caffe train` read with.
LAYER_TYPES = (
    "ArgMax", "BatchNorm", "BatchReindex", "Bias", "Concat", "Convolution", "Data", "Dropout", "ELU", "Eltwise",
    "Embed", "Flatten", "InnerProduct", "Input", "LSTM", "Parameter", "Pooling", "Power", "Python", "ReLU", "Reduction",
    "Reshape", "Scale", "Sigmoid", "SigmoidCrossEntropyLoss", "Slice", "Softmax", "SoftmaxWithLoss", "TanH", "Tile",
)  # fmt: skip
# OpenBLAS kernels without AVX2: what a version falls back on that does not know the processor
OLD_KERNELS = {"Prescott", "Core2", "Penryn", "Dunnington", "Nehalem", "Atom", "Sandybridge"}
OPENBLAS_THREADS = {0: "none", 1: "pthreads", 2: "OpenMP"}  # openblas_get_parallel()
# Linux's setting of pages of 2 MB; in it the chosen word is in brackets
LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
CURE = "docker/local tools/check_setup.py"  # makes the environment, then reports on it

Report = dict[str, Any]


def collect(data_folder: Path) -> Report:
    """Return the whole report; what is needed and not there is listed under `missing` as {what, cure}.

    `notes` holds remarks on what works but not as well as it could. `data_folder` is where the data sets lie.
    """
    missing: list[dict[str, str]] = []
    notes: list[str] = []
    report: Report = {
        "machine": describe_machine(),
        "caffe": None,
        "layers": None,
        "blas": None,
        "packages": describe_packages(missing),
        "data": describe_data(data_folder),
    }
    try:
        import caffe
    except ImportError as error:
        missing.append({"what": f"Caffe: `import caffe` says: {error}", "cure": CURE})
    else:
        report["caffe"] = describe_caffe(caffe, missing)
        if report["caffe"].get("build", {}).get("cuda"):
            try:
                check_gpu(0)
            except MissingError as error:
                aside = "computing on the CPU works (in a container a GPU must be asked for: --gpus all)"
                notes.append(f"{error}; {aside}")
        report["layers"] = describe_layers(caffe.layer_type_list(), missing)
        report["blas"] = describe_blas(caffe._caffe.__file__, report["machine"]["avx2"], notes)
        if report["machine"]["large_pages"] == "never":
            notes.append(f"the system gives no pages of 2 MB: Caffe is slower; as root: echo madvise >{LARGE_PAGES}")
    return {**report, "notes": notes, "missing": missing}


def describe_machine() -> Report:
    """Return system, processor, usable cores, free memory, and the NVIDIA devices ([] if there are none)."""
    processor = _lines_with_colon(Path("/proc/cpuinfo"))
    memory = _lines_with_colon(Path("/proc/meminfo")).get("MemAvailable", "0 kB")
    return {
        "system": _system(),
        "cpu": processor.get("model name", platform.machine()),
        "avx2": "avx2" in processor.get("flags", "").split(),
        "cores": len(os.sched_getaffinity(0)),
        "free_memory_gb": round(int(memory.split()[0]) / 2**20, 1),
        "large_pages": large_pages(),
        "gpus": list_gpus(),
    }


def large_pages(setting: Path = LARGE_PAGES) -> str:
    """Return who gets pages of 2 MB: `always`, `madvise` (who asks, as our Caffe does), `never`, or `unknown`."""
    try:
        chosen = re.search(r"\[(\w+)\]", setting.read_text())
    except OSError:
        chosen = None
    return chosen[1] if chosen else "unknown"


def list_gpus() -> list[str]:
    """Return one line (name, memory, driver) for each device that nvidia-smi knows."""
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return answer.stdout.splitlines() if answer.returncode == 0 else []


def describe_caffe(caffe: Any, missing: list[dict[str, str]]) -> Report:
    """Return Caffe's version, place, engine parts in use, and what docker/caffe/build.sh recorded of its build."""
    package = Path(caffe.__file__).resolve().parent
    found: Report = {"version": caffe.__version__, "package": str(package), "command": shutil.which("caffe")}
    found["engine"] = list(engine_in_use())
    if found["command"] is None:
        missing.append({"what": "the command `caffe` in PATH", "cure": CURE})
    # PREFIX/lib/python3/dist-packages/caffe, written by docker/caffe/build.sh
    record = package.parents[3] / "caffe-build.json"
    if record.is_file():
        found["build"] = json.loads(record.read_text())
    else:
        missing.append({"what": f"the record of Caffe's build: no file {record}", "cure": CURE})
    return found


def describe_layers(registered: list[str], missing: list[dict[str, str]]) -> Report:
    """Compare Caffe's layer registry with the types that our nets use."""
    lacking = sorted(set(LAYER_TYPES) - set(registered))
    if lacking:
        missing.append({"what": f"layer types in this Caffe: {', '.join(lacking)}", "cure": CURE})
    return {"registered": sorted(registered), "needed": list(LAYER_TYPES), "missing": lacking}


def describe_blas(extension: str, avx2: bool, notes: list[str]) -> Report:
    """Ask the BLAS library that Caffe (pycaffe's file `extension`) calls for its kernel and threads."""
    library = ctypes.CDLL(extension)
    try:
        get_config = library.openblas_get_config
    except AttributeError:
        return {"library": "not OpenBLAS"}
    get_config.restype = library.openblas_get_corename.restype = ctypes.c_char_p
    kernel = library.openblas_get_corename().decode()
    if avx2 and kernel in OLD_KERNELS:
        notes.append(f"OpenBLAS uses its kernel {kernel}, slow on this processor: a newer OpenBLAS knows it")
    return {
        "library": _file_at_address(ctypes.cast(get_config, ctypes.c_void_p).value or 0),
        "config": get_config().decode(),
        "kernel": kernel,
        "parallel": OPENBLAS_THREADS.get(library.openblas_get_parallel(), "unknown"),
        "threads": library.openblas_get_num_threads(),
    }


def describe_packages(missing: list[dict[str, str]], distribution: str = "pysrn") -> list[Report]:
    """Return name, wanted range and version of every Python package that setup.py names.

    A package of an extra (`torch`, `test`) may be absent; one with a version outside its range may not.
    """
    try:
        requirements = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        missing.append({"what": f"the Python package {distribution} is not installed here", "cure": CURE})
        return []
    rows = []
    for requirement in map(Requirement, requirements):
        extra = str(requirement.marker or "").partition("extra == ")[2].strip('"')
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        name, wanted = requirement.name, str(requirement.specifier)
        rows.append({"name": name, "wanted": wanted, "version": version, "extra": extra})
        if version is None and not extra:
            missing.append({"what": f"Python package {name} {wanted}: not installed", "cure": CURE})
        elif version is not None and not requirement.specifier.contains(version, prereleases=True):
            missing.append({"what": f"Python package {name} {wanted}: {version} is installed", "cure": CURE})
    return rows


def describe_data(folder: Path) -> list[Report]:
    """Return the LMDB pairs in `folder`: data set, number of classes, samples in each split."""
    rows = []
    for manifest in sorted(folder.glob("*/manifest.json")):
        try:
            content = json.loads(manifest.read_text())
            samples = {split: entry["count"] for split, entry in content["splits"].items()}
            classes = len(content["classes"])
        except (ValueError, LookupError, TypeError, AttributeError):
            rows.append({"folder": str(manifest.parent), "error": f"{manifest.name} cannot be read"})
            continue
        rows.append({"folder": str(manifest.parent), "classes": classes, "samples": samples})
    return rows


def as_text(report: Report) -> str:
    """Return the report as lines for a person."""
    machine, caffe, layers, blas = (report[part] for part in ("machine", "caffe", "layers", "blas"))
    lines = [
        f"system    {machine['system']}",
        f"CPU       {machine['cpu']}, {machine['cores']} cores, {machine['free_memory_gb']} GB memory free",
        f"pages     of 2 MB: {machine['large_pages']}",
        f"GPU       {'; '.join(machine['gpus']) or 'none'}",
    ]
    if caffe:
        build = caffe.get("build", {})
        cuda = build.get("cuda")
        kind = f"with CUDA for {', '.join(cuda['architectures'])}" if cuda else "CPU only"
        commit = f", commit {build['commit']}, {kind}" if build else ""
        lines += [f"Caffe     {caffe['version']}{commit}", f"          {caffe['package']}"]
        lines += [f"  patch   {name}" for name in build.get("patches", [])]
        lines.append(f"engine    {', '.join(caffe['engine']) or 'stock'} (CAFFE_ENGINE)")
        registered, needed = len(layers["registered"]), len(layers["needed"])
        there = needed - len(layers["missing"])
        lines.append(f"layers    {registered} types; of the {needed} that the nets use {there} are there")
        lines.append(f"BLAS      {blas['library']}")
        if "kernel" in blas:
            lines.append(f"          kernel {blas['kernel']}, {blas['threads']} threads ({blas['parallel']})")
    lines.append(f"Python    {platform.python_version()}")
    lines += [
        f"  {row['name']:<23} {row['version'] or 'not installed':<14} {row['wanted']}"
        + (f"  (extra `{row['extra']}`)" if row["extra"] else "")
        for row in report["packages"]
    ]
    for row in report["data"]:
        counts = ", ".join(f"{split} {count}" for split, count in row.get("samples", {}).items())
        lines.append(f"data      {row['folder']}: {row.get('error') or counts}")
    if not report["data"]:
        lines.append("data      none yet (tools/demo.py and tools/run_stage.py make `shapes` themselves)")
    return "\n".join(lines)


def _system() -> str:
    """Return the distribution's name and release; the kernel's where there is no distribution around."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _lines_with_colon(path: Path) -> dict[str, str]:
    """Return the `name : value` lines of a /proc file, the first of each name."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found


def _file_at_address(address: int) -> str:
    """Return the file that is mapped at a memory address of this process."""
    maps = Path("/proc/self/maps")
    for line in maps.read_text().splitlines() if maps.is_file() else []:
        span, *_, name = line.split(maxsplit=5)
        first, last = (int(part, 16) for part in span.split("-"))
        if first <= address < last:
            return name
    return "unknown"
