"""What ELF files load, and the paths of the build machine that are in them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

LOADER = "ld-linux-x86-64.so.2"
_LINE = re.compile(r"^\t(\S+) => (not found|/.*?)(?: \(0x[0-9a-f]+\))?$", re.MULTILINE)
_RUN_PATH = re.compile(rb"(?<=\0)\$ORIGIN[^\0]*(?=\0)")


Needs = dict[str, Path | None]


class ClosureError(Exception):
    """A bundle that would not run elsewhere."""


def is_content(path: Path) -> bool:
    """Whether a path is a file or a link, wherever that leads."""
    return path.is_symlink() or path.is_file()


def is_elf(path: Path) -> bool:
    """Whether a file is a program or a library."""
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def elf_files(folder: Path) -> Iterator[Path]:
    """The programs and libraries below a folder, sorted; links are left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and is_elf(path):
            yield path


def needed(file: Path, loader: Sequence[object] = (f"/lib64/{LOADER}",), folders: Iterable[Path] = ()) -> Needs:
    """The libraries that a file loads, and these in turn: {name: path, or None where the loader finds none}.

    `loader` is asked (its path and options), as ldd does; `folders` are searched first.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LD_")}
    environment |= {"LD_TRACE_LOADED_OBJECTS": "1", "LD_LIBRARY_PATH": ":".join(map(str, folders))}
    command = [*map(str, loader), str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClosureError(f"{file}: {(done.stderr or done.stdout).strip()}")
    found = {name: None if path == "not found" else Path(path) for name, path in _LINE.findall(done.stdout)}
    # The loader itself is one; some libraries name it as their own.
    return {name: path for name, path in found.items() if path is None or path.name != LOADER}


def libraries(files: Iterable[Path], folders: Iterable[Path], hosts: Container[str] = ()) -> dict[str, Path]:
    """The libraries outside `folders` that the files load: {name: path}. ClosureError for one that is not there.

    Those named in `hosts` are the host's: neither looked for nor missed.
    """
    folders = [path.resolve() for path in folders]
    found: dict[str, Path] = {}
    lacking: dict[str, Path] = {}
    for file in files:
        for name, path in needed(file, folders=folders).items():
            if name in hosts:
                continue
            if path is None:
                lacking.setdefault(name, file)
            elif not any(path.resolve().is_relative_to(folder) for folder in folders):
                known = found.setdefault(name, path.resolve())
                if known.read_bytes() != path.read_bytes():
                    raise ClosureError(f"{name} is two files: {known} and {path}")
    if lacking:
        raise ClosureError("; ".join(f"{file} needs {name}, which is not there" for name, file in lacking.items()))
    return found


def check_closed(bundle: Path, hosts: Container[str] = ()) -> None:
    """Raise ClosureError where a file of a bundle loads what is neither in it nor the host's, as its loader says."""
    bundle = bundle.resolve()
    loader = [bundle / "lib" / LOADER, "--inhibit-cache", "--library-path", bundle / "lib"]
    for file in elf_files(bundle):
        if file in (loader[0], bundle / "srn-caffe"):
            continue
        for name, path in needed(file, loader).items():
            if name not in hosts and (path is None or not path.resolve().is_relative_to(bundle)):
                raise ClosureError(f"{file.relative_to(bundle)} needs {name}: {path or 'not there'}")


def without_search_paths(data: bytes) -> bytes:
    """An ELF file that searches libraries beside itself alone, of the same length, so that nothing moves.

    Of search paths that begin with $ORIGIN only the relative ones stay.
    """

    def relative(match: re.Match[bytes]) -> bytes:
        return b":".join(part for part in match[0].split(b":") if part.startswith(b"$ORIGIN")).ljust(
            len(match[0]), b"\0"
        )

    return _RUN_PATH.sub(relative, data)


def check_no_paths(bundle: Path, folders: Iterable[Path]) -> None:
    """Raise ClosureError where a file of a bundle, or the target of a link, names one of the folders."""
    words = [os.fsencode(f"{folder}/") for folder in folders]
    for path in filter(is_content, sorted(bundle.rglob("*"))):
        data = os.fsencode(f"{os.readlink(path)}/") if path.is_symlink() else path.read_bytes()
        if named := [word.decode() for word in words if word in data]:
            raise ClosureError(f"{path.relative_to(bundle)} names {named[0]}")
