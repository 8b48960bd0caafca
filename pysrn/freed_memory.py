"""What glibc does with memory that is freed (mallopt(3)). Nothing happens where the C library is not glibc.

It maps large arrays one by one only until the first of them is freed. From then on they lie in a heap whose end is
given back, and whose gaps stay.
"""

from __future__ import annotations

import ctypes

LARGEST = 1 << 25  # bytes of an array that the heap may take; the most that malloc.c allows
KEPT = 1 << 27  # bytes at a heap's end that stay; assumed: well above the few images that are there at a time
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


def give_back() -> None:
    """Return freed memory to the system: as much as two nets' worth (malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep() -> None:
    """Keep what images take, for the next ones: fetching pages anew took a quarter of the time of decoding."""
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_MMAP_THRESHOLD, LARGEST)
        option(_TRIM_THRESHOLD, KEPT)
