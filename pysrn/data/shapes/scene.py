"""Scenes of the embedded data set `shapes`: which objects stand where, and which labels follow from it.

A scene is a pure function of (seed, split, index). Eight labels are objects, four are long-range relations
("circle above square": opposite sides of the picture, too far apart for one receptive field of the small
trunk), two are local relations, two are faint things that come in certain company. `render.py` draws
scenes, `dataset.py` writes the data set. Every relation survives mirroring, and holds about half the time when
what it relates is present, so that the objects alone do not give it away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pysrn.data.shapes.outlines import OUTLINES, place_outline

# ---- difficulty of the scenes: all of it is here (that of the pictures is in render.py) ----
CANVAS = 256  # pixels; the crop size 224 to 256 then needs no enlargement
CENTRE_MARGIN = 44  # a centre is at least this far from the border: a crop of 224 keeps half of every object
BORDER = 12  # no object comes nearer to the border than this
SIZE = (32, 56)  # longest side of an object; res4 of the small trunk sees 67 pixels of 224: one whole object
RING_SIZE = (62, 70)  # a ring has room for a small object, whether it holds one or not
INNER_SIZE = (26, 30)  # the object in the ring
ANGLE = 12.0  # degrees of tilt; more would turn squares into diamonds
CLEARANCE = 12  # free pixels between objects that do not touch
TOUCH = 3  # pixels between objects that do
FAR_X = 128  # pairs of a long-range relation are this far apart sideways: 112 of 224 pixels, while a cell
# of the small trunk's res5 sees 65 pixels to either side, and the rim of that hardly
FAR_Y = 28  # and this far in height, 1.75 cells of the 14x14 maps, so that "above" is never a matter of taste
LIMIT_Y = 56  # but not farther: so the height of one of the two, which zero padding gives away, says little
TWO_PAIRS = (
    0.9  # share of scenes begun with two long-range pairs (about one in four of them finds room); the others have one
)
SINGLES = (1, 2)  # objects without their partner (one less where there are two pairs)
IN_RING = 0.5  # a ring holds an object
BESIDE_STAR = 0.5  # an object touches the star from a side ...
UNDER_STAR = 0.2  # ... or from above or below, which does not count
FAINT_RIGHT, FAINT_WRONG = 0.9, 0.04  # a faint thing is there when its company is, and when not
FAINT_SIZE = (14, 18)  # too small and too pale (render.FAINT_CONTRAST) to be found easily

OBJECTS = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart")
ABOVE = (("circle", "square"), ("triangle", "star"), ("cross", "ring"), ("heart", "diamond"))
# A faint thing comes when both of its company are there.
COMPANY = {"dots": ("heart", "diamond"), "wave": ("circle", "star")}
INSIDE_LABEL, BESIDE_LABEL = "object inside ring", "object beside star"
CLASSES = (*OBJECTS, *(f"{upper} above {lower}" for upper, lower in ABOVE), INSIDE_LABEL, BESIDE_LABEL, *COMPANY)

_CANDIDATES, _BLOCKS = 384, 6  # layouts tried for a set of objects before the set is given up

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Thing:
    """One drawn thing: `outline` holds its closed curves (float, pixels), `box` is (x, y, width, height)."""

    name: str
    outline: tuple[np.ndarray, ...]
    box: Box

    def moved(self, dx: int, dy: int) -> Thing:
        """The same thing, dx pixels to the right and dy down."""
        x, y, width, height = self.box
        shift = np.array([dx, dy])
        return Thing(self.name, tuple(c + shift for c in self.outline), (x + dx, y + dy, width, height))


@dataclass(frozen=True)
class Scene:
    """Things in drawing order and, for every label that holds, its box."""

    things: tuple[Thing, ...]
    boxes: dict[str, Box]


def scene_rng(seed: int, split: str, index: int, purpose: int = 0) -> np.random.RandomState:
    """Random numbers of one image. RandomState, because its streams are frozen for good (NumPy NEP 19)."""
    return np.random.RandomState([seed & 0xFFFFFFFF, len(split), *split.encode(), index, purpose])


def compose(seed: int, split: str, index: int) -> Scene:
    """Make scene `index` of a split."""
    rng = scene_rng(seed, split, index)
    while True:
        names = _draw_names(rng)
        groups, things, is_above = _draw_structure(rng, names)
        centres = _draw_layout(rng, groups, things, is_above)
        if centres is not None:
            break
    things = [things[name].moved(*centres[name]) for name in names]
    things += _draw_faint(rng, names, things)
    return Scene(tuple(things), label_boxes(things))


def _draw_names(rng: np.random.RandomState) -> list[str]:
    """Three to six objects: one or two whole pairs and some objects whose partner is absent."""
    pairs = [ABOVE[i] for i in rng.permutation(len(ABOVE))]
    whole = 2 if rng.random_sample() < TWO_PAIRS else 1
    singles = rng.randint(SINGLES[0], SINGLES[1] + 1) - (whole - 1)
    names = [name for pair in pairs[:whole] for name in pair]
    return names + [pair[rng.randint(2)] for pair in pairs[whole : whole + singles]]


def _draw_structure(rng, names):
    """Draw what belongs together.

    Returns groups {leader: {member: (dx, dy)}} that are placed as one, things {name: Thing around the origin}
    and is_above {pair: bool}.
    """
    sizes = {name: int(rng.randint(*(RING_SIZE if name == "ring" else SIZE))) for name in names}
    partner = {a: b for pair in ABOVE for a, b in (pair, pair[::-1])}
    groups = {name: {name: (0, 0)} for name in names}
    in_ring, at_star = rng.random_sample(2)
    fits = [name for name in names if name not in ("ring", "star", partner["ring"])]
    inner = None
    if "ring" in names and fits and in_ring < IN_RING:
        inner = fits[rng.randint(len(fits))]
        sizes[inner] = int(rng.randint(*INNER_SIZE))
        groups["ring"][inner] = (0, 0)
        del groups[inner]
    things = {name: _thing(rng, name, sizes[name]) for name in names}
    free = [name for name in names if name not in ("star", partner["star"], inner)]
    if "star" in names and free and at_star < BESIDE_STAR + UNDER_STAR:
        other = free[rng.randint(len(free))]
        sign = 1 if rng.randint(2) else -1
        axis = 0 if at_star < BESIDE_STAR else 1
        apart = [int(rng.randint(-6, 7))] * 2
        apart[axis] = sign * (_half(things["star"])[axis] + _half(things[other])[axis] + TOUCH)
        for member, (x, y) in groups.pop(other).items():
            groups["star"][member] = (apart[0] + x, apart[1] + y)
    is_above = {pair: bool(rng.randint(2)) for pair in ABOVE if set(pair) <= set(names)}
    return groups, things, is_above


def _half(thing: Thing) -> tuple[int, int]:
    """Half the width and height, rounded up."""
    return -(-thing.box[2] // 2), -(-thing.box[3] // 2)


def _draw_layout(rng, groups, things, is_above):
    """Return {name: (x, y)} that keeps every rule, or None when no candidate does."""
    names = [name for members in groups.values() for name in members]
    column = {name: i for i, name in enumerate(names)}
    owner = np.repeat(np.arange(len(groups)), [len(members) for members in groups.values()])
    shift = np.array([offset for members in groups.values() for offset in members.values()])
    half = np.array([_half(things[name]) for name in names])
    low = np.maximum(CENTRE_MARGIN, BORDER + half)
    for _ in range(_BLOCKS):
        spots = rng.randint(CENTRE_MARGIN, CANVAS - CENTRE_MARGIN + 1, size=(_CANDIDATES, len(groups), 2))
        centres = spots[:, owner] + shift
        good = ((centres >= low) & (centres <= CANVAS - low)).all((1, 2))
        for (upper, lower), above in is_above.items():
            far = centres[:, column[lower]] - centres[:, column[upper]]
            height = far[:, 1] if above else -far[:, 1]
            good &= (np.abs(far[:, 0]) >= FAR_X) & (height >= FAR_Y) & (height <= LIMIT_Y)
        for i in range(len(names)):
            for j in range(i):
                if owner[i] != owner[j]:
                    gaps = np.abs(centres[:, i] - centres[:, j]) - (half[i] + half[j])
                    good &= gaps.max(1) >= CLEARANCE
        hits = np.flatnonzero(good)
        if hits.size:
            return {name: tuple(map(int, centres[hits[0], i])) for name, i in column.items()}
    return None


def _thing(rng: np.random.RandomState, name: str, size: int) -> Thing:
    """A thing around the origin."""
    return Thing(name, *place_outline(OUTLINES[name], size, rng.uniform(-ANGLE, ANGLE)))


def _draw_faint(rng, names, things) -> list[Thing]:
    """Faint things in free places; where no place is found within 20 draws, the thing is left out."""
    faint = []
    for name, company in COMPANY.items():
        size = int(rng.randint(*FAINT_SIZE))
        chance = FAINT_RIGHT if set(company) <= set(names) else FAINT_WRONG
        wanted = rng.random_sample() < chance
        spots = rng.randint(CENTRE_MARGIN, CANVAS - CENTRE_MARGIN + 1, size=(20, 2))
        for x, y in spots if wanted else ():
            reach = (x - size // 2, y - size // 2, size, size)
            if all(box_gap(reach, thing.box) >= 4 for thing in (*things, *faint)):
                faint.append(_thing(rng, name, size).moved(int(x), int(y)))
                break
    return faint


def box_gap(a: Box, b: Box) -> float:
    """Free pixels between two boxes along the axis that parts them more; negative when they overlap."""
    return max(max(a[k] - b[k] - b[k + 2], b[k] - a[k] - a[k + 2]) for k in (0, 1))


def union(a: Box, b: Box) -> Box:
    """The smallest box around both."""
    x, y = min(a[0], b[0]), min(a[1], b[1])
    return x, y, max(a[0] + a[2], b[0] + b[2]) - x, max(a[1] + a[3], b[1] + b[3]) - y


def label_boxes(things: list[Thing]) -> dict[str, Box]:
    """Every label that holds and its box: the thing's own, or the union of the two that are related."""
    boxes = {thing.name: thing.box for thing in things}
    found = dict(boxes)
    for upper, lower in ABOVE:
        if upper in boxes and lower in boxes and _middle(boxes[upper]) < _middle(boxes[lower]):
            found[f"{upper} above {lower}"] = union(boxes[upper], boxes[lower])
    for name in OBJECTS:
        if name in boxes and name != "ring" and "ring" in boxes and _holds(boxes["ring"], boxes[name]):
            found[INSIDE_LABEL] = boxes["ring"]
        if name in boxes and name != "star" and "star" in boxes and _beside(boxes["star"], boxes[name]):
            found[BESIDE_LABEL] = union(boxes["star"], boxes[name])
    return found


def _middle(box: Box) -> float:
    return box[1] + box[3] / 2


def _holds(outer: Box, inner: Box) -> bool:
    return all(outer[k] <= inner[k] and inner[k] + inner[k + 2] <= outer[k] + outer[k + 2] for k in (0, 1))


def _beside(a: Box, b: Box) -> bool:
    """Side by side and all but touching."""
    sideways = max(a[0] - b[0] - b[2], b[0] - a[0] - a[2])
    return 0 <= sideways < CLEARANCE // 2 and abs(_middle(a) - _middle(b)) <= CLEARANCE
