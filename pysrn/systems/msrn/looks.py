"""Where labels and groups look, for pictures: the weights of semantic attention, which the net never stores.

A row looks with every channel by itself; shown is the mean over the channels.
"""

from __future__ import annotations

from pysrn.later import later
from pysrn.systems.msrn.heads import TAPS
from pysrn.systems.msrn.label_branch import ASSIGNMENT, ROWS
from pysrn.systems.system import Map

np = later("numpy")


def attention_maps(features: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Features N x D x H x W and rows R x D -> N x R x H x W: a row's weights, the mean over the channels."""
    flat = features.reshape(*features.shape[:2], -1)
    found = np.empty((len(flat), len(rows), flat.shape[2]), np.float32)
    for image, maps in zip(found, flat, strict=True):
        for out, row in zip(image, rows, strict=True):
            values = row[:, None] * maps
            weights = np.exp(values - values.max(axis=1, keepdims=True))
            out[:] = (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0)
    return found.reshape(*found.shape[:2], *features.shape[2:])


def label_looks(features: np.ndarray, rows: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """N x C x H x W: where each label looks; `assignment`: C x m."""
    return attention_maps(features, rows[: len(assignment)])


def group_looks(features: np.ndarray, rows: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """N x C x H x W: where the group looks that each label belongs to most."""
    return attention_maps(features, rows[len(assignment) :])[:, assignment.argmax(axis=1)]


def maps(stage: int) -> tuple[Map, ...]:
    """The maps of the system, which `stage` learns: of the labels at each depth, then of their groups."""
    return tuple(
        Map(f"{name}{number}", f"{title} at res{depth}", stage, name == "look", needs, compute)
        for name, title, compute in (("look", "labels", label_looks), ("group_look", "groups", group_looks))
        for number, depth in enumerate(TAPS, 1)
        for needs in [(f"tap_project{number}", ROWS, ASSIGNMENT)]
    )
