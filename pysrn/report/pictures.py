"""Pictures of the report: loss curves, and as bytes to put inline small JPEGs of images and PNGs of matrices."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pysrn.console import SrnError
from pysrn.nets.map_places import Places
from pysrn.pictures.attention import overlay
from pysrn.pictures.curves import LOSS_TITLE, draw_stage, read_log, read_validation
from pysrn.pictures.pointing import Box
from pysrn.report.data import Gap, Gathered
from pysrn.report.markup import Html, element, note, paragraph, picture
from pysrn.train.stage.stage_log import LOG

SIDE = 224  # pixels of an image in the page
QUALITY = 82  # of its JPEG
COLOUR_KEPT, WHITE_ADDED = 0.35, 0.25  # of an image under a map, whose colours shall stand out
MATRIX_COLOURS = "Blues"
CURVES_SIZE = (5.6, 3.5)  # inches of a stage's picture, so that they stand below each other on a phone
RESOLUTION = 150  # dots an inch: sharp there


def jpeg(image: np.ndarray, boxes: Sequence[Box] = (), drawn: tuple[np.ndarray, Places] | None = None) -> bytes:
    """An image (H x W x 3 BGR) as a JPEG of `SIDE` x `SIDE`, a map (h x w, and its places) over it, boxes drawn in."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    if drawn is not None:
        grey = cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        small = cv2.addWeighted(small, COLOUR_KEPT, grey, 1 - COLOUR_KEPT - WHITE_ADDED, 255 * WHITE_ADDED)
        small = np.ascontiguousarray(overlay(np.ascontiguousarray(small[..., ::-1]), *drawn)[..., ::-1])
    for left, top, right, bottom in boxes:
        corners = [tuple(round(SIDE * place - 0.5) for place in corner) for corner in ((left, top), (right, bottom))]
        cv2.rectangle(small, *corners, (255, 255, 255), 3)
        cv2.rectangle(small, *corners, (0, 0, 0), 1)
    return _encoded(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def matrix(values: np.ndarray) -> bytes:
    """Fractions (C x C) as a PNG of one pixel a cell, dark where high, grey on the diagonal and where NaN."""
    colours = matplotlib.colormaps[MATRIX_COLOURS](np.nan_to_num(values))[..., :3]
    colours[np.isnan(values) | np.eye(len(values), dtype=bool)] = 0.85
    return _encoded(".png", np.rint(255 * colours[..., ::-1]).astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def curves(found: Gathered) -> list[Html]:
    """Loss, learning rate and validation loss of every stage that has a log."""
    pictures, validated = [], False
    for number, name in found.stage_names.items():
        path = found.run.stage(number) / LOG
        if not path.is_file():
            continue
        try:
            log = read_log(path)
        except SrnError as error:
            found.gaps.append(Gap(f"curves of stage {number}: {error}", error.cure or found.run.command(number)))
            continue
        validation = read_validation(path.parent)
        validated |= len(validation) > 0
        figure = Figure(figsize=CURVES_SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        panel = figure.subplots()
        draw_stage(panel, f"stage {number}: {name}", log, validation)
        panel.set_ylabel(LOSS_TITLE)
        file, size = io.BytesIO(), tuple(round(side * RESOLUTION) for side in CURVES_SIZE)
        figure.savefig(file, format="png", dpi=RESOLUTION)
        pictures.append(picture(file.getvalue(), "png", f"loss and learning rate of stage {number}, {name}", size))
    if not pictures:
        return [note(f"No {LOG} of any stage: there is nothing to draw.")]
    text = "Thin: the loss of each iteration. Thick: its running mean. Dotted: the learning rate. "
    text += "Black: the loss on held-out images." if validated else "No images were held out for a validation loss."
    return [paragraph(text), element("div", *pictures, class_="curves")]


def _encoded(ending: str, image: np.ndarray, options: list[int]) -> bytes:
    return cv2.imencode(ending, image, options)[1].tobytes()
