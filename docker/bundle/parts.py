"""The parts of a bundle and where they lie on this machine: Python, its packages, Debian's, the clone's own files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from docker.bundle.closure import is_elf
from pysrn.console import MissingError, SrnError

ROOT = Path(__file__).resolve().parents[2]
TRACKED = (
    "pysrn", "tools", "prototxt", "docs", "README.md", "LICENSE", "CITATION.cff", "docker/gpu_check.sh",
    "docker/image/self-test", "docker/bundle/apptainer.def",
)  # fmt: skip
NOT_NEEDED = {"setuptools"}  # installs others
# What reads images and what draws, and what only these need: most of a bundle.
NOT_LEAN = {
    "contourpy", "cycler", "fonttools", "kiwisolver", "matplotlib", "opencv-python", "pillow", "pyparsing",
    "python-dateutil", "tensorboardx", "tzdata",
}  # fmt: skip
PIPS_OWN = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}  # how it was installed here


def git(*words: str) -> str:
    """What git says about the clone; MissingError without git or outside a clone."""
    try:
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or error
        raise MissingError("a bundle is made of a clone, with git", str(said).strip()) from None


def tracked() -> Iterator[tuple[str, Path]]:
    """The clone's own files, as the working tree has them."""
    for name in git("ls-files", "-z", "--", *TRACKED).strip("\0").split("\0"):
        if (ROOT / name).exists():
            yield name, ROOT / name


def standard_library() -> Iterator[tuple[str, Path]]:
    """Python's own modules, as Debian's packages hold them: without tests, and what was added here."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    packages = [f"libpython{version}-minimal", f"libpython{version}-stdlib"]
    for line in run("dpkg-query", "--listfiles", *packages).splitlines():
        match = re.fullmatch(rf"/usr/(lib/python{version}/(?!test/|config-|.*/_test|.*/_xxtest|.*/xxlimited).+)", line)
        if match and Path(line).is_file() and Path(line).name not in ("sitecustomize.py", "EXTERNALLY-MANAGED"):
            yield match[1], Path(line)


def wanted_packages(lean: bool = False) -> Iterator[metadata.Distribution]:
    """The Python packages that the images have too, and this one; fewer for a lean bundle."""
    left_out = NOT_NEEDED | (NOT_LEAN if lean else set())
    for line in (ROOT / "docker/locked/base.txt").read_text().splitlines():
        if re.match("[a-z0-9]", line):
            requirement = Requirement(line.rstrip("\\ "))
            if requirement.name not in left_out and (not requirement.marker or requirement.marker.evaluate()):
                yield _installed(requirement.name)
    yield _installed("pysrn")


def _installed(name: str) -> metadata.Distribution:
    """A package of the environment; what lies in the current folder (a clone's own egg-info) is none."""
    found = next(iter(metadata.distributions(name=name, path=[sysconfig.get_path("purelib")])), None)
    if found is None:
        raise MissingError(
            f"{name} is not in the environment of docker/local", "docker/local --remove, then the same command again"
        )
    return found


def package_files(one: metadata.Distribution, python: Path) -> Iterator[tuple[str, Path]]:
    """A package's files: modules to dist-packages, where Debian's Python looks; of commands only the compiled ones."""
    home = Path(one.locate_file("")).resolve()
    for file in one.files or []:
        source = Path(os.path.normpath(home / file))
        if "__pycache__" in source.parts or (source.parent.suffix == ".dist-info" and source.name in PIPS_OWN):
            continue
        if source.is_relative_to(home):
            if not (one.name == "pysrn" and source.parent == home):  # links to the clone
                yield f"lib/python3/dist-packages/{source.relative_to(home)}", source
        elif source.parent.name in ("bin", "lib", "mpich", "libfabric", "ucx") and is_elf(source):
            yield str(source.relative_to(python)), source


def debian_packages(files: Iterable[Path]) -> dict[str, str]:
    """The Debian packages that hold the files, with their versions."""
    names = {name for path in map(str, files) for name in (path, f"/usr{path}", path.removeprefix("/usr"))}
    lines = run("dpkg-query", "--search", *sorted(names), check=False).splitlines()
    moved = "diversion by ", "local diversion "  # lines of files that a package has moved aside
    owners = sorted({line.partition(":")[0] for line in lines if not line.startswith(moved)})
    shown = run("dpkg-query", "--show", "--showformat", "${Package} ${Version}\n", *owners)
    return dict(sorted(line.split() for line in shown.splitlines()))


def run(*command: str, check: bool = True) -> str:
    """What a command prints; SrnError when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SrnError(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout
