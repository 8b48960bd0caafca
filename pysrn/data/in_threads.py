"""Work on images in threads, each with an image of its own; the results come in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2

from pysrn import freed_memory

AHEAD = 512  # results ahead of a writer, so that threads work on while it waits for the disk; of stored images 100 MB


def in_order(function: Callable, items: Iterable, workers: int, ahead: int = AHEAD) -> Iterator:
    """Like `map`, in threads, but never more than `ahead` results ahead of the reader."""
    waiting: deque = deque()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # every thread has an image of its own: OpenCV's would only get in their way
    freed_memory.keep()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(threads)


def thread_count(workers: int | None) -> int:
    """So many as asked for, or one a CPU."""
    return workers or len(os.sched_getaffinity(0))
