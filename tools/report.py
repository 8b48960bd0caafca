#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Write a run's page: metrics, classes, attention pictures, curves, and how it was made, in one file for any browser.

With no arguments: of the run finished last in runs/. What is not there yet is left out; the page says which command
makes it.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
from pathlib import Path

from pysrn.console import check_output_file, message, run_main


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="default: the one finished last in runs/")
    parser.add_argument("--data", help="folder of the LMDB pair (default: the one that the run was trained on)")
    parser.add_argument("--split", default="test", help="default: %(default)s")
    parser.add_argument("--annotations", type=Path, help="COCO JSON with boxes (default: DATA/annotations/SPLIT.json)")
    parser.add_argument("--image-folder", type=Path, help="of the annotations (default: DATA/images/SPLIT)")
    parser.add_argument("--gpu", type=int, help="CUDA device for the attention maps (default: CPU)")
    parser.add_argument("-o", "--out", type=Path, help="default: RUN/report.html")
    return run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> None:
    """Write the page."""
    from pysrn.predict.trained import default_run
    from pysrn.report import page

    run = arguments.run or default_run()
    out = arguments.out or run / page.NAME
    check_output_file(out)
    boxes = page.BoxSource(arguments.annotations, arguments.image_folder)
    lacking = page.write_report(run, out, arguments.data, arguments.split, boxes, arguments.gpu)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    for gap in lacking:
        message(f"left out: {gap.what}")
        message(f"  mend it: {gap.cure}")


if __name__ == "__main__":
    sys.exit(main())
