"""docker/build --bundle: what a bundle loads, how it starts, its bytes. The slow test makes one and runs it alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from docker.bundle import make, parts
from docker.bundle.archive import write_archive
from docker.bundle.closure import (
    LOADER,
    ClosureError,
    check_closed,
    check_no_paths,
    elf_files,
    libraries,
    needed,
    without_search_paths,
)
from tests.holding import HANG, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "docker/build"
# Prints what it was started with, one a line, after a number that comes from a library.
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
int number(void);
int main(int argc, char** argv) {
  const char* names[] = {"PATH", "PYTHONPATH", "PYTHONHOME", "LD_PRELOAD", "LC_ALL", "PYTHONUTF8"};
  printf("number=%d\\n", number());
  for (int i = 0; i < argc; ++i) printf("argv%d=%s\\n", i, argv[i]);
  for (int i = 0; i < 6; ++i) if (getenv(names[i])) printf("%s=%s\\n", names[i], getenv(names[i]));
  return 7;
}
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the root folder")


def run(*command: object, **options) -> subprocess.CompletedProcess[str]:
    defaults = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": HANG, "check": False}
    return subprocess.run([str(word) for word in command], **{**defaults, **options})


def compiled(target: Path, source: str, *flags: object) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    code = target.with_name(f"{target.name}.c")
    code.write_text(source)
    done = run("gcc", "-o", target, code, *flags)
    assert done.returncode == 0, done.stderr
    code.unlink()
    return target


def library(target: Path, number: int, *flags: object) -> Path:
    return compiled(
        target, f"int number(void) {{ return {number}; }}", "-shared", "-fPIC", "-Wl,-soname,libnumber.so.1", *flags
    )


@pytest.fixture(scope="module", autouse=True)
def compiler() -> None:
    if not shutil.which("gcc"):
        pytest.skip("no gcc")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A bundle whose python3 is PROGRAM."""
    bundle = tmp_path_factory.mktemp("made") / "srn-caffe"
    number = library(bundle / "lib/libnumber.so.1", 1)
    compiled(bundle / "bin/python3", PROGRAM, number)
    for name, path in libraries(elf_files(bundle), [bundle / "lib"]).items():
        make.put(path, bundle / "lib" / name)
    make.put(Path(f"/lib64/{LOADER}").resolve(), bundle / "lib" / LOADER)
    (bundle / "tools").mkdir()
    (bundle / "tools/x.py").write_text("")
    make.add_launcher(bundle)
    (bundle / make.MANIFEST).write_text("{}")
    return bundle


@pytest.fixture
def tiny(made, tmp_path) -> Path:
    """A copy of it, in a folder with a blank in its name."""
    return shutil.copytree(made, tmp_path / "a b/srn-caffe", symlinks=True)


def told(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 7, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def arguments(found: dict[str, str]) -> list[str]:
    return [found[f"argv{number}"] for number in range(len([name for name in found if name.startswith("argv")]))]


def test_the_libraries_of_a_program(tmp_path):
    number = library(tmp_path / "own/libnumber.so.1", 1)
    program = compiled(tmp_path / "own/program", PROGRAM, number)
    found = needed(program, folders=[tmp_path / "own"])
    assert found.keys() == {"libnumber.so.1", "libc.so.6"}
    assert found["libnumber.so.1"] == number
    assert libraries([program], [tmp_path / "own"]).keys() == {"libc.so.6"}
    assert libraries([program], [tmp_path / "own"])["libc.so.6"].is_file()


def test_a_library_that_is_not_there(tmp_path):
    program = compiled(tmp_path / "program", PROGRAM, library(tmp_path / "own/libnumber.so.1", 1))
    assert needed(program)["libnumber.so.1"] is None
    with pytest.raises(ClosureError, match=r"program needs libnumber\.so\.1, which is not there"):
        libraries([program], [])


def test_one_name_for_two_files(tmp_path):
    places = [library(tmp_path / name / "libnumber.so.1", number) for number, name in enumerate(("one", "two"))]
    programs = [
        compiled(tmp_path / place.parent.name / "program", PROGRAM, place, f"-Wl,-rpath,{place.parent}")
        for place in places
    ]
    with pytest.raises(ClosureError, match=r"libnumber\.so\.1 is two files"):
        libraries(programs, [])


def test_what_belongs_to_the_host_stays_out(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "FOREIGN", {"libnumber.so.1"})
    foreign = library(tmp_path / "card/libnumber.so.1", 1)
    kept = compiled(tmp_path / "bundle/lib/libkept.so", "int kept;", "-shared")
    compiled(
        tmp_path / "bundle/lib/libdriver.so", "int number(void); int a(void) { return number(); }", "-shared", foreign
    )
    make.leave_out_foreign(tmp_path / "bundle")
    assert list(elf_files(tmp_path / "bundle")) == [kept]


def test_a_bundle_is_closed(tiny):
    check_closed(tiny)
    (tiny / "lib/libc.so.6").unlink()
    with pytest.raises(ClosureError, match=r"needs libc\.so\.6"):  # this machine has one, but not in the bundle
        check_closed(tiny)


def test_what_the_host_brings_is_not_missed(tmp_path):
    program = compiled(tmp_path / "bundle/lib/program", PROGRAM, library(tmp_path / "own/libnumber.so.1", 1))
    found = libraries([program], [], {"libnumber.so.1"})
    assert found.keys() == {"libc.so.6"}
    for name, path in {**found, LOADER: Path(f"/lib64/{LOADER}").resolve()}.items():
        make.put(path, tmp_path / "bundle/lib" / name)
    check_closed(tmp_path / "bundle", {"libnumber.so.1"})
    with pytest.raises(ClosureError, match=r"needs libnumber\.so\.1: not there"):
        check_closed(tmp_path / "bundle")


def caffe_record(folder: Path, cuda: dict | None) -> Path:
    (folder / make.RECORD).write_text(json.dumps({"cuda": cuda}))
    return folder


def test_what_is_left_to_the_host(tmp_path):
    assert make.left_to_host(caffe_record(tmp_path, None), False) == set()
    with_cuda = caffe_record(tmp_path, {"libraries": ["libcudart.so.13", "libcudnn.so.9"]})
    assert make.left_to_host(with_cuda, False) == {"libcuda.so.1"}
    assert make.left_to_host(with_cuda, True) == {"libcuda.so.1", "libcudart.so.13", "libcudnn.so.9"}


def test_a_machine_that_is_not_x86_64(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(make, "LOADER", "ld-linux-aarch64.so.1")
    assert make.main(["x.tar.gz"]) == 3
    assert "a bundle is made on x86-64, and this machine is " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_caffe_that_will_not_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert make.main(["x.tar.gz", "--caffe", str(tmp_path)]) == 3
    assert "has no Caffe: no file caffe-build.json" in capsys.readouterr().err
    caffe_record(tmp_path, None)
    assert make.main(["x.tar.gz", "--caffe", str(tmp_path), "--without-cuda-libraries"]) == 2
    assert "it is built for the CPU" in capsys.readouterr().err


def test_a_lean_bundle_has_fewer_packages():
    names = [{one.name.lower() for one in parts.wanted_packages(lean)} for lean in (False, True)]
    assert names[0] - names[1] == parts.NOT_LEAN & names[0] and {"opencv-python", "matplotlib"} <= names[0] - names[1]
    assert {"numpy", "protobuf", "lmdb", "pysrn"} <= names[1]


def test_libraries_named_at_run_time(tiny, tmp_path):
    """Of a CUDA bundle: after its own, in the folders CUDA_LIBRARIES; the other kind does not look there."""
    number = (tiny / "lib/libnumber.so.1").rename(tmp_path / "libnumber.so.1")
    library(tmp_path / "other/libc.so.6", 3)  # its own comes first
    environment = {"CUDA_LIBRARIES": f"{tmp_path / 'other'}:{number.parent}"}
    assert run(tiny / "bin/python3", env=environment).returncode == 127
    shutil.rmtree(tiny / "bin")
    (tiny / "libexec").rename(tiny / "bin")
    make.add_launcher(tiny, cuda=True)
    assert told(run(tiny / "bin/python3", env=environment))["number"] == "1"
    assert run(tiny / "bin/python3", env={}).returncode == 127


def test_search_paths_of_the_build_are_taken_out(tmp_path):
    folder = tmp_path / "caffe"
    path = library(folder / "libnumber.so.1", 5, f"-Wl,-rpath,$ORIGIN/../lib:{tmp_path}/lib:/usr/lib/x:$ORIGIN/..")
    with pytest.raises(ClosureError, match="names"):
        check_no_paths(folder, [tmp_path])
    data = path.read_bytes()
    clean = without_search_paths(data)
    assert len(clean) == len(data)
    path.write_bytes(clean)
    check_no_paths(folder, [tmp_path])
    assert "[$ORIGIN/../lib:$ORIGIN/..]" in run("readelf", "--dynamic", path).stdout
    program = compiled(tmp_path / "program", PROGRAM, path)
    assert "number=5" in run(program, env={"LD_LIBRARY_PATH": str(folder)}).stdout


def test_paths_in_texts_and_links(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/a.txt").write_text(f"# {tmp_path}-not\n")
    check_no_paths(tmp_path / "bundle", [tmp_path])
    (tmp_path / "bundle/link").symlink_to(tmp_path)
    with pytest.raises(ClosureError, match=f"link names {tmp_path}/"):
        check_no_paths(tmp_path / "bundle", [tmp_path])


@pytest.mark.parametrize("way", ["", "link", "relative", "path", "program", "linked program"])
def test_a_bundle_is_started_from_anywhere(tiny, tmp_path, way):
    """Its own loader, library and Python; `tools/x.py` is looked for in it; sys.executable's name is the launcher's."""
    environment = {"PATH": "/usr/bin:/bin"}
    command, words, folder = [tiny / "srn-caffe"], ["tools/x.py", "--a b"], tmp_path
    if way == "link":
        (tmp_path / "one").symlink_to("two")
        (tmp_path / "two").symlink_to(tiny / "srn-caffe")
        command = [tmp_path / "one"]
    elif way == "relative":
        command, folder = ["./srn-caffe"], tiny
    elif way == "path":
        command, environment = ["env", "srn-caffe"], {"PATH": f"{tiny}:/usr/bin:/bin"}
    elif "program" in way:
        command, words = [tiny / "bin/python3"], [str(tiny / "tools/x.py"), "--a b"]
        if way.startswith("linked"):
            (tmp_path / "snake").symlink_to(tiny / "bin/python3")
            command = [tmp_path / "snake"]
    found = told(run(*command, *words, cwd=folder, env=environment))
    script = "tools/x.py" if way == "relative" else f"{tiny}/tools/x.py"
    assert arguments(found) == [f"{tiny}/bin/python3", "-s", script, "--a b"]
    assert found["number"] == "1"
    assert found["PATH"] == f"{tiny}/bin:{environment['PATH']}"


def test_the_hosts_settings_do_not_lead_astray(tiny, tmp_path):
    other = library(tmp_path / "host/libnumber.so.1", 2)
    (tmp_path / "host/libc.so.6").write_text("no library")
    variables = {
        "LD_LIBRARY_PATH": other.parent,
        "LD_PRELOAD": other,
        "PYTHONHOME": "/host",
        "PYTHONPATH": "/host",
        "LC_ALL": "tr_TR.UTF-8",
        "PATH": f"{tiny}/bin:/host",
    }
    found = told(run(tiny / "srn-caffe", "python3", env={name: str(value) for name, value in variables.items()}))
    assert found["number"] == "1"
    assert found["PATH"] == variables["PATH"]  # it is in front already
    assert (found["LC_ALL"], found["PYTHONUTF8"]) == ("C", "1")
    assert not found.keys() & {"LD_PRELOAD", "PYTHONHOME", "PYTHONPATH"}


def test_other_programs_get_the_environment(tiny):
    done = run(tiny / "srn-caffe", "sh", "-c", 'python3 "$1"; exit 5', "sh", "one", env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 5, done.stderr
    assert "argv2=one" in done.stdout


@pytest.mark.parametrize(
    "words, code, said",
    [
        ([], 2, "usage: srn-caffe CMD"),
        (["--fast"], 2, "usage: srn-caffe CMD"),
        (["--help"], 0, "usage: srn-caffe CMD"),
        (["tools/none.py"], 127, "srn-caffe: tools/none.py: no such file here or in the bundle"),
        (["no-such-program"], 127, "srn-caffe: no-such-program: No such file"),
        (["tools/data"], 126, "srn-caffe: tools/data: Permission denied"),
    ],
)
def test_what_the_launcher_refuses(tiny, words, code, said):
    (tiny / "tools/data").write_text("")
    done = run(tiny / "srn-caffe", *words)
    assert done.returncode == code
    assert (done.stdout if code == 0 else done.stderr).startswith(said)


def test_a_launcher_alone_and_a_folder_that_cannot_be(tiny, tmp_path):
    shutil.copy(tiny / "srn-caffe", tmp_path / "alone")
    done = run(tmp_path / "alone", "python3")
    assert done.returncode == 3 and "finds no bundle around it" in done.stderr
    tiny.rename(tmp_path / "a:b")
    done = run(tmp_path / "a:b/srn-caffe", "python3")
    assert done.returncode == 2 and "must not have : ; or $" in done.stderr


@needs_root
def test_nothing_of_the_host_is_needed(tiny):
    """With an empty root folder around it: no shell, no /proc, no library."""
    found = told(run("chroot", tiny.parent, "/srn-caffe/srn-caffe", "tools/x.py"))
    assert arguments(found) == ["/srn-caffe/bin/python3", "-s", "/srn-caffe/tools/x.py"]


def fill(folder: Path, names: list[str], mask: int) -> Path:
    folder.mkdir(parents=True)
    before = os.umask(mask)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name * 1000)
    os.umask(before)
    (folder / "program").chmod(0o755 & ~mask)
    (folder / "link").symlink_to("a/one")
    return folder


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.xz"])
def test_archives_depend_on_contents_alone(tmp_path, suffix):
    names = ["a/one", "b/two", "program", "a/three"]
    first = fill(tmp_path / "here/srn-caffe", names, 0o022)
    second = fill(tmp_path / "there/srn-caffe", names[::-1], 0o077)
    os.utime(second / "program", (1, 1))
    if not os.geteuid():
        os.chown(second / "program", 54321, 54321)
    archives = [tmp_path / f"first{suffix}", tmp_path / f"a second{suffix}"]
    for folder, archive in zip((first, second), archives, strict=True):
        write_archive(folder, archive, 12345)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    (second / "a/one").write_text("another")
    write_archive(second, archives[1], 12345)
    assert archives[0].read_bytes() != archives[1].read_bytes()
    with tarfile.open(archives[0]) as tar:
        members = tar.getmembers()
        assert tar.extractfile("srn-caffe/a/one").read() == b"a/one" * 1000
    assert [one.name for one in members] == sorted(one.name for one in members)
    assert {(one.uid, one.gid, one.uname, one.gname, one.mtime) for one in members} == {(0, 0, "", "", 12345)}
    modes = {one.name.partition("/")[2]: one.mode for one in members}
    assert modes == {
        "": 0o755, "a": 0o755, "b": 0o755, "a/one": 0o644, "a/three": 0o644, "b/two": 0o644, "program": 0o755,
        "link": 0o777,
    }  # fmt: skip


def test_an_archive_is_whole_or_not_there(tmp_path):
    folder = fill(tmp_path / "srn-caffe", ["a/one", "program"], 0)
    (tmp_path / "x.tar.gz").write_text("what was there")

    def stop(*_words: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tarfile.TarFile, "addfile", stop)
        with pytest.raises(OSError, match="No space"):
            write_archive(folder, tmp_path / "x.tar.gz", 0)
    assert (tmp_path / "x.tar.gz").read_text() == "what was there"
    assert not list(tmp_path.glob("*.partial"))


def test_nothing_stays_of_one_that_was_stopped(tmp_path):
    """By SIGTERM while it is staged, which Python would end by without cleaning up."""
    (tmp_path / "work").mkdir()
    command = [sys.executable, "-m", "docker.bundle.make", str(tmp_path / "x.tar.gz")]
    variables = {**os.environ, "TMPDIR": str(tmp_path / "work")}
    with subprocess.Popen(command, cwd=REPOSITORY, env=variables, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: list(tmp_path.glob("work/*/srn-caffe/lib")) or process.poll() is not None)
        process.terminate()
        assert process.wait(HANG) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert not list((tmp_path / "work").iterdir())


def test_python_packages_are_those_of_the_images():
    found = {one.name.lower() for one in parts.wanted_packages()}
    assert {"numpy", "opencv-python", "lmdb", "matplotlib", "mpich", "pysrn"} < found
    assert not found & {"torch", "pytest", "setuptools", "colorama"}
    files = dict(file for one in parts.wanted_packages() for file in parts.package_files(one, Path(sys.prefix)))
    assert {"bin/mpiexec", "lib/libmpi.so.12", "lib/python3/dist-packages/numpy/__init__.py"} < files.keys()
    assert "lib/python3/dist-packages/pysrn-0.1.0.dist-info/METADATA" in files
    assert not any("__pycache__" in name or name.endswith(("RECORD", "bin/tqdm", "direct_url.json")) for name in files)


def test_what_setup_py_left_in_a_clone_is_no_package(tmp_path, monkeypatch):
    info = tmp_path / "pysrn.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Name: pysrn\nVersion: 0.1.0\n")
    (info / "SOURCES.txt").write_text("pysrn/console.py\n")
    monkeypatch.syspath_prepend(tmp_path)
    (own,) = (one for one in parts.wanted_packages() if one.name == "pysrn")
    assert not any("console" in name for name, _ in parts.package_files(own, Path(sys.prefix)))


@pytest.mark.parametrize(
    "words, said",
    [
        (("cpu", "--bundle"), "--bundle needs a file"),
        (("cpu", "--bundle", "x.tar.gz", "--full"), "takes no other option"),
        (("cpu", "--full", "--bundle", "x.tar.gz"), "takes no other option"),
        (("cuda", "--bundle", "x.tar.gz"), "cuda --bundle needs CAFFE=PREFIX"),
    ],
)
def test_wrong_usage(words, said):
    result = run(BUILD, *words, env={name: value for name, value in os.environ.items() if name != "CAFFE"})
    assert result.returncode == 2 and said in result.stderr and not result.stdout


@pytest.mark.parametrize(
    "name, said", [("x.zip", "must end with .tar.gz or .tar.xz"), ("no/x.tar.gz", "is no folder no")]
)
def test_files_that_cannot_be(name, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert make.main([name]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
@needs_root
def test_the_cpu_bundle(tmp_path):
    """Made twice, with the same bytes; complete by its own manifest; works with an empty root folder around it."""
    archives = [tmp_path / "first.tar.gz", tmp_path / "a b/second.tar.gz"]
    for archive in archives:
        archive.parent.mkdir(exist_ok=True)
        done = run(BUILD, "cpu", "--bundle", archive, timeout=1800, env={**os.environ, "TMPDIR": str(archive.parent)})
        assert done.returncode == 0, done.stderr
        said = f"{archive}  {archive.stat().st_size} bytes  sha256 {hashlib.sha256(archive.read_bytes()).hexdigest()}\n"
        assert done.stdout == said
    assert archives[0].read_bytes() == archives[1].read_bytes()

    empty = tmp_path / "empty"
    for name in ("tmp", "dev/shm"):
        (empty / name).mkdir(parents=True)
    assert run("tar", "-xzf", archives[0], "-C", empty).returncode == 0
    bundle = empty / "srn-caffe"
    listed = json.loads((bundle / make.MANIFEST).read_text())["files"]
    there = {str(path.relative_to(bundle)): make.entry(path) for path in filter(make.is_content, bundle.rglob("*"))}
    assert there.pop(make.MANIFEST) and there == listed
    assert not list(bundle.rglob("*.pyc"))
    home = os.environ["HOME"].rstrip("/")
    assert run("grep", "-rlaF", "-e", f"{home}/.cache", "-e", f"{REPOSITORY}/", bundle).stdout == ""

    def inside(*words: object) -> subprocess.CompletedProcess[str]:
        usual = {"PATH": os.environ["PATH"], "HOME": "/tmp", "OMP_NUM_THREADS": "1"}
        strange = {"PYTHONHOME": "/none", "PYTHONPATH": "/none", "LD_LIBRARY_PATH": "/none", "LANG": "tr_TR.UTF-8"}
        return run("chroot", empty, "/srn-caffe/srn-caffe", *words, env={**usual, **strange})

    assert inside("tools/run_stage.py", "--help").returncode == 0
    assert inside("caffe", "--version").stdout == "caffe version 1.0.0\n"
    assert inside("tools/check_setup.py").returncode == 0
    data = ("--data", "/tmp/data", "--runs", "/tmp/runs", "--batch-size", 4)
    for words in (
        ("tools/make_lmdb.py", "shapes", "--train", 24, "--test", 8, "--out", "/tmp/data"),
        ("tools/run_stage.py", 4, *data, "--iterations", 2, "--workers", 2),
        ("tools/predict.py", "/tmp/runs/shapes"),
        ("tools/evaluate.py", "/tmp/runs/shapes"),
    ):
        done = inside(*words)
        assert done.returncode == 0, done.stderr
    refused = inside("tools/run_stage.py", 1, *data, "--run", "gpu", "--gpu", 0)
    assert refused.returncode == 3 and "Traceback" not in refused.stderr
