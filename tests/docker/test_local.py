"""docker/local: which environment it takes, how it enters it, and what it says where it cannot make one.

All tests use the finished environment that they run in; none makes another.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.holding import HANG

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = 65534  # Debian's user without rights


def local(clone: Path, *arguments: str, folder=None, user=None, **variables: str | None):
    """Run a clone's docker/local; a variable that is None is unset."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        [clone / "docker/local", *arguments],
        cwd=folder or clone,
        env={name: value for name, value in environment.items() if value is not None},
        user=user,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG,
        check=False,
    )


def where(clone: Path) -> tuple[Path, Path]:
    caffe, python = local(clone, "--where").stdout.splitlines()
    return Path(caffe), Path(python)


@pytest.fixture
def clone() -> Iterator[Path]:
    """A second clone, in a folder with a space in its name that every user may read."""
    with tempfile.TemporaryDirectory(prefix="second clone ") as folder:
        Path(folder).chmod(0o755)
        for name in ("docker", "pysrn", "setup.py"):
            copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
            copy(REPOSITORY / name, Path(folder) / name)
        yield Path(folder)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The virtual environment that these tests run in, made by docker/local."""
    python = Path(os.environ.get("VIRTUAL_ENV", ""))
    if not (python / "complete").is_file():
        pytest.skip("not started through docker/local")
    monkeypatch.setenv("SRN_CACHE", str(python.parent))
    assert where(REPOSITORY)[1] == python
    return python


def test_same_inputs_same_environment(clone):
    (clone / "README.md").write_text("not an input")
    assert where(clone) == where(REPOSITORY)


@pytest.mark.parametrize("name", ["setup.py", "docker/install-python", "docker/locked/all.txt"])
def test_python_inputs_change_the_python_key_only(clone, name):
    before = where(clone)
    with (clone / name).open("a") as file:
        file.write("\n")
    after = where(clone)
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize(
    "name",
    [
        "packages.txt",
        "caffe/build.sh",
        "caffe/patches/build-9-new.patch",
        "caffe/src/caffe/util/engine.cpp",
        "caffe/include/caffe/util/engine.hpp",
        "caffe/src/caffe/layers/new_layer.cpp",
    ],
)
def test_caffe_inputs_change_both_keys(clone, name):
    before = where(clone)
    with (clone / "docker" / name).open("a") as file:
        file.write("\n")
    after = where(clone)
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_cache_folder(clone):
    assert local(clone, "--where", SRN_CACHE="/a b").stdout.startswith("/a b/caffe-")
    in_xdg = local(clone, "--where", SRN_CACHE=None, XDG_CACHE_HOME="/x")
    assert in_xdg.stdout.startswith("/x/srn-caffe/caffe-")
    in_home = local(clone, "--where", SRN_CACHE=None, XDG_CACHE_HOME=None, HOME="/h")
    assert in_home.stdout.startswith("/h/.cache/srn-caffe/caffe-")
    assert local(clone, "--where", SRN_CACHE=None, XDG_CACHE_HOME=None, HOME=None).returncode == 0


def test_cache_that_cannot_be_made(clone):
    result = local(clone, "true", SRN_CACHE="/proc/srn")
    assert result.returncode == 3
    assert result.stderr.startswith("docker/local: the folder /proc/srn cannot be made")
    assert "SRN_CACHE=FOLDER" in result.stderr


@pytest.mark.parametrize("arguments", [(), ("--quick",)])
def test_wrong_usage(clone, arguments):
    result = local(clone, *arguments)
    assert result.returncode == 2
    assert "docker/local CMD" in result.stderr


def test_packages_of_the_tests_are_listed_apart(clone):
    for name in ("packages.txt", "packages-test.txt"):
        with (clone / "docker" / name).open("a") as file:
            file.write(f"srn-no-such-{name.removesuffix('.txt')}\n")
    for words, expected in (([], 1), (["test"], 2)):
        listed = subprocess.run([clone / "docker/missing-packages", *words], capture_output=True, text=True, check=True)
        assert sum(name.startswith("srn-no-such-packages") for name in listed.stdout.split()) == expected


def test_a_release_calls_packages_by_its_own_names(clone):
    """This machine as a release that has another name for one package, and no package for another."""
    (clone / "docker/packages.txt").write_text("srn-one\nsrn-two  # words\nsrn-three\n")
    releases = clone / "docker/releases.txt"
    ours = subprocess.run([clone / "docker/release"], capture_output=True, text=True, check=True).stdout.split()
    releases.write_text(f"# ours\n{' '.join(ours[:3])}  srn-one=srn-one-t64 srn-three=-\n")
    listed = subprocess.run([clone / "docker/missing-packages"], capture_output=True, text=True, check=True)
    assert listed.stdout == "srn-one-t64 srn-two\n"
    (clone / "docker/packages.txt").write_text("srn-one\nsrn-two\nsrn-three\npython3\n")
    for words, expected in ([], "srn-one-t64 srn-two\n"), (["--all"], "srn-one-t64 srn-two python3\n"):
        listed = subprocess.run([clone / "docker/missing-packages", *words], capture_output=True, text=True, check=True)
        assert listed.stdout == expected
    releases.write_text("debian 99  next\nubuntu 24.04 noble\n")
    for command in ("docker/release", "docker/missing-packages"):
        refused = subprocess.run([clone / command], capture_output=True, text=True, check=False)
        assert refused.returncode == 3
        assert refused.stderr.startswith("one of these is needed: Debian 99, Ubuntu 24.04; this machine is: ")
        assert refused.stderr.count("\n") == 1
    assert local(clone, "true").returncode == 3


def test_every_release_has_its_line(clone):
    lines = [line.split() for line in (clone / "docker/releases.txt").read_text().splitlines() if line[:1].isalpha()]
    assert {line[2] for line in lines} == {"bookworm", "trixie", "noble"}
    names = "".join((clone / "docker" / name).read_text() for name in ("packages.txt", "packages-test.txt")).split()
    assert all(pair.split("=")[0] in names and pair.count("=") == 1 for line in lines for pair in line[3:])


def test_remove_takes_what_was_made_and_says_what_stays(clone, tmp_path):
    cache = tmp_path / "cache"
    for name in ("caffe-1", "caffe-source", "python-1", "precious"):
        (cache / name).mkdir(parents=True)
        (cache / name / "file").write_text(name)
    (cache / "last.log").touch()
    done = local(clone, "--remove", SRN_CACHE=str(cache))
    assert done.returncode == 0 and not done.stdout
    assert [path.name for path in cache.iterdir()] == ["precious"]
    assert "not made by this script: precious" in done.stderr
    assert "its data/ and runs/" in done.stderr and "protobuf-compiler" in done.stderr
    (cache / "precious/file").unlink()
    (cache / "precious").rmdir()
    assert local(clone, "--remove", SRN_CACHE=str(cache)).returncode == 0 and not cache.exists()
    assert local(clone, "--remove", SRN_CACHE=str(cache)).returncode == 0


def test_remove_waits_for_nobody(clone, tmp_path):
    (tmp_path / "caffe-1").mkdir()
    with subprocess.Popen(["flock", tmp_path / "lock", "cat"], stdin=subprocess.PIPE) as first:
        while subprocess.run(["flock", "-n", tmp_path / "lock", "true"], check=False).returncode == 0:
            assert first.poll() is None
        refused = local(clone, "--remove", SRN_CACHE=str(tmp_path))
        first.communicate(b"")
    assert refused.returncode == 3 and "another docker/local is making an environment" in refused.stderr
    assert (tmp_path / "caffe-1").exists()


def test_missing_packages_are_named_to_an_ordinary_user(clone, tmp_path):
    lacking = subprocess.run([clone / "docker/missing-packages"], capture_output=True, text=True, check=True)
    with (clone / "docker/packages.txt").open("a") as file:
        file.write("srn-no-such-package  # a comment\n")
    with tempfile.TemporaryDirectory() as cache:
        user = NOBODY if os.geteuid() == 0 else None
        if user is not None:
            os.chown(cache, user, user)
        result = local(clone, "true", user=user, SRN_CACHE=cache, HOME=cache)
        assert result.returncode == 3
        names = " ".join([*lacking.stdout.split(), "srn-no-such-package"])  # an image has no compiler, for example
        assert result.stderr.splitlines()[-1] == (
            f"docker/local: Debian packages are missing; as root: apt-get install --no-install-recommends {names}"
        )
        assert not [path for path in Path(cache).iterdir() if path.is_dir()]


def test_exit_code_arguments_and_folder_are_passed_on(environment, clone, tmp_path):
    script = 'printf "%s\\n" "$PWD" "$@"; exit 7'
    result = local(clone, "sh", "-c", script, "sh", "two words", "", "*", folder=tmp_path)
    assert result.returncode == 7
    assert result.stdout == f"{tmp_path}\ntwo words\n\n*\n"
    assert result.stderr == ""


def test_the_clone_that_is_run_wins(environment, clone):
    """Both clones share the environment; each imports its own code."""
    print_origin = ("python3", "-c", "import caffe, pysrn; print(pysrn.__file__)")
    for root in (clone, REPOSITORY):
        result = local(root, *print_origin, folder="/", PYTHONPATH="/elsewhere")
        assert result.stdout == f"{root}/pysrn/__init__.py\n"


def test_command_is_looked_for_here_then_in_the_clone(environment, clone, tmp_path):
    for folder, text in ((clone, "clone"), (tmp_path, "here")):
        (folder / "tools").mkdir()
        script = f"#!/usr/bin/env python3\nimport sys; print('{text}', sys.prefix)\n"
        (folder / "tools/which.py").write_text(script)
        (folder / "tools/which.py").chmod(0o755)
    assert local(clone, "tools/which.py", folder=tmp_path).stdout == f"here {environment}\n"
    (tmp_path / "tools/which.py").unlink()
    assert local(clone, "tools/which.py", folder=tmp_path).stdout == f"clone {environment}\n"
    assert local(clone, clone / "tools/which.py", folder=tmp_path).stdout == f"clone {environment}\n"


@pytest.mark.parametrize("command", ["srn-no-such-command", "./no/such/file", "tools"])
def test_unknown_command(environment, command):
    result = local(REPOSITORY, command)
    assert result.returncode == 127
    assert command in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_second_start_waits_for_the_first(environment, clone, tmp_path):
    """While another start makes the environment: wait, then use what it made."""
    made = where(REPOSITORY)
    with subprocess.Popen(["flock", tmp_path / "lock", "cat"], stdin=subprocess.PIPE) as first:
        while subprocess.run(["flock", "-n", tmp_path / "lock", "true"], check=False).returncode == 0:
            assert first.poll() is None
        variables = {**os.environ, "SRN_CACHE": str(tmp_path)}
        command = [clone / "docker/local", "sh", "-c", "ls -l /proc/self/fd; exit 5"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, text=True, env=variables, **pipes) as second:
            assert second.stdout is not None
            assert second.stderr is not None
            assert "waiting for it" in second.stderr.readline()
            assert second.poll() is None
            for folder in made:
                (tmp_path / folder.name).symlink_to(folder)
            first.communicate(b"")
            assert second.stderr.read() == ""
            # the command itself does not hold the lock: it may run for days
            assert str(tmp_path / "lock") not in second.stdout.read()
            assert second.wait(timeout=HANG) == 5
