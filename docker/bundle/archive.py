"""Archives whose bytes depend on what is in them alone."""

from __future__ import annotations

import gzip
import lzma
import tarfile
from pathlib import Path
from typing import BinaryIO

SUFFIXES = (".tar.gz", ".tar.xz")


def packer(archive: Path, file: BinaryIO) -> gzip.GzipFile | lzma.LZMAFile:
    """What compresses into an open file, by the archive's name."""
    if archive.suffix == ".xz":
        return lzma.LZMAFile(file, "wb", preset=6)
    return gzip.GzipFile("", "wb", 6, file, mtime=0)


def write_archive(folder: Path, archive: Path, seconds: int) -> None:
    """Write a folder as a .tar.gz or .tar.xz whose bytes depend on names, contents, modes and the one time only."""
    partial = archive.with_name(f"{archive.name}.partial")
    try:
        with (
            open(partial, "wb") as file,
            packer(archive, file) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
        ):
            for path in [folder, *sorted(folder.rglob("*"))]:
                member = tar.gettarinfo(path, str(path.relative_to(folder.parent)))
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                member.mtime = seconds
                member.mode = 0o777 if path.is_symlink() else 0o755 if member.mode & 0o100 else 0o644
                if member.isfile():
                    with open(path, "rb") as content:
                        tar.addfile(member, content)
                else:
                    tar.addfile(member)
        partial.replace(archive)
    finally:
        partial.unlink(missing_ok=True)
