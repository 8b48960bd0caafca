"""What `pip install .` puts on a plain machine: the package as setup.py builds it, away from the clone and Caffe."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pysrn.convert import torch_weights
from pysrn.nets.caffemodel import write_weights
from pysrn.recipes import DATASETS, class_names
from pysrn.systems.srn.heads import HeadSpec
from tests.srn import Architecture

ROOT = Path(__file__).resolve().parents[2]
PLAIN = """
import json, runpy, sys
from pathlib import Path
sys.modules["caffe"] = None
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[2:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert end.code == 0, end.code
import pysrn
from pysrn.convert.torch_model import SRN
from pysrn.recipes import DATASETS, class_names
model = SRN.from_pretrained(next(Path().glob("*.pth")))
print(json.dumps([pysrn.__file__, model.class_names, {name: class_names(name) for name in DATASETS}]))
"""


def package_files(folder: Path) -> set[str]:
    """Paths below `folder`, but for compiled Python."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with what a wheel of the project holds: `build_py` is the part of pip's build that fills it."""
    clone, target = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "pysrn", clone / "pysrn", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.py", clone)
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(target)]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def test_every_file_of_the_package_is_installed(installed):
    assert package_files(installed / "pysrn") == package_files(ROOT / "pysrn")


def test_the_installed_package_converts_without_caffe_and_clone(installed, tmp_path):
    architecture = Architecture("resnet14", len(class_names("shapes")), HeadSpec(32, 32))
    with torch.device("meta"):
        shapes = torch_weights.caffe_shapes(torch_weights.empty_model(architecture))
    random = np.random.default_rng(0)
    layers = {name: ("?", [random.random(shape, np.float32) for shape in blobs]) for name, blobs in shapes.items()}
    write_weights(tmp_path / "weights.caffemodel", "net", layers)
    tool = shutil.copy(ROOT / "tools" / "to_torch.py", tmp_path)
    words = [tool, "weights.caffemodel", "-o", "srn.pth", "--dataset", "shapes"]
    command = [sys.executable, "-I", "-c", PLAIN, str(installed), *map(str, words)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    package, of_the_model, names = json.loads(done.stdout.splitlines()[-1])
    assert package == str(installed / "pysrn" / "__init__.py")
    assert tuple(of_the_model) == class_names("shapes")
    assert names == {dataset: list(class_names(dataset)) for dataset in DATASETS}
