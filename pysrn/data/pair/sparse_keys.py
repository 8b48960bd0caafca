"""The keys of very many records without all of them in memory: every 64th is kept, those between are read again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import lmdb

EVERY = 64  # keys; 10 million records then take about 15 MB


class SparseKeys(Sequence[bytes]):
    """The keys of a database from the first of `keys` on, in order; quick where they are asked for in order."""

    def __init__(self, environment: lmdb.Environment, keys: Iterable[bytes]) -> None:
        self._environment, self._anchors, self._count = environment, [], 0
        for self._count, key in enumerate(keys, 1):
            if self._count % EVERY == 1:
                self._anchors.append(key)
        self._number, self._block = -1, []  # which of them, with those behind it

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < self._count:
            raise IndexError(index)
        number, place = divmod(index, EVERY)
        if number != self._number:
            with self._environment.begin() as transaction:
                cursor = transaction.cursor()
                cursor.set_key(self._anchors[number])
                self._block = list(islice(cursor.iternext(values=False), EVERY))
            self._number = number
        return self._block[place]


class DecodedKeys(Sequence[str]):
    """The same as text."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> str:
        return self._keys[index].decode("utf-8", "replace")

    def __iter__(self) -> Iterator[str]:
        return map(self.__getitem__, range(len(self)))
