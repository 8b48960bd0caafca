"""docker/caffe/build.sh: what it refuses, with which words and exit code, and that it leaves nothing behind.

The build itself is what makes the environment that these tests run in.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.holding import HANG

REPOSITORY = Path(__file__).resolve().parents[2]
CAFFE = REPOSITORY / "docker/caffe"
BUILD = CAFFE / "build.sh"
ORIG_FILE = "caffe_1.0.0+git20180821.99bd997.orig.tar.gz"
DEBIAN_FILE = "caffe_1.0.0+git20180821.99bd997-8.debian.tar.xz"


def build(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BUILD, *map(str, arguments)],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
def debian_packages() -> None:
    command = REPOSITORY / "docker/missing-packages"
    missing = subprocess.run([command], capture_output=True, text=True, check=False)
    if missing.returncode or missing.stdout.strip():
        pytest.skip(f"Debian packages are missing: {missing.stdout or missing.stderr}")


@pytest.mark.parametrize("arguments", [(), ("a", "b"), ("--fast",), ("",), ("--tests",), ("--tests", "--fast", "a")])
def test_wrong_usage(arguments):
    result = build(*arguments)
    assert result.returncode == 2
    assert "docker/caffe/build.sh PREFIX" in result.stderr


def test_prefix_without_parent(tmp_path):
    result = build(tmp_path / "no/where")
    assert result.returncode == 2
    assert result.stderr == f"docker/caffe/build.sh: no folder {tmp_path}/no to make where in\n"
    assert not list(tmp_path.iterdir())


def test_prefix_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "caffe").mkdir()
    (tmp_path / "caffe/precious").write_text("precious")
    result = build(tmp_path / "caffe")
    assert result.returncode == 2
    assert "is there already" in result.stderr
    assert (tmp_path / "caffe/precious").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["caffe"]


def test_source_folder_without_the_source(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    result = build(target / "caffe", CAFFE_SOURCE_DIR=str(source))
    assert result.returncode == 3
    assert result.stderr.endswith(f"CAFFE_SOURCE_DIR={source} has no file {ORIG_FILE}\n")
    assert not list(target.iterdir())


def test_altered_source_is_refused(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / ORIG_FILE).write_bytes(b"")
    (source / DEBIAN_FILE).write_bytes(b"")
    result = build(target / "caffe", CAFFE_SOURCE_DIR=str(source))
    assert result.returncode == 1
    assert f"{ORIG_FILE} is not the expected file: sha256 {hashlib.sha256(b'').hexdigest()}" in result.stderr
    assert not list(target.iterdir())


def test_second_build_waits_for_the_first(tmp_path):
    """A build holds a lock on the folder that it builds in; another one says so and waits."""
    first = subprocess.Popen(["flock", tmp_path, "cat"], stdin=subprocess.PIPE)
    while subprocess.run(["flock", "-n", tmp_path, "true"], check=False).returncode == 0:
        assert first.poll() is None
    variables = {**os.environ, "CAFFE_SOURCE_DIR": str(tmp_path)}
    second = subprocess.Popen([BUILD, tmp_path / "caffe"], stderr=subprocess.PIPE, text=True, env=variables)
    try:
        assert second.stderr is not None
        assert "another build" in second.stderr.readline()
        assert second.poll() is None
        (tmp_path / "caffe").mkdir()  # what the first one leaves when it is done
        first.communicate(b"", timeout=HANG)
        assert "is there already" in second.communicate(timeout=HANG)[1]
        assert second.returncode == 2
    finally:
        first.kill()
        second.kill()


@pytest.mark.slow
def test_the_same_bytes_in_any_folder(tmp_path):
    """Two builds in folders whose names differ in length: the same files, and no file names the folder."""
    source = build_source()
    built = [tmp_path / "a/caffe", tmp_path / "a-longer-folder/caffe"]
    for prefix in built:
        prefix.parent.mkdir()
        done = build(prefix, CAFFE_SOURCE_DIR=source)
        assert done.returncode == 0, done.stderr
    one, other = ({str(path.relative_to(prefix)): content(path) for path in prefix.rglob("*")} for prefix in built)
    assert {"lib/libcaffe.so.1.0.0", "lib/python3/dist-packages/caffe/_caffe.so", "bin/caffe"} <= one.keys()
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    assert [name for name, data in one.items() if os.fsencode(tmp_path) in data] == []
    record = json.loads(one["caffe-build.json"])
    assert record["packages"]["libopenblas-openmp-dev"] and "WORK" in " ".join(record["options"])


def content(path: Path) -> bytes:
    if path.is_symlink():
        return os.fsencode(os.readlink(path))
    return path.read_bytes() if path.is_file() else b""


def build_source() -> str:
    """The source of Caffe that docker/local has fetched, or what CAFFE_SOURCE_DIR names."""
    kept = Path(os.environ.get("VIRTUAL_ENV", "")).parent / "caffe-source"
    folder = os.environ.get("CAFFE_SOURCE_DIR", str(kept))
    if not (Path(folder) / ORIG_FILE).is_file():
        pytest.skip(f"no source of Caffe in {folder}")
    return folder


def test_every_patch_says_what_and_why():
    patches = sorted((CAFFE / "patches").glob("*.patch"))
    assert patches
    for path in patches:
        header = path.read_text().partition("\n--- ")[0]
        fields = [line.split()[0] for line in header.splitlines() if line and not line.startswith(" ")]
        assert fields == ["Description:", "What:", "Why:"], path


def our_files() -> list[Path]:
    found = [path for folder in ("include", "src") for path in (CAFFE / folder).rglob("*") if path.is_file()]
    assert {path.name for path in found} >= {"onednn_convolution.cpp", "fusion.cpp", "host_buffer.hpp"}
    return found


def test_patches_change_files_and_make_none():
    """What is ours alone is a file that an editor can show, not the plus side of a diff."""
    ours = {str(path.relative_to(CAFFE)) for path in our_files()}
    for path in sorted((CAFFE / "patches").glob("*.patch")):
        text = path.read_text()
        assert "\n--- /dev/null" not in text and "\n+++ /dev/null" not in text, path
        assert not ours & set(re.findall(r"^\+\+\+ b/(\S+)", text, re.MULTILINE)), path


def test_our_files_are_in_the_style_of_caffe():
    for path in our_files():
        lines = path.read_text().splitlines()
        assert max(map(len, lines)) <= 80 and not any(line != line.rstrip() or "\t" in line for line in lines), path
        if path.suffix == ".hpp":
            name = re.sub(r"\W", "_", str(path.relative_to(CAFFE / "include"))).upper() + "_"
            assert lines[:2] == [f"#ifndef {name}", f"#define {name}"] and lines[-1] == f"#endif  // {name}", path


def test_a_file_of_caffe_is_not_replaced(tmp_path):
    """`add_files` alone, in a copy of the folder with a file that Caffe has as well."""
    (tmp_path / "caffe/src/caffe").mkdir(parents=True)
    (tmp_path / "caffe/include").mkdir()
    (tmp_path / "caffe/src/caffe/net.cpp").write_text("ours")
    (tmp_path / "caffe/src/caffe/new.cpp").write_text("ours")
    (tmp_path / "work/source/src/caffe").mkdir(parents=True)
    function = re.search(r"^add_files\(\) \{.*?^\}$", BUILD.read_text(), re.MULTILINE | re.DOTALL)[0]
    script = f'set -euo pipefail; die() {{ echo "$2" >&2; exit $1; }}\n{function}\nadd_files; echo ${{added[@]}}'
    variables = {**os.environ, "here": str(tmp_path / "caffe"), "work": str(tmp_path / "work")}
    run = ["bash", "-c", script]
    done = subprocess.run(run, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "src/caffe/net.cpp src/caffe/new.cpp\n"
    (tmp_path / "work/source/src/caffe/new.cpp").unlink()
    (tmp_path / "work/source/src/caffe/net.cpp").write_text("Caffe's")
    done = subprocess.run(run, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "docker/caffe/src/caffe/net.cpp" in done.stderr
    assert (tmp_path / "work/source/src/caffe/net.cpp").read_text() == "Caffe's"
