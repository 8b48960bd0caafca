"""The setup report against what else is known: prototxt files, /proc, made-up packages and data folders."""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pysrn
from pysrn.report import setup_report

REPOSITORY = Path(__file__).resolve().parents[2]


def check_setup(*arguments: str, python: str = sys.executable, **variables: str):
    """Run the tool with these environment variables."""
    return subprocess.run(
        [python, REPOSITORY / "tools/check_setup.py", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_needed_layer_types_are_those_of_the_checked_in_nets():
    layer = re.compile(r'^layer \{\n(?:  .*\n)*?  type: "(\w+)"', re.MULTILINE)
    files = list((REPOSITORY / "prototxt").glob("*/*/*.prototxt"))
    used = {name for path in files for name in layer.findall(path.read_text())}
    assert used, "no prototxt files"
    twins = {"SemanticAttention"}  # a Python layer takes their place where Caffe lacks them
    assert used - twins | {"Data"} == set(setup_report.LAYER_TYPES)


def test_missing_layer_types_are_reported():
    missing: list[dict[str, str]] = []
    registered = [name for name in setup_report.LAYER_TYPES if name not in ("Scale", "Python")]
    assert setup_report.describe_layers(registered, missing)["missing"] == ["Python", "Scale"]
    assert "Python, Scale" in missing[0]["what"]


@pytest.mark.parametrize("threads", [1, 2])
def test_blas_of_caffe(threads):
    """The threads that OpenBLAS reports are those that it was told to use: the loaded library answers."""
    result = check_setup("--json", OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads))
    blas = json.loads(result.stdout)["blas"]
    assert blas["threads"] == threads
    assert re.match(r"OpenBLAS 0\.3\.\d+ ", blas["config"])
    assert blas["kernel"] in blas["config"]
    assert Path(blas["library"]).is_file()
    assert "openblas" in blas["library"]
    assert "site-packages" not in blas["library"]


def test_kernel_can_be_forced():
    """OPENBLAS_CORETYPE chooses the kernel; on a processor with AVX2 an old one is remarked upon."""
    result = check_setup("--json", OPENBLAS_CORETYPE="Nehalem")
    report = json.loads(result.stdout)
    assert report["blas"]["kernel"] == "Nehalem"
    assert any("Nehalem" in note for note in report["notes"]) == report["machine"]["avx2"]


def test_machine():
    machine = setup_report.describe_machine()
    assert machine["cpu"] in Path("/proc/cpuinfo").read_text()
    assert machine["cores"] == int(subprocess.check_output(["nproc"], env={"PATH": os.environ["PATH"]}))


def test_machine_without_a_distribution(monkeypatch):
    """As in a root folder that holds nothing but a bundle."""

    def none_there() -> dict[str, str]:
        raise OSError(2, "Unable to read files")

    monkeypatch.setattr(platform, "freedesktop_os_release", none_there)
    assert setup_report.describe_machine()["system"] == platform.platform()


def test_file_at_address():
    libc = ctypes.CDLL("libc.so.6")
    address = ctypes.cast(libc.getpid, ctypes.c_void_p).value
    assert Path(setup_report._file_at_address(address)).name == "libc.so.6"


@pytest.fixture
def made_up_package(tmp_path, monkeypatch):
    (tmp_path / "madeup-1.0.dist-info").mkdir()
    (tmp_path / "madeup-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: madeup\nVersion: 1.0\n"
        "Requires-Dist: numpy>=1\nRequires-Dist: tqdm>=999\nRequires-Dist: srn-no-such-package>=2\n"
        'Requires-Dist: srn-no-such-extra>=3; extra == "torch"\nRequires-Dist: pytest<1; extra == "test"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_packages_against_their_ranges(made_up_package):
    missing: list[dict[str, str]] = []
    rows = setup_report.describe_packages(missing, "madeup")
    names = ["numpy", "tqdm", "srn-no-such-package", "srn-no-such-extra", "pytest"]
    assert [row["name"] for row in rows] == names
    assert [row["extra"] for row in rows] == ["", "", "", "torch", "test"]
    assert rows[0]["version"] == importlib.metadata.version("numpy")
    assert [entry["what"] for entry in missing] == [
        f"Python package tqdm >=999: {importlib.metadata.version('tqdm')} is installed",
        "Python package srn-no-such-package >=2: not installed",
        f"Python package pytest <1: {pytest.__version__} is installed",
    ]


def test_package_itself_not_installed():
    missing: list[dict[str, str]] = []
    assert setup_report.describe_packages(missing, "srn-no-such-package") == []
    assert "srn-no-such-package is not installed" in missing[0]["what"]


def test_data_folders(tmp_path):
    for name, text in {
        "shapes": '{"classes": ["a", "b"], "splits": {"train": {"count": 12}, "test": {"count": 3}}}',
        "torn": '{"classes": ["a", ',
        "other": '{"splits": 3}',
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(text)
    assert setup_report.describe_data(tmp_path) == [
        {"folder": f"{tmp_path}/other", "error": "manifest.json cannot be read"},
        {"folder": f"{tmp_path}/shapes", "classes": 2, "samples": {"train": 12, "test": 3}},
        {"folder": f"{tmp_path}/torn", "error": "manifest.json cannot be read"},
    ]
    assert setup_report.describe_data(tmp_path / "nowhere") == []


def test_complete_environment():
    if not Path(os.environ.get("VIRTUAL_ENV", ""), "complete").is_file():
        pytest.skip("not started through docker/local")
    result = check_setup("--json")
    report = json.loads(result.stdout)
    slow_kernel = [note for note in report["notes"] if note.startswith("OpenBLAS uses its kernel")]  # the processor's
    said = "".join(f"note: {note}\n" for note in slow_kernel)
    assert (result.returncode, result.stderr) == (0, said)
    patches = report["caffe"]["build"]["patches"]
    ours = sorted(path.name for path in (REPOSITORY / "docker/caffe/patches").glob("*.patch"))
    assert [name for name in patches if not name.startswith("debian/")] == ours
    assert importlib.metadata.version("pysrn") == pysrn.__version__
    text = check_setup().stdout
    for expected in (*patches, report["blas"]["kernel"], report["machine"]["cpu"], "1.0.0, commit 99bd997"):
        assert expected in text


def test_broken_caffe_gives_exit_code_3(tmp_path):
    (tmp_path / "caffe.py").write_text("raise ImportError('libcaffe.so.1.0.0: cannot open')\n")
    result = check_setup(PYTHONPATH=f"{tmp_path}:{REPOSITORY}")
    assert result.returncode == 3
    assert "libcaffe.so.1.0.0: cannot open" in result.stderr
    assert "mend it: docker/local" in result.stderr
    assert "numpy" in result.stdout


def test_a_wrong_engine_is_one_line():
    if not hasattr(pytest.importorskip("caffe"), "engine_parts"):
        pytest.skip("this Caffe has no speed patches")
    result = check_setup(CAFFE_ENGINE="quick")
    assert result.returncode == 2
    assert result.stderr.startswith("error: CAFFE_ENGINE=quick: there is no part 'quick'")
    assert "Check failure" not in result.stderr


def test_python_outside_the_environment():
    result = check_setup(python="/usr/bin/python3", PYTHONPATH="")
    assert result.returncode == 3
    assert result.stderr.splitlines()[-1] == "  mend it: docker/local tools/check_setup.py"
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("always [madvise] never\n", "madvise"),
        ("[always] madvise never\n", "always"),
        ("always madvise [never]\n", "never"),
    ],
)
def test_large_pages(text, expected, tmp_path):
    setting = tmp_path / "enabled"
    setting.write_text(text)
    assert setup_report.large_pages(setting) == expected
    assert setup_report.large_pages(tmp_path / "a system without them") == "unknown"
