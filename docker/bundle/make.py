"""Writes a bundle: one archive that runs without a container engine on any x86-64 Linux. Called by docker/build.

    docker/local python -m docker.bundle.make FILE.tar.gz|FILE.tar.xz [--caffe PREFIX] [OPTION...]

It is made of the environment that it runs in: Debian's Python and libraries, Caffe, the Python packages of
docker/locked/base.txt, and what the clone holds under version control. The same commit in the same environment gives
the same bytes. Prints size and SHA-256 of FILE. With another Caffe, as `docker/caffe/build.sh --cuda PREFIX` makes it,
the driver's libcuda.so.1 is the host's; --without-cuda-libraries leaves out the ones beside it, too. --lean
leaves out OpenCV and what draws; its Caffe must be one without OpenCV.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from docker.bundle.archive import SUFFIXES, write_archive
from docker.bundle.closure import (
    LOADER,
    ClosureError,
    Needs,
    check_closed,
    check_no_paths,
    elf_files,
    is_content,
    libraries,
    needed,
    without_search_paths,
)
from docker.bundle.parts import (
    ROOT,
    debian_packages,
    git,
    package_files,
    run,
    standard_library,
    tracked,
    wanted_packages,
)
from pysrn.console import MissingError, SrnError, UsageError, run_main
from pysrn.nets.caffemodel import sha256_of

MANIFEST = "srn-caffe.json"  # the launcher knows a bundle by it
# Of other MPIs and of network cards' drivers, which this machine has not: who needs them stays out of the bundle.
FOREIGN = {"libmpi.so.40", "libibverbs.so.1", "librdmacm.so.1", "libefa.so.1", "libmlx5.so.1", "libpsm2.so.2"}
DRIVER = "libcuda.so.1"  # of NVIDIA's driver, which belongs to the kernel
RECORD = "caffe-build.json"


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--caffe", type=Path, metavar="PREFIX", help="default: the environment's")
    parser.add_argument("--without-cuda-libraries", action="store_true")
    parser.add_argument("--lean", action="store_true", help="without what reads images and what draws")

    def parsed() -> argparse.Namespace:
        words = parser.parse_args(argv)
        if not words.file.name.endswith(SUFFIXES):
            raise UsageError(f"--bundle {words.file}: the name must end with .tar.gz or .tar.xz")
        if not words.file.parent.is_dir():
            raise UsageError(f"--bundle {words.file}: there is no folder {words.file.parent}")
        return words

    return run_main(work, parsed)


def work(words: argparse.Namespace) -> int:
    """Stage the bundle, prove it closed and free of this machine's paths, and write it; 0 when done."""
    if not Path(f"/lib64/{LOADER}").exists():
        raise MissingError(f"a bundle is made on x86-64, and this machine is {platform.machine()}", "docker/local CMD")
    caffe, python = (words.caffe or Path(shutil.which("caffe") or "/").parent.parent).resolve(), Path(sys.prefix)
    hosts = left_to_host(caffe, words.without_cuda_libraries)
    with tempfile.TemporaryDirectory(prefix="srn-caffe-bundle-") as folder:
        bundle = Path(folder) / "srn-caffe"
        try:
            stage(bundle, caffe, python, hosts, words.lean)
            check_closed(bundle, hosts)
            check_no_paths(bundle, [ROOT, caffe.parent, python, Path(folder)])
        except ClosureError as error:
            raise SrnError(f"the bundle would not run elsewhere: {error}") from None
        write_archive(bundle, words.file, int(git("log", "-1", "--format=%ct")))
    print(f"{words.file}  {words.file.stat().st_size} bytes  sha256 {sha256_of(words.file)}")
    return 0


def left_to_host(caffe: Path, without_cuda_libraries: bool) -> set[str]:
    """The libraries that a bundle of this Caffe takes from the host; none where it is built for the CPU."""
    record = caffe / RECORD
    if not record.is_file():
        raise MissingError(f"{caffe} has no Caffe: no file {RECORD}", "name the folder that docker/caffe/build.sh made")
    cuda = json.loads(record.read_text())["cuda"]
    if not cuda and without_cuda_libraries:
        raise UsageError(f"--without-cuda-libraries: the Caffe in {caffe} has none, it is built for the CPU")
    return {DRIVER, *(cuda["libraries"] if without_cuda_libraries else ())} if cuda else set()


def stage(bundle: Path, caffe: Path, python: Path, hosts: set[str], lean: bool = False) -> None:
    """Put all parts of the bundle but the libraries in `hosts` into a new folder, and the manifest that names them."""
    for name, source in (*standard_library(), *tracked()):
        put(source, bundle / name)
    versions = {}
    for one in wanted_packages(lean):
        versions[one.name] = one.version
        for name, source in package_files(one, python):
            put(source, bundle / name)
    put(caffe / RECORD, bundle / RECORD)
    for part in ("bin", "lib", "share"):
        for source in sorted((caffe / part).rglob("*")):
            if source.suffix != ".a" and "__pycache__" not in source.parts and source.name not in hosts:
                put(source, bundle / source.relative_to(caffe))
    put(Path("/usr/bin/python3").resolve(), bundle / "bin/python3")
    for path in elf_files(bundle):
        path.write_bytes(without_search_paths(path.read_bytes()))
    leave_out_foreign(bundle)
    found = libraries(elf_files(bundle), [bundle / "lib"], hosts)
    for name, source in found.items():
        put(source, bundle / "lib" / name)
    put(Path(f"/lib64/{LOADER}").resolve(), bundle / "lib" / LOADER)
    packages = debian_packages([*found.values(), Path("/usr/bin/python3").resolve()])
    for name in packages:
        put(Path(f"/usr/share/doc/{name}/copyright"), bundle / f"share/doc/{name}/copyright")
    add_launcher(bundle, cuda=DRIVER in hosts)
    # Debian's Python looks here; a path in a .pth file is relative to its folder.
    (bundle / "lib/python3/dist-packages/srn-caffe.pth").write_text("../../..\n")
    manifest = {
        "kind": "cuda" if DRIVER in hosts else "cpu",
        "left_to_host": sorted(hosts),
        "revision": git("describe", "--always", "--dirty", "--abbrev=40"),
        "python": sys.version.split()[0],
        "packages": versions,
        "debian": packages,
        "files": {str(path.relative_to(bundle)): entry(path) for path in sorted(bundle.rglob("*")) if is_content(path)},
    }
    (bundle / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def leave_out_foreign(bundle: Path) -> None:
    """Delete the files that need a library of FOREIGN, and those that need these."""
    folders = [bundle / "lib", bundle / "lib/mpich"]
    while gone := [path for path in elf_files(bundle) if FOREIGN & lacks(needed(path, folders=folders))]:
        for path in gone:
            path.unlink()


def lacks(found: Needs) -> set[str]:
    """The names that the loader finds no file for."""
    return {name for name, path in found.items() if path is None}


def add_launcher(bundle: Path, cuda: bool = False) -> None:
    """Move the programs of bin/ to libexec/, and compile what starts them under their names."""
    (bundle / "libexec").mkdir()
    for path in sorted((bundle / "bin").iterdir()):
        path.rename(bundle / "libexec" / path.name)
        path.symlink_to("../srn-caffe")
    flags = [
        "-O2",
        "-static",
        "-s",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wl,--build-id=none",
        *(["-DCUDA"] if cuda else []),
    ]
    run("gcc", *flags, "-o", str(bundle / "srn-caffe"), str(Path(__file__).with_name("launcher.c")))


def put(source: Path, target: Path) -> None:
    """Copy a file, or a link to a file beside it as a link."""
    if source.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink() and "/" not in os.readlink(source):
        target.symlink_to(os.readlink(source))
    else:
        shutil.copyfile(source, target)
        target.chmod(0o755 if os.access(source, os.X_OK) and source.stat().st_mode & 0o100 else 0o644)


def entry(path: Path) -> str:
    """What the manifest says of a file: its SHA-256, or where a link leads."""
    return f"-> {os.readlink(path)}" if path.is_symlink() else sha256_of(path)


if __name__ == "__main__":
    sys.exit(main())
