#!/usr/bin/env python3
"""Run a trained net over a split of a data set and keep the logits of all its scores.

With no arguments: the last stage of runs/shapes on the test split of the embedded data set.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pysrn.console import UsageError, run_main
from pysrn.recipes import STAGE_NAMES


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", default="runs/shapes", help="a run's folder, or a caffemodel")
    parser.add_argument("--stage", type=int, choices=list(STAGE_NAMES), help="of the run (default: 4)")
    parser.add_argument("--data", help="folder of the LMDB pair (default: the one that the run was trained on)")
    parser.add_argument("--split", default="test", help="default: %(default)s")
    parser.add_argument("-o", "--out", type=Path, help="default: predictions_<split>.npz beside the weights")
    parser.add_argument("--batch-size", type=int, help="images at once (default: 16)")
    parser.add_argument("--gpu", type=int, help="CUDA device (default: CPU)")
    return run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> None:
    """Predict and write the file."""
    from pysrn.data.lmdb_pair import PairReader
    from pysrn.evaluate import predict
    from pysrn.evaluate.deploy import DeployNet
    from pysrn.evaluate.trained import find_weights

    batch_size = predict.BATCH_SIZE if arguments.batch_size is None else arguments.batch_size
    if not 1 <= batch_size <= predict.LARGEST_BATCH:
        raise UsageError(f"--batch-size must be at least 1 and at most {predict.LARGEST_BATCH}")
    if arguments.out is not None and arguments.out.is_dir():
        raise UsageError(f"--out must name a file: {arguments.out} is a folder")
    weights = find_weights(arguments.weights, arguments.stage)
    pair = PairReader(predict.data_folder(weights, arguments.data), arguments.split)
    found = predict.predict(DeployNet(weights, batch_size, arguments.gpu), pair, batch_size)
    out = arguments.out or weights.parent / f"predictions_{arguments.split}.npz"
    found.save(out)
    print(f"{out}: {len(found.keys)} images, {len(found.classes)} labels, {', '.join(found.scores)}")


if __name__ == "__main__":
    sys.exit(main())
