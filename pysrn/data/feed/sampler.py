"""The order in which samples are fed: a pure function of the seed and the global sample number.

Global sample numbers count what one process with the whole batch would see; ranks share them out (`batches.py`).
"""

from __future__ import annotations

import numpy as np


class SampleOrder:
    """Sample number n (from 0, over all epochs) -> (epoch, index in the database).

    Training goes through another permutation in every epoch; testing goes through the database in its own
    order again and again. Training can be taken up at any n without going through those before it.
    `count` records from number `begin` on are used: a part of the database that knows nothing of the rest.
    """

    def __init__(self, count: int, seed: int, shuffle: bool, begin: int = 0) -> None:
        self.count, self.seed, self.shuffle, self.begin = count, seed, shuffle, begin
        self._epoch, self._permutation = -1, np.arange(count)
        self._positions: dict[int, np.ndarray] = {}  # of asked-for epochs

    def locate(self, number: int) -> tuple[int, int]:
        """Epoch and index of sample `number`."""
        epoch, position = divmod(number, self.count)
        if self.shuffle and epoch != self._epoch:
            self._epoch, self._permutation = epoch, self._order_of(epoch)
        return epoch, self.begin + int(self._permutation[position])

    def number_of(self, epoch: int, index: int) -> int:
        """Number of the sample that is record `index` in `epoch`: the inverse of `locate`."""
        if not self.shuffle:
            return epoch * self.count + index - self.begin
        if epoch not in self._positions:
            self._positions[epoch] = np.argsort(self._order_of(epoch)).astype(np.int32)
        return epoch * self.count + int(self._positions[epoch][index - self.begin])

    def _order_of(self, epoch: int) -> np.ndarray:
        # RandomState: its streams are frozen for good (NumPy NEP 19).
        return np.random.RandomState([self.seed & 0xFFFFFFFF, epoch]).permutation(self.count)
