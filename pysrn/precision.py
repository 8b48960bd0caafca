"""What convolutions multiply on the CPU: fp32, or bf16 where that is asked for (D18).

bf16 is a part of our engine (CAFFE_ENGINE) and is chosen through it, so that all who ask for the engine in use know.
Sums, weights, gradients and all other layers stay fp32. A net that does not learn keeps bf16 between convolutions.
"""

from __future__ import annotations

import argparse
import os

from pysrn.console import MissingError, UsageError

FP32, BF16 = PRECISIONS = "fp32", "bf16"
PRECISION = "precision"  # in `about` of predictions that were not made in fp32


def add_precision(parser: argparse._ActionsContainer) -> None:
    """Add --precision."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=FP32,
        help="what convolutions multiply on the CPU; bf16 has three digits, and needs AVX512-BF16 (default: fp32)",
    )


def multiply_in(precision: str, gpu: bool = False) -> None:
    """Let convolutions multiply in this precision from now on, here and in processes that are started.

    To be called before Caffe has made a net. Where CAFFE_ENGINE has bf16 already, fp32 changes nothing.
    Raises UsageError for a GPU or stock Caffe, MissingError where the processor or Caffe has no such arithmetic.
    """
    from pysrn.nets.in_caffe import ENGINE, engine_in_use

    if precision == FP32:
        return
    if gpu:
        raise UsageError(f"--precision {precision} is for the CPU", "leave --gpu or --precision out")
    asked = os.environ.get(ENGINE) or "all"
    if asked == "stock":
        raise UsageError(
            f"--precision {precision} is a part of our engine: {ENGINE}=stock has none", f"leave {ENGINE} out"
        )
    if precision not in asked.split(","):
        os.environ[ENGINE] = f"{asked},{precision}"
    if precision not in engine_in_use():
        raise MissingError(
            f"this Caffe cannot compute in {precision}", "take ours, by docker/local, or leave --precision out"
        )


def precision_in_use() -> str:
    """One of PRECISIONS; raises as `in_caffe.engine_in_use`."""
    from pysrn.nets.in_caffe import engine_in_use

    return BF16 if BF16 in engine_in_use() else FP32


def about_precision() -> dict[str, str]:
    """What predictions say of it: nothing of fp32."""
    return {} if (used := precision_in_use()) == FP32 else {PRECISION: used}
