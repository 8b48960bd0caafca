#!/usr/bin/env python3
"""Makes what an earlier version left on the disk: `earlier_version.tar.xz` and `expected.json`.

Run once, in a clone at the commit that the data are to be of; `expected.json` names it. It is kept to show where the
data come from, not to be run again: data of a later version would prove nothing about the earlier one.

    docker/local tests/data/earlier_version/make.py FOLDER      FOLDER: an empty one, to work in

Only command lines and file formats are used here, nothing of pysrn. All paths are relative, so that the run folders
say nothing of the machine. Two runs of a user's own images, both with a finished stage 1 and a begun stage 2:

    paper      rate by plateau, features kept on the disk
    released   rate by steps, features computed
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
from caffe.proto import caffe_pb2

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
ARCHIVE, EXPECTED = HERE / "earlier_version.tar.xz", HERE / "expected.json"
VARIANTS = ("paper", "released")
LABELS = ("bar", "disc", "box")
COUNTS = {"train": 8, "test": 4}
WIDTH = 8  # of the heads' hidden layers: no option sets it, run.json has it
COMMON = ("--dataset", "folder", "--trunk", "resnet14", "--from-scratch", "--batch-size", "2")
COMMON += ("--iterations", "6,40,4,4", "--validation-fraction", "0.25", "--seed", "3")
COMMON += ("--base-lr", "0.01,0.001,0.001,0.001")  # low ones, so that other rounding does not grow into other weights
OPTIONS = {
    "paper": ("--schedule", "plateau", "--validate-every", "7", "--patience", "2", "--views", "1"),
    "released": ("--schedule", "multistep", "--drops", "0.5,0.8"),
}
CACHE = {"paper": ("--cache-features", "fp32"), "released": ()}
STOP_AFTER = 12  # iterations of stage 2


def layers_of(path: Path) -> dict[str, list[np.ndarray]]:
    """Layer name -> blobs of a caffemodel."""
    net = caffe_pb2.NetParameter.FromString(path.read_bytes())
    return {
        layer.name: [np.array(blob.data, np.float32).reshape(tuple(blob.shape.dim)) for blob in layer.blobs]
        for layer in net.layer
        if layer.blobs
    }


def weights_digest(layers: dict[str, list[np.ndarray]]) -> str:
    """SHA-256 of names, shapes and values, whatever the order of the layers in the file."""
    digest = hashlib.sha256()
    for name in sorted(layers):
        for blob in layers[name]:
            digest.update(f"{name} {blob.shape}\n".encode())
            digest.update(blob.tobytes())
    return digest.hexdigest()


def rounding() -> dict[str, str]:
    """What decides how sums are rounded: processor, BLAS kernel, Caffe with its patches and engine, OpenCV."""
    text = tool("check_setup", check=False).stdout
    words = [line.split() for line in text.splitlines() if line.strip()]
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line for line in cpuinfo if line.startswith("flags")), "")
    caffe = [" ".join(line) for line in words if line[0] in ("Caffe", "patch", "engine")]
    return {
        "cpu_flags": hashlib.sha256(flags.encode()).hexdigest()[:16],
        "blas_kernel": next((line[1].rstrip(",") for line in words if line[0] == "kernel"), ""),
        "caffe": hashlib.sha256("\n".join(caffe).encode()).hexdigest()[:16],
        "opencv": cv2.__version__,
    }


def tool(name: str, *arguments, check: bool = True, wait: bool = True, cwd: Path | None = None):
    """Call tools/NAME.py as a user would, on one thread."""
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment, "cwd": cwd}
    if not wait:
        return subprocess.Popen(command, **options)
    done = subprocess.run(command, **options, timeout=300)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(command[1:])}: {done.stderr}")
    return done


def draw_images(root: Path) -> None:
    """Images with flat areas, whose features repeat and so need little room when packed."""
    random = np.random.default_rng(1)
    for split, count in COUNTS.items():
        rows = ["file," + ",".join(LABELS)]
        for number in range(count):
            image = np.full((64, 64, 3), random.integers(0, 256, 3), np.uint8)
            there = [(number >> bit) & 1 for bit in range(3)]
            if there[0]:
                cv2.rectangle(image, (0, 24), (63, 39), random.integers(0, 256, 3).tolist(), -1)
            if there[1]:
                cv2.circle(image, (16, 16), 12, random.integers(0, 256, 3).tolist(), -1)
            if there[2]:
                cv2.rectangle(image, (40, 40), (55, 55), random.integers(0, 256, 3).tolist(), -1)
            name = f"{split}{number}.jpg"
            root.mkdir(exist_ok=True)
            cv2.imwrite(str(root / name), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            rows.append(",".join([name, *map(str, there)]))
        (root / f"{split}.csv").write_text("\n".join(rows) + "\n")


def make_run(variant: str) -> None:
    """Stage 1 finished, with predictions; stage 2 begun and interrupted."""
    run = Path("runs", variant)
    place = ("--run", variant, "--runs", "runs", "--data", "data/own")
    tool("run_stage", 1, "--variant", variant, *COMMON, *OPTIONS[variant], *place)
    settings = json.loads((run / "run.json").read_text())
    widths = ("attention_width", "regulariser_width", "confidence_width")
    settings["recipe"]["heads"] |= dict.fromkeys(widths, WIDTH)
    (run / "run.json").write_text(json.dumps(settings, indent=1) + "\n")
    shutil.rmtree(run / "stage1")  # begun with other heads, as far as the run knows
    tool("run_stage", 1, *place, "--keep", 1)
    tool("predict", run, "--stage", 1, "--data", "data/own")
    begun = tool("run_stage", 2, *place, *CACHE[variant], "--snapshot-every", 1, "--keep", 1, wait=False)
    end = time.monotonic() + 120
    while not any(int(path.stem[5:]) >= STOP_AFTER for path in run.glob("stage2/iter_*.json")):
        if time.monotonic() > end or begun.poll() is not None:
            raise SystemExit(f"stage 2 was not interrupted: {begun.communicate()[1]}")
        time.sleep(0.01)
    begun.send_signal(signal.SIGINT)
    said = begun.communicate(timeout=60)[1]
    if begun.returncode != 130:
        raise SystemExit(f"stage 2 was not interrupted: {said}")
    # The finished stage needs its snapshots no more, and half of the archive would be theirs.
    for path in run.glob("stage1/iter_*"):
        path.unlink()


def finish(variant: str) -> dict:
    """What this version makes of the begun stage, on a copy; then stages 3 and 4, for the files of the whole net."""
    shutil.copytree(Path("runs", variant), Path("ended", variant))
    stage, place = Path("ended", variant, "stage2"), ("--run", variant, "--runs", "ended", "--data", "data/own")
    went_on = tool("run_stage", 2, *place, *CACHE[variant]).stderr
    resumed = next(line for line in went_on.splitlines() if "going on from the snapshot" in line)
    expected = Path("expected", variant)
    expected.mkdir(parents=True)
    for name in ("weights.caffemodel", "log.csv", "validation.csv"):
        if (stage / name).is_file():
            shutil.copy(stage / name, expected / name)
    predictions = Path("runs", variant, "stage1/predictions_test.npz")
    tool("evaluate", predictions, "--out", expected / "metrics.json")
    tool("run_stage", 4, *place)
    whole = Path("whole", variant)
    whole.mkdir(parents=True)
    shutil.copy(Path("ended", variant, "stage4/weights.caffemodel"), whole / "weights.caffemodel")
    tool("predict", Path("ended", variant), "--data", "data/own", "--out", whole / "predictions.npz")
    tool("to_torch", Path("ended", variant), "--data", "data/own", "--out", whole / "srn.pth")
    return {
        "resumed_from": int(resumed.split()[-1]),
        "stage2_weights": weights_digest(layers_of(stage / "weights.caffemodel")),
    }


def pack() -> None:
    """One archive: its parts share most of their bytes, which xz then holds once."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    left_out = ("lock", "train.log")  # the log names temporary folders, and nothing reads it after a stage
    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        for folder in ("data", "runs", "expected", "whole"):
            for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                if path.name not in left_out:
                    archive.add(path, filter=plain)


def main(folder: str) -> None:
    """Make it all."""
    Path(folder).mkdir(exist_ok=True)
    os.chdir(folder)
    draw_images(Path("own"))
    tool("make_lmdb", "folder", "--root", "own", "--out", "data/own", "--seed", 3, "--workers", 1)
    runs = {}
    for variant in VARIANTS:
        make_run(variant)
        runs[variant] = finish(variant)
    pack()
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    about = {
        "commit": head.stdout.strip(),
        "command": "docker/local tests/data/earlier_version/make.py FOLDER",
        "note": "stage2_weights is what the begun stage 2 ends with, bit for bit; sums are rounded in another way by "
        "other processors, BLAS kernels and builds of Caffe, so it holds where `rounding` is the same",
        "rounding": rounding(),
        "runs": runs,
    }
    EXPECTED.write_text(json.dumps(about, indent=1) + "\n")
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
