"""One LMDB environment: appending with a map that grows by itself, opening after a check for wholeness.

LMDB maps its file into memory: reading a page that a truncated file lacks ends the process with SIGBUS. The
file's size is therefore compared with what its own meta pages promise before it is mapped.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path

import lmdb

from pysrn.console import MissingError, SrnError
from pysrn.data.pair.build_lock import GO_ON
from pysrn.disk_errors import cure_and_then, number_of

FIRST_MAP_SIZE = 1 << 26  # doubled whenever it is full
_DAMAGE = (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)
_MAGIC = 0xBEEFC0DE  # lmdb.h: MDB_MAGIC
_HEADER = 16  # bytes of a page header before the meta data
# MDB_meta: magic, version, address, map size, two MDB_db of 48 bytes (page size first), last page,
# transaction
_META = struct.Struct("<IIQQ I44x 48x QQ")

_PROBE = 1 << 20  # assumed: bytes that a full disk does not have
_LENGTHS = struct.Struct("<II")

_OPEN: weakref.WeakValueDictionary[Path, lmdb.Environment] = weakref.WeakValueDictionary()


def pair_paths(folder: Path, split: str) -> tuple[Path, Path]:
    """The image and the label database of a split."""
    return folder / f"{split}_image.lmdb", folder / f"{split}_label.lmdb"


def append(
    environment: lmdb.Environment, records: Iterable[tuple[bytes, bytes]], anywhere: bool = False
) -> bytes | None:
    """Write records in one transaction; their keys follow all that are there. The map grows as needed.

    With `anywhere` the keys have no order; returns the value of the first that is there already, and is kept.
    Raises SrnError when the disk is full or does not take them; what was there before is still whole then.
    """
    records = list(records)
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key, value in records:
                    if not transaction.put(key, value, append=not anywhere, overwrite=not anywhere) and anywhere:
                        return transaction.get(key)
            return None
        except lmdb.MapFullError:
            environment.set_mapsize(environment.info()["map_size"] * 2)
        except lmdb.Error as error:
            reason = _reason_at(Path(environment.path()) / "data.mdb", error)
            what = f"{environment.path()} cannot be written: {_words(reason)}"
            raise SrnError(what, cure_and_then(reason, GO_ON)) from None


def open_growing(path: Path) -> lmdb.Environment:
    """The environment in the folder `path`, to go on with or new. Raises SrnError when it is damaged, else OSError.

    Every transaction is on the disk when it is through: what is there after a power cut is whole.
    """
    if path.exists():
        check_whole(path)
    try:
        return lmdb.open(str(path), map_size=FIRST_MAP_SIZE, lock=False)
    except _DAMAGE as error:
        raise SrnError(f"{path} is damaged: {error}") from None
    except lmdb.Error as error:  # in the system's words, behind the path
        raise OSError(number_of(error), str(error).removeprefix(f"{path}: "), str(path)) from None


def _reason_at(path: Path, error: Exception) -> Exception:
    """`error`, or what a write of our own meets: LMDB calls a write that a full disk cut short an I/O error, too."""
    if number_of(error) == errno.EIO:
        try:
            with tempfile.TemporaryFile(dir=path.parent) as probe:
                os.posix_fallocate(probe.fileno(), path.stat().st_size, _PROBE)
        except OSError as found:
            return OSError(found.errno, found.strerror, str(path))
    return error


def _words(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) else str(error)


class RecordsHash:
    """SHA-256 over keys and values in the order they are given, each with its length before it."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, key: bytes, value: bytes) -> None:
        """Add a record."""
        self._hash.update(_LENGTHS.pack(len(key), len(value)) + key)
        self._hash.update(value)

    def hexdigest(self) -> str:
        """The hash of all records so far."""
        return self._hash.hexdigest()


def check_whole(path: Path, cure: str = "") -> None:
    """Raise MissingError when the folder `path` holds no LMDB, SrnError when it is cut off or foreign."""
    file = path / "data.mdb"
    if not file.is_file():
        raise MissingError(f"LMDB not found: no file {file}", cure)
    size = file.stat().st_size
    with file.open("rb") as stream:
        first = stream.read(_HEADER + _META.size)
        if len(first) < _HEADER + _META.size:
            raise SrnError(f"{file} is truncated: {size} bytes", cure)
        magic, _, _, _, page_size, _, _ = meta = _META.unpack_from(first, _HEADER)
        if magic != _MAGIC or not 512 <= page_size <= 65536:
            raise SrnError(f"{file} is not an LMDB file", cure)
        stream.seek(page_size)
        second = stream.read(_HEADER + _META.size)
    metas = [meta]
    if len(second) == _HEADER + _META.size:
        metas.append(_META.unpack_from(second, _HEADER))
    *_, last_page, _ = max(metas, key=lambda found: found[-1])  # the newer transaction counts
    needed = (last_page + 1) * page_size
    if size < needed:
        raise SrnError(f"{file} is truncated: {size} of at least {needed} bytes", cure)


def open_whole(path: Path, cure: str = "") -> lmdb.Environment:
    """Open an existing environment for reading only; raises as `check_whole`.

    A process may map a file once only: a second call gets the same environment, which closes with its last
    user.
    """
    path = path.resolve()
    environment = _OPEN.get(path)
    if environment is None:
        check_whole(path, cure)
        try:
            environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False, create=False)
        except lmdb.Error as error:
            raise SrnError(f"{path} cannot be opened: {error}", cure) from None
        _OPEN[path] = environment
    return environment
