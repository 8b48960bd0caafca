#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Turn PyTorch weights into a caffemodel, after both nets were compared.

Takes a state dict (.safetensors, .pth) of torchvision's ResNet-50, -101 or -152 (for the trunks resnet*_v15) or VGG-16,
of timm's resnetv2_50, _101 or _152 (for the pre-activation trunks), of a net of ours, or of a system's authors' own
code, where the system knows it. ImageNet weights become a trunk for stage 1 whose input is the system's. Exit 4, and
nothing written, when Caffe differs from PyTorch.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
from pathlib import Path

from pysrn.console import ToleranceError, UsageError, check_packages, run_main
from pysrn.whole_files import written_beside

CHECK_IMAGES = 2
ENDING = ".caffemodel"


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="file.safetensors or file.pth")
    parser.add_argument("-o", "--out", type=Path, help="file.caffemodel (default: beside the weights)")
    rgb = "of the RGB input from 0 to 1 that an ImageNet net was trained with (default: torchvision's; timm's 0.5)"
    parser.add_argument("--mean", type=three_parts, metavar="R,G,B", help=f"mean {rgb}")
    parser.add_argument("--std", type=three_parts, metavar="R,G,B", help=f"deviation {rgb}")
    parser.add_argument("--data", help="weights of a system's authors: the LMDB pair of their data set")
    parser.add_argument(
        "--head", help="weights of a system's authors: which of their heads (default: the one that they use)"
    )
    return run_main(work, parser.parse_args(argv))


def three_parts(text: str) -> tuple[float, ...]:
    """Three numbers from 0 to 1, divided by commas: of 0 to 255 they would make another net, and nothing would tell."""
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(0 <= value <= 1 for value in values):
        raise argparse.ArgumentTypeError("three numbers from 0 to 1 are needed, as 0.485,0.456,0.406")
    return values


def work(arguments: argparse.Namespace) -> None:
    """Convert, verify, write."""
    check_packages("torch", "safetensors")
    from pysrn.convert import torch_files, torch_import, torch_weights

    out = arguments.out or arguments.weights.with_suffix(ENDING)
    if out.suffix != ENDING or out.is_dir():
        raise UsageError(f"--out must name a {ENDING} file, not {out}")
    if arguments.weights.suffix == ENDING:
        raise UsageError(f"{arguments.weights} is a caffemodel", "to PyTorch: tools/to_torch.py")
    values, source = torch_files.read_state_dict(arguments.weights), str(arguments.weights)
    torch_weights.check_finite(values, source)
    family = torch_import.family_of(values)
    if 0 in (arguments.std or ()):
        raise UsageError("--std must be above 0")
    if family is None and (arguments.mean or arguments.std):
        raise UsageError("--mean and --std are for ImageNet nets: the input of our own is ours already")
    unused: list[str] = []
    if authors := torch_import.of_authors(values):
        values, unused = torch_import.from_authors(values, authors, source, arguments.data, arguments.head)
    with written_beside(out) as partial:
        if family is None:
            done = torch_import.import_model(values, source, partial, CHECK_IMAGES)
        else:
            numbers = CHECK_IMAGES, arguments.mean, arguments.std
            done = torch_import.import_trunk(values, family, source, partial, *numbers)
        print(done.verification.report(every_layer=family is not None))
        if not done.verification.ok:
            raise ToleranceError("Caffe differs from PyTorch by more than the tolerance; nothing was written")
    if done.border:
        shown = ", ".join(f"{found.relative:.2%} of the greatest {name}" for name, found in done.border.items())
        print(f"  beyond the border our mean colour stands for theirs; to the original net that makes at most {shown}")
    if unused:
        print(f"  not used, for they take no part: {', '.join(unused)}")
    print(f"{out}: {done.layers} layers of {done.title}")
    if family is not None:
        print(f"train with it: tools/run_stage.py {done.flags} --weights {out}")


if __name__ == "__main__":
    sys.exit(main())
