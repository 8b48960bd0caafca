"""The locked Python packages: they are what setup.py asks for and what is installed, and a wrong file is refused."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.holding import HANG

DOCKER = Path(__file__).resolve().parents[2] / "docker"
LISTS = sorted([*DOCKER.glob("locked/*.txt"), *DOCKER.glob("caffe/locked/*.txt")])
PYTHONS = ("3.11", "3.12", "3.13")


def read(path: Path) -> list[tuple[Requirement, list[str]]]:
    """Each package of a list with its hashes."""
    text = path.read_text().replace("\\\n", " ")
    lines = [line.split(" --hash=") for line in text.splitlines() if line and line[0] != "#"]
    return [(Requirement(line[0].strip()), [word.strip() for word in line[1:]]) for line in lines]


def versions(*names: str, python: str = "3.11") -> dict[str, str]:
    """What the lists hold for Linux on x86-64, by name."""
    machine = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
    machine |= {"platform_machine": "x86_64", "platform_system": "Linux", "os_name": "posix"}
    found = [package for name in names for package, _ in read(DOCKER / name)]
    wanted = [package for package in found if package.marker is None or package.marker.evaluate(machine)]
    assert len({package.name for package in wanted}) == len(wanted), names
    return {package.name: str(package.specifier).removeprefix("==") for package in wanted}


def asked() -> dict[str, list[Requirement]]:
    """setup.py's requirements by extra; the package's own under `""`."""
    call = next(
        node
        for node in ast.walk(ast.parse((DOCKER.parent / "setup.py").read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    words = {word.arg: word.value for word in call.keywords}
    extras = ast.literal_eval(words["extras_require"]) | {"": ast.literal_eval(words["install_requires"])}
    return {name: [Requirement(line) for line in lines] for name, lines in extras.items()}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_every_package_has_one_version_and_its_hashes(path):
    packages = read(path)
    assert packages
    for package, hashes in packages:
        assert re.fullmatch(r"==[0-9][^,*]*", str(package.specifier)), package
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", word) for word in hashes), package


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    "lists, extras",
    [(("locked/base.txt",), {"", "mpi", "tensorboard"}), (("locked/all.txt", "locked/torch.txt"), None)],
    ids=["base", "all"],
)
def test_the_lock_is_what_setup_asks_for(python, lists, extras):
    locked, wanted = versions(*lists, python=python), asked()
    for extra in wanted if extras is None else extras:
        for requirement in wanted[extra]:
            version = locked[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{requirement}: docker/lock --keep ({version} is locked)"


def test_all_lists_hold_the_same_versions():
    everything: dict[str, set[str]] = {}
    for path in LISTS:
        if path.stem not in ("cuda", "torch-cuda"):  # Caffe's toolkit is not PyTorch's
            for name, version in versions(str(path.relative_to(DOCKER))).items():
                everything.setdefault(name, set()).add(version.partition("+")[0])
    assert {name: found for name, found in everything.items() if len(found) > 1} == {}
    exact = [Requirement(line) for line in (DOCKER / "constraints.txt").read_text().splitlines() if line[:1].isalnum()]
    assert exact and all(everything[package.name] == {str(package.specifier)[2:]} for package in exact)
    toolkit = [line for line in (DOCKER / "cuda-wheels.txt").read_text().splitlines() if line[:1].isalnum()]
    assert versions("caffe/locked/cuda.txt") == dict(line.split("==") for line in toolkit)


def test_the_environment_is_the_lock():
    """Every package that is installed here stands in the lock with its version."""
    if not (Path(sys.prefix) / "complete").is_file() or os.environ.get("SRN_LOCK") == "off":
        pytest.skip("not an environment of docker/local, or one without the lock")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    locked = versions("locked/all.txt", "locked/torch.txt", "locked/torch-cuda.txt", python=python)
    folder = sysconfig.get_path("purelib")  # other tests put folders of their own on sys.path
    installed = {
        canonicalize_name(found.name): found.version.partition("+")[0]
        for found in metadata.distributions(path=[folder])
    }
    own = {"pysrn", "pip", "setuptools"}
    assert {name: version for name, version in installed.items() if name not in own} == {
        name: locked[name] for name in installed if name not in own
    }
    assert set(versions("locked/all.txt", python=python)) - {"setuptools"} <= set(installed)


def wheel(folder: Path, name: str) -> str:
    """A package of nothing; its SHA-256."""
    folder.mkdir(exist_ok=True)
    path, about = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{about}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("right", [True, False])
def test_a_wrong_hash_stops_the_installation(tmp_path, right):
    """docker/install-python in a copy of its folder, with a list of one made package and no index."""
    shutil.copytree(DOCKER / "locked", tmp_path / "docker/locked")
    shutil.copy(DOCKER / "install-python", tmp_path / "docker")
    digest = wheel(tmp_path / "wheels", "nothing")
    (tmp_path / "docker/locked/base.txt").write_text(f"nothing==1.0 --hash=sha256:{digest if right else '0' * 64}\n")
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_CONFIG_FILE": os.devnull}
    command = [tmp_path / "docker/install-python", tmp_path / "python", "/no/caffe", tmp_path, "base"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | settings
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 1
    installed = "Successfully installed nothing-1.0" in done.stdout
    assert installed == right
    assert ("DO NOT MATCH THE HASHES" in done.stderr) != right
