"""The CUDA part of docker/caffe/build.sh, where it stops early, and what its Caffe does without a device.

The tests of the built Caffe run where the environment's Caffe has CUDA; no test here needs a GPU.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import caffe
import pytest

from pysrn.nets.in_caffe import NO_DEVICE
from pysrn.report.setup_report import list_gpus
from tests.docker.test_build_script import REPOSITORY, build, debian_packages

__all__ = ["debian_packages"]  # the fixture, for this file, too
WHEELS = REPOSITORY / "docker/cuda-wheels.txt"
TOLD = [line for line in WHEELS.read_text().splitlines() if line and not line.startswith("#")]
with_cuda = pytest.mark.skipif(not caffe.has_nccl(), reason="this Caffe is built for the CPU")
without_device = pytest.mark.skipif(bool(list_gpus()), reason="there is a GPU here")


def toolkit(folder: Path, wheels: list[str]) -> Path:
    """A folder with what pip leaves of the wheels' names and versions."""
    for wheel in wheels:
        name, version = wheel.split("==")
        (folder / f"{name.replace('-', '_')}-{version}.dist-info").mkdir(parents=True)
    return folder


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GLOG_minloglevel": "2", **variables}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_every_wheel_has_one_exact_version():
    assert all(re.fullmatch(r"nvidia-[a-z0-9-]+==[0-9.]+", line) for line in TOLD)
    assert len({line.partition("==")[0] for line in TOLD}) == len(TOLD)


def test_toolkit_of_another_version(tmp_path):
    older = [line.replace("==13.0.88", "==12.9.86") if "cuda-nvcc" in line else line for line in TOLD]
    (tmp_path / "target").mkdir()
    result = build("--cuda", tmp_path / "target/caffe", CUDA_TOOLKIT_DIR=str(toolkit(tmp_path / "kit", older)))
    assert result.returncode == 3
    assert result.stderr == (
        f"docker/caffe/build.sh: CUDA_TOOLKIT_DIR={tmp_path}/kit has not: nvidia-cuda-nvcc==13.0.88 "
        "(docker/cuda-wheels.txt)\n"
    )
    assert not list((tmp_path / "target").iterdir())


@pytest.mark.parametrize("architectures", ["90,100", "sm_90", "90 ;rm", "9"])
def test_architectures_that_are_none(tmp_path, architectures):
    result = build("--cuda", tmp_path / "caffe", CUDA_ARCHITECTURES=architectures)
    assert result.returncode == 2
    assert "CUDA_ARCHITECTURES must be numbers such as '75 80" in result.stderr
    assert result.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


@without_device
def test_no_device_is_one_line_and_exit_code_3(tmp_path):
    command = [sys.executable, REPOSITORY / "tools/gpu_check.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 3 and not result.stdout
    first, cure = result.stderr.splitlines()
    assert first.startswith(f"error: {NO_DEVICE}" if caffe.has_nccl() else "error: CUDA device 0 cannot be used")
    assert "leave --gpu out" in cure


@with_cuda
@without_device
@pytest.mark.parametrize("call", ["caffe.set_mode_gpu()", "caffe.set_device(0)"])
def test_python_gets_an_exception(call):
    result = python(f"import caffe\ntry: {call}\nexcept RuntimeError as error: print(error)")
    assert result.returncode == 0 and result.stdout.startswith(f"{NO_DEVICE}: "), result.stderr


@with_cuda
@without_device
def test_the_command_says_it_in_one_line(tmp_path):
    (tmp_path / "solver.prototxt").write_text('net_param { name: "none" }\n')
    command = ["caffe", "train", "-solver", tmp_path / "solver.prototxt", "-gpu", "0"]
    environment = {**os.environ, "GLOG_minloglevel": "2"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (3, "", 1)
    assert result.stderr.startswith(f"error: {NO_DEVICE}: ")


@with_cuda
def test_record_of_the_build():
    package = Path(caffe.__file__).resolve().parent
    record = json.loads((package.parents[3] / "caffe-build.json").read_text())
    assert record["cuda"]["toolkit"] == TOLD
    libraries = package.parents[2]
    assert all((libraries / name).is_file() for name in record["cuda"]["libraries"])
