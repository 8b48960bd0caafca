"""What a CUDA device computes for this process, kernel by kernel, as NVIDIA's CUPTI records it.

CUPTI is a library beside CUDA's others, in the wheel nvidia-cuda-cupti, which PyTorch for CUDA brings along. It records
what any code of the process starts. Where a record has its numbers is of CUPTI's header cupti_activity.h; the first
104 bytes are the same from CUDA 9 to 13.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path

from pysrn.console import MissingError

LIBRARY = "libcupti.so.13"
FOLDER = "nvidia/cu13/lib"  # of the wheel, below a folder of Python packages
MEMCPY, MEMSET, KERNEL = 1, 2, 10  # CUpti_ActivityKind; the last: kernels that may run at once
COPIES = {1: "copy to the device", 2: "copy to the host", 8: "copy on the device"}  # CUpti_ActivityMemcpyKind
FLUSH_ALL = 1  # CUPTI_ACTIVITY_FLAG_FLUSH_FORCED
BUFFER = 8 << 20  # bytes; CUPTI's guide says 1 to 10 MB
_CURE = "pip install nvidia-cuda-cupti, and name its folder in CUDA_LIBRARIES where a bundle runs"


class KernelRecord(Structure):
    """The beginning of CUpti_ActivityKernel4 to 10."""

    _fields_ = [
        ("kind", c_uint32),
        ("of_no_use", c_uint8 * 12),
        ("start", c_uint64),  # nanoseconds
        ("end", c_uint64),
        ("of_no_use_either", c_uint8 * 72),
        ("name", c_char_p),
    ]


class MemoryRecord(Structure):
    """The beginning of CUpti_ActivityMemcpy6 and of CUpti_ActivityMemset4, which has no `copy_kind`."""

    _fields_ = [
        ("kind", c_uint32),
        ("copy_kind", c_uint8),
        ("bytes", c_uint64),
        ("start", c_uint64),
        ("end", c_uint64),
    ]


@dataclass(frozen=True)
class Activity:
    """A kernel (its name as a linker has it), or what was done to memory; nanoseconds."""

    name: str
    start: int
    end: int


def activity_at(address: int) -> Activity | None:
    """What the record at an address says; None of another kind."""
    kind = c_uint32.from_address(address).value
    if kind == KERNEL:
        kernel = KernelRecord.from_address(address)
        return Activity((kernel.name or b"?").decode(errors="replace"), kernel.start, kernel.end)
    if kind not in (MEMCPY, MEMSET):
        return None
    memory = MemoryRecord.from_address(address)
    name = "fill memory" if kind == MEMSET else COPIES.get(memory.copy_kind, "copy")
    return Activity(name, memory.start, memory.end)


class Cupti:
    """Records of this process; made before CUDA is used. MissingError without CUPTI, or where it does not work."""

    def __init__(self) -> None:
        self._library, self._buffers, self._found = _library(), {}, []
        requested = CFUNCTYPE(None, POINTER(c_void_p), POINTER(c_size_t), POINTER(c_size_t))(self._lend)
        completed = CFUNCTYPE(None, c_void_p, c_uint32, c_void_p, c_size_t, c_size_t)(self._take)
        self._callbacks = requested, completed  # as long as CUPTI may call them
        self._check(self._library.cuptiActivityRegisterCallbacks(requested, completed))
        for kind in (KERNEL, MEMCPY, MEMSET):
            self._check(self._library.cuptiActivityEnable(kind))

    @contextmanager
    def recorded(self) -> Iterator[list[Activity]]:
        """What is done meanwhile: all of it when the work in it was waited for and it is over."""
        self._flush()
        self._found.clear()
        yield self._found
        self._flush()

    def _flush(self) -> None:
        self._check(self._library.cuptiActivityFlushAll(c_uint32(FLUSH_ALL)))

    def _lend(self, buffer, size, most) -> None:
        memory = ctypes.create_string_buffer(BUFFER + 8)  # CUPTI wants it to begin where eight divides the address
        address = ctypes.addressof(memory) + -ctypes.addressof(memory) % 8
        self._buffers[address] = memory
        buffer[0], size[0], most[0] = address, BUFFER, 0

    def _take(self, context, stream, buffer, size, valid) -> None:
        record = c_void_p()
        while not self._library.cuptiActivityGetNextRecord(c_void_p(buffer), c_size_t(valid), byref(record)):
            if found := activity_at(record.value):
                self._found.append(found)
        del self._buffers[buffer]

    def _check(self, result: int) -> None:
        if result:
            words = c_char_p()
            self._library.cuptiGetResultString(result, byref(words))
            raise MissingError(f"CUPTI does not work here: {(words.value or b'?').decode()} ({result})", _CURE)


def _library() -> ctypes.CDLL:
    """CUPTI from where libraries are searched, else from a wheel among this Python's packages."""
    beside = [str(Path(path) / FOLDER / LIBRARY) for path in sys.path if (Path(path) / FOLDER / LIBRARY).is_file()]
    reasons = []
    for name in [LIBRARY, *beside]:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            reasons.append(str(error))
    raise MissingError(f"no CUPTI: {reasons[-1]}", _CURE)
