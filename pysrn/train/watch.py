"""Which rank has hung: what their pulses (`stage/pulse.py`) say to the command that has started them.

A rank has hung when for the seconds of `--hang-after` it is stopped, or neither it nor the processes that load its
images use the CPU though it waits for no other rank, or nothing is heard of it. Time in which this process did not run
itself (Ctrl-Z, a closed laptop) counts for none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pysrn.train.stage.pulse import ASLEEP, WAITS, WORKS

HANG_AFTER = 45  # seconds; assumed: a minute with what looking and ending the job take


class Watch:
    """The ranks of a job; `patience` in seconds."""

    def __init__(self, ranks: int, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ranks, self._patience, self._clock = ranks, patience, clock
        self._looked = self._awake = clock()
        self._first: float | None = None  # when a rank was heard first
        self._heard: dict[tuple, tuple[float, dict]] = {}  # host and process -> when, and the last pulse
        self._ended: set[tuple] = set()

    def hear(self, pulse: dict) -> None:
        """A rank's event."""
        who = tuple(pulse["pulse"])
        self._first = self._clock() if self._first is None else self._first
        if pulse.get("ended"):
            self._ended.add(who)
        if who in self._ended:
            self._heard.pop(who, None)
        else:
            self._heard[who] = self._clock(), pulse

    def hung(self, processes: Sequence[list]) -> str | None:
        """What is wrong, where something is; to be called once a second. `processes`: those of the ranks, in order."""
        now = self._clock()
        if now - self._looked > ASLEEP:
            self._awake = now
        self._looked = now
        if self._first is None or now - max(self._awake, self._first) < self._patience:
            return None
        waiting = 0
        for who, (when, pulse) in self._heard.items():
            silent = now - max(when, self._awake)
            if silent >= self._patience:
                return f"{_name(who, pulse, processes)} hangs: nothing is heard of it for {silent:.0f} s"
            if pulse["idle"] >= self._patience and pulse["stopped"]:
                return f"{_name(who, pulse, processes)} hangs: it is stopped, for {pulse['idle']:.0f} s"
            if pulse["idle"] >= self._patience and pulse["does"] == WORKS:
                without = f"it uses no CPU for {pulse['idle']:.0f} s, as one that waits for a disk"
                return f"{_name(who, pulse, processes)} hangs: {without}"
            waiting += pulse["does"] == WAITS and pulse["since"] >= self._patience
        if waiting == self._ranks:
            return f"all ranks wait for each other for {self._patience:.0f} s: the network between them"
        if (there := len(self._heard) + len(self._ended)) < self._ranks:
            return f"{there} of {self._ranks} ranks have begun, and no other for {self._patience:.0f} s"
        return None


def _name(who: tuple, pulse: dict, processes: Sequence[list]) -> str:
    number = processes.index(list(who)) if list(who) in processes else pulse["rank"]
    return f"{'a rank' if number is None else f'rank {number}'} (process {who[1]} on {who[0]})"
