"""Memory that was freed, given back to the system: glibc keeps it for its own later use, as much as two nets' worth.

glibc maps large arrays one by one only until the first of them is freed (mallopt(3), M_MMAP_THRESHOLD); from then on
they lie in a heap whose gaps stay. `tools/to_torch.py` has several nets one after the other.
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return freed memory to the system (malloc_trim(3)); nothing happens where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
