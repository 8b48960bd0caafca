"""Structure and widths of CNN-RNN's recurrent part, and how the labels of an image become a path.

`label_order` and `longest_path` are what a user asks for; `path_order` and `path_steps` are what they come to on the
labels of a training set (`paths.fit`), and None before.
"""

from __future__ import annotations

from dataclasses import dataclass

from pysrn.recipes import option

CELLS = ("lstm", "paper")
WIDEST_BEAM = 1000  # assumed: every step of a search is so many rows an image
FREQUENT, RARE, RANDOM = "frequent", "rare", "random"


@dataclass(frozen=True)
class HeadSpec:
    """Sources: papers' transcriptions in two repositories of students (STU, 53101187923), which agree."""

    embedding_width: int = 64  # of a label, and of the joint space: scores use the same matrix
    recurrent_width: int = 512
    # `lstm`: Caffe's own, the default because it trains better (docs/cnn_rnn.md). `paper`: r = f r' + i x', o = o' r.
    cell: str = option("lstm", kind="choice", choices=CELLS, help="the usual LSTM, or the paper's simpler recurrence")
    dropout: float = option(0.5, kind="fraction", metavar="F", help="of the joint space, in training")  # STU
    # By frequency in the training set, frequent first: abstract of Orderless-RNN, STU.
    label_order: str = option(
        FREQUENT,
        kind="path",
        metavar="ORDER",
        help="of the labels in a path: frequent, rare (first), random (by the seed), or a list's FILE",
    )
    longest_path: int | None = option(
        None, kind="count", metavar="N", help="labels of a path in training (default: as many as an image has)"
    )
    # Labels that a path must have in a search. No source has the number for NUS-WIDE: implied by its top 3.
    shortest_path: int = option(0, kind="count", metavar="N", help="labels that a path has at least, in a search")
    beam_width: int = option(5, kind="count", metavar="N", help="paths that are followed at once")  # assumed
    path_order: tuple[int, ...] | None = None
    path_steps: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a cell that there is not."""
        if self.cell not in CELLS:
            raise ValueError(f"no cell {self.cell}")
