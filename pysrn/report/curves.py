"""The report's loss curves: a picture a stage, so that they stand below each other on a phone."""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pysrn.console import SrnError
from pysrn.pictures.curves import LOSS_TITLE, draw_stage, read_log, read_validation
from pysrn.report.data import Gap, Gathered
from pysrn.report.markup import Html, element, note, paragraph, picture
from pysrn.train.stage.stage_log import LOG

SIZE = (5.6, 3.5)  # inches
RESOLUTION = 150  # dots an inch: sharp on a phone


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
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        panel = figure.subplots()
        draw_stage(panel, f"stage {number}: {name}", log, validation)
        panel.set_ylabel(LOSS_TITLE)
        file, size = io.BytesIO(), tuple(round(side * RESOLUTION) for side in SIZE)
        figure.savefig(file, format="png", dpi=RESOLUTION)
        pictures.append(picture(file.getvalue(), "png", f"loss and learning rate of stage {number}, {name}", size))
    if not pictures:
        return [note(f"No {LOG} of any stage: there is nothing to draw.")]
    text = "Thin: the loss of each iteration. Thick: its running mean. Dotted: the learning rate. "
    text += "Black: the loss on held-out images." if validated else "No images were held out for a validation loss."
    return [paragraph(text), element("div", *pictures, class_="curves")]
