"""What the labels of a user's photos look at: the maps over the photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pysrn.console import UsageError
from pysrn.data.readers.label_text import printable
from pysrn.pictures.attention import Row
from pysrn.predict.deploy import DeployNet
from pysrn.predict.photos import read_photos
from pysrn.predict.probability import sigmoid
from pysrn.predict.splits import views_of


def attention_rows(
    net: DeployNet, paths: Sequence[Path], classes: Sequence[str], score: str, maps: Sequence[str], count: int
) -> list[Row]:
    """A row for every readable file and map: the photo, and the maps of its `count` highest labels over it."""
    if absent := [name for name in maps if name not in net.maps]:
        raise UsageError(f"{net.path} does not compute {', '.join(absent)}", "give the weights of a later stage")
    rows, titles = [], {one.name: one.title for one in net.system.maps}
    places = {name: net.places(name) for name in maps}
    for photo in read_photos(paths, net.architecture.input.stored_size):
        outputs = net.forward(views_of([photo.pixels], net.architecture.input), (*maps, score))
        logits = outputs[score][0]
        best = np.argsort(-logits, kind="stable")[:count]
        for name in maps:
            panels = [
                (int(label), f"{classes[label]}\np = {sigmoid(logits[label]):.2f}", outputs[name][0, label])
                for label in best
            ]
            title = f"{printable(photo.path.name, 30)}\n{titles[name]}"
            rows.append(Row(cv2.cvtColor(photo.shown, cv2.COLOR_BGR2RGB), title, panels, {}, places[name]))
    return rows
