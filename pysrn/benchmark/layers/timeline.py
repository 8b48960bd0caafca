"""The clock of a contestant that is timed layer by layer: each moment of a pass belongs to the layer named last."""

from __future__ import annotations

import time


class Timeline:
    """`parts`: pairs of a layer and seconds, in order; their sum is the time from the first `begin` to `end`."""

    def __init__(self, layer: str) -> None:
        self.parts: list[tuple[str, float]] = []
        self.layer, self._since = layer, time.perf_counter()

    def begin(self, layer: str) -> None:
        """From now on it is this layer's time."""
        now = time.perf_counter()
        self.parts.append((self.layer, now - self._since))
        self.layer, self._since = layer, now

    def end(self) -> list[tuple[str, float]]:
        """Nobody's time from now on; returns `parts`."""
        self.begin(self.layer)
        return self.parts
