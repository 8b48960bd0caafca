#!/usr/bin/env -S --block-signal=INT,TERM python3
"""Turn trained weights into PyTorch files: .safetensors and .pth, each with a card, after both nets were compared.

With no arguments: the last stage of the run finished last in runs/. The files' names end in digits of their SHA-256.
Exit 4, and nothing written, when PyTorch differs from Caffe. The conversion needs no Caffe; without it the comparison
is with the tensors (*-check.npz) that this tool stored beside the weights where Caffe was.
"""

from __future__ import annotations

import pysrn.early_signals  # noqa: F401

# isort: split
import argparse
import sys
from functools import partial
from pathlib import Path

from pysrn.console import ToleranceError, UsageError, check_packages, message, run_main
from pysrn.recipes import DATASETS

ONNX = ".onnx"


def main(argv: list[str] | None = None) -> int:
    """Command line entry; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", help="a run's folder, or a caffemodel (default: see above)")
    parser.add_argument(
        "-o", "--out", type=Path, help="FILE: FILE-<SHA-256>.pth and so on (default: beside the weights)"
    )
    parser.add_argument("--dataset", choices=list(DATASETS), help="whose labels (default: those of the run)")
    parser.add_argument(
        "--data",
        help="LMDB pair: its test images are compared, its labels meant where nothing else says (default: the run's)",
    )
    parser.add_argument("--onnx", action="store_true", help="write an ONNX file, too, checked with onnxruntime")
    parser.add_argument(
        "--authors", action="store_true", help="write a .pth file with the names of the system's authors' code, too"
    )
    parser.add_argument(
        "--layers", action="store_true", help="print the difference of every layer, not only the outputs"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="WEIGHTS is a file that this tool wrote: only compare it with the tensors stored beside it",
    )
    return run_main(work, parser.parse_args(argv))


def work(arguments: argparse.Namespace) -> None:
    """Convert, verify, write."""
    check_packages("torch", "safetensors", *("onnx", "onnxruntime") * arguments.onnx)
    from pysrn import freed_memory
    from pysrn.convert import check_tensors, torch_export, torch_files, torch_weights
    from pysrn.nets.caffemodel import read_weights, sha256_of
    from pysrn.predict.trained import architecture_of, default_run, find_weights

    if arguments.verify:
        verify_file(arguments.weights, arguments.layers)
        return
    weights = find_weights(arguments.weights or default_run())
    if weights.suffix in (*torch_files.SUFFIXES, ONNX):
        raise UsageError(f"{weights} is no caffemodel; a PyTorch file is compared with --verify")
    blobs = read_weights(weights)
    architecture = architecture_of(blobs, weights)
    if arguments.authors:
        torch_export.authors_of(architecture)
    out = arguments.out or weights.parent / f"{architecture.system.name}.pth"
    if out.suffix not in ("", *torch_files.SUFFIXES) or out.is_dir():
        raise UsageError(f"--out must name a {' or '.join(torch_files.SUFFIXES)} file, not {out}")
    model = torch_weights.model_of(blobs, architecture, str(weights))
    torch_weights.check_finite(model.state_dict(), str(weights))
    del blobs
    classes = torch_export.label_names(weights, architecture, arguments.dataset, arguments.data)
    digest = sha256_of(weights)
    verification = to_store = None
    if torch_export.has_caffe():
        verification, to_store = with_caffe(weights, model, arguments.data)
        freed_memory.give_back()  # Caffe's net and what both nets computed
    elif tensors := check_tensors.find_check([weights.parent, out.parent], digest):
        verification = torch_export.verify_stored(tensors, model)
    if verification is None:
        message("not verified: there is neither Caffe nor a *-check.npz of these weights beside them; the card says so")
    else:
        judge(verification, arguments.layers, "; nothing was written")
    values = model.state_dict()
    card = torch_export.card(weights, architecture, classes, verification)
    written = []
    for suffix in torch_files.SUFFIXES:
        path = torch_files.write_named(out, suffix, partial(torch_files.write_state_dict, values, suffix))
        written.append(path)
        print(f"{path}\n{torch_files.write_card(card, path)}: its card")
    if arguments.authors:
        theirs, unused = torch_export.for_authors(values, architecture)
        path = torch_files.write_named(
            out.with_name(f"{out.stem}-authors"), ".pth", partial(torch_files.write_state_dict, theirs, ".pth")
        )
        print(f"{path}: the authors' names; zero, for they take no part: {', '.join(unused)}")
    if arguments.onnx:
        from pysrn.convert.onnx_export import export_onnx, signature

        path, differences = export_onnx(model, out, torch_export.check_images(architecture.input, 2, seed=1))
        found = {name: difference.absolute for name, difference in differences.items()}
        written.append(path)
        card["onnx"] = signature(path)
        card["onnxruntime"] = {"against": "PyTorch", "max_abs_difference": found}
        print(f"onnxruntime and PyTorch: {max(found.values()):.2e} at most")
        print(f"{path}\n{torch_files.write_card(card, path)}: its card")
    if older := torch_files.named_alike(out, (*torch_files.SUFFIXES, ONNX), written):
        message(f"files of earlier calls stay: {', '.join(path.name for path in older)}")
    if to_store is not None:
        path = out.with_name(f"{out.stem}{check_tensors.ENDING}")
        check_tensors.write_check(path, *to_store, digest)
        print(f"{path}: an image and Caffe's outputs, to verify with where no Caffe is")


def with_caffe(weights: Path, model, data: str | None):
    """Compare with Caffe; returns the verification, and the first image with Caffe's outputs."""
    from pysrn.convert import torch_export
    from pysrn.predict.deploy import DeployNet

    net = DeployNet(weights)
    images, which = torch_export.images_to_check(net, data)
    outputs = torch_export.outputs_of(net.system)
    verification = torch_export.Verification("Caffe", which, torch_export.verify(net, model, images), outputs)
    return verification, (images[:1], net.forward(images[:1], outputs))


def judge(verification, every_layer: bool, consequence: str = "") -> None:
    """Print the comparison; ToleranceError where it is out of tolerance."""
    print(verification.report(every_layer))
    if not verification.ok:
        raise ToleranceError(f"PyTorch differs from Caffe by more than the tolerance{consequence}")


def verify_file(file: str | None, every_layer: bool) -> None:
    """Compare written weights with the tensors stored beside them."""
    from pysrn.convert import check_tensors, torch_export, torch_files

    path = Path(file or "")
    if path.suffix not in torch_files.SUFFIXES:
        raise UsageError(f"--verify needs a {' or '.join(torch_files.SUFFIXES)} file that this tool wrote")
    model, card = torch_files.load_pretrained(path), torch_files.read_card(path)
    tensors = check_tensors.check_beside(path, card["source"]["sha256"])
    judge(torch_export.verify_stored(tensors, model), every_layer)


if __name__ == "__main__":
    sys.exit(main())
