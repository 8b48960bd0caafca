#!/usr/bin/env python3
"""Turn trained weights into a PyTorch state dict with a card, after checking both nets against each other.

With no arguments: the last stage of the run finished last in runs/. Exit 4, and nothing written, when Caffe and PyTorch
differ.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pysrn.console import MissingError, ToleranceError, UsageError, run_main
from pysrn.recipes import DATASETS


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", help="a run's folder, or a caffemodel (default: see above)")
    parser.add_argument("-o", "--out", type=Path, help="file.pth (default: srn.pth beside the weights)")
    parser.add_argument("--dataset", choices=list(DATASETS), help="whose labels (default: those of the run)")
    parser.add_argument("--data", help="LMDB pair whose test images are compared (default: that of the run)")
    return run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> None:
    """Convert, verify, write."""
    try:
        import torch  # noqa: F401 - only to say what is missing
    except ImportError:
        raise MissingError("PyTorch is not installed", "pip install -e .[torch]") from None
    from pysrn.convert import torch_export
    from pysrn.convert.torch_weights import load_model
    from pysrn.evaluate.deploy import DeployNet
    from pysrn.evaluate.trained import default_run, find_weights

    weights = find_weights(arguments.weights or default_run())
    out = arguments.out or weights.parent / torch_export.FILE_NAME
    if out.suffix != ".pth" or out.is_dir():
        raise UsageError(f"--out must name a .pth file, not {out}")
    model, net = load_model(weights), DeployNet(weights)
    classes = torch_export.label_names(net, arguments.dataset)
    images, checked_on = torch_export.images_to_check(net, arguments.data)
    differences = torch_export.verify(net, model, images)
    print(torch_export.report(differences, checked_on))
    if not all(found.ok for found in differences.values()):
        raise ToleranceError("PyTorch differs from Caffe by more than the tolerance; nothing was written")
    card = torch_export.card(weights, net.architecture, classes, differences, checked_on)
    card_path = torch_export.save(model, card, out)
    print(f"{out}: state dict of {len(model.state_dict())} tensors\n{card_path}: its card")


if __name__ == "__main__":
    sys.exit(main())
