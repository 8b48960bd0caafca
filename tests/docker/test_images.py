"""The Docker files and docker/build: what they share, refuse and keep out. The slow test builds the CPU image."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from docker.bundle import parts
from tests.holding import HANG

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = REPOSITORY / "docker/build"
IMAGE_TOOLS = REPOSITORY / "docker/image"
LARGEST_IMAGE = 1.2e9  # bytes, without PyTorch
STRANGER = 54321  # a user that no image knows


def run(*command: object, **options) -> subprocess.CompletedProcess[str]:
    defaults = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": HANG, "check": False}
    return subprocess.run([str(word) for word in command], **{**defaults, **options})


def instructions(name: str) -> str:
    """A Docker file without its comments."""
    lines = (REPOSITORY / "docker" / name).read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def test_both_docker_files_are_alike_but_for_cuda():
    cuda = "\n".join(
        line
        for line in instructions("Dockerfile").replace("build.sh --cuda ", "build.sh ").splitlines()
        if not re.search("cuda-wheels|CUDA_ARCHITECTURES|NVIDIA", line)
    )
    assert cuda == instructions("Dockerfile.cpu")
    assert "build.sh --cuda " in instructions("Dockerfile")


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile"])
def test_docker_files_install_from_the_shared_lists_only(name):
    text = instructions(name)
    for shared in (
        "docker/packages.txt",
        "docker/locked",
        "docker/caffe/build.sh",
        "docker/install-python",
        "setup.py",
    ):
        assert shared in text
    assert not re.search("apt-get|pip install|https?:", text)
    installed = re.findall(r"^ +\S*/install-packages (.*?)(?: &&.*)?$", text, re.MULTILINE)
    assert installed == ["$(docker/missing-packages)", "python3 $(cat /opt/runtime-packages.txt)"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("gpu",),
        ("--full",),
        ("cpu", "--tag"),
        ("cpu", "--tag", "--full"),
        ("cpu", "--quick"),
        ("cuda", "x"),
        ("cpu", "--release"),
        ("cpu", "--release", "bullseye"),
    ],
)
def test_wrong_usage(arguments):
    result = run(BUILD, *arguments)
    assert result.returncode == 2
    assert "docker/build" in result.stderr
    assert not result.stdout


@pytest.mark.parametrize("arguments", [("--help",), ("cpu", "--help"), ("cuda", "-h")])
def test_help(arguments):
    result = run(BUILD, *arguments)
    assert result.returncode == 0
    assert "docker/build cpu " in result.stdout and "docker/build cuda " in result.stdout
    assert not result.stderr


def test_no_engine(tmp_path):
    """On a machine with everything that the script calls but an engine."""
    for name in ("bash", "dirname", "readlink", "sed", "timeout"):
        (tmp_path / name).symlink_to(shutil.which(name))
    result = run(BUILD, "cpu", env={"PATH": str(tmp_path)})
    assert result.returncode == 3
    assert result.stderr.startswith("docker/build: neither Docker (with buildx) nor Podman nor Buildah works here")
    assert "docker/local" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_help_of_the_image_names_tools_that_exist():
    tools = set(re.findall(r"tools/\w+\.py", (IMAGE_TOOLS / "help.txt").read_text()))
    assert {"tools/run_stage.py", "tools/predict.py"} < tools
    for tool in tools:
        assert os.access(REPOSITORY / tool, os.X_OK), tool


def test_runtime_packages_hold_what_caffe_names():
    """Every library that Caffe's own files name (readelf) is in a package on the list."""
    caffe = pytest.importorskip("caffe")
    if not shutil.which("readelf") or not shutil.which("dpkg-query"):
        pytest.skip("no readelf or no dpkg-query")
    prefix = Path(caffe.__file__).resolve().parents[4]
    result = run(IMAGE_TOOLS / "runtime-packages", prefix)
    assert result.returncode == 0, result.stderr
    packages = result.stdout.split()
    own = {path.name for path in prefix.rglob("*.so*")}
    files = (caffe._caffe.__file__, prefix / "lib/libcaffe.so")
    names = set(re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "--dynamic", *files).stdout))
    assert len(names - own) > 10
    listed = run("dpkg-query", "--listfiles", *packages).stdout.splitlines()
    held = {Path(name).name for name in listed} | {"libopenblas.so.0"}  # made by the alternatives system
    assert names - own - held == set()
    assert any(name.startswith("libopenblas0") for name in packages)


def test_files_that_a_package_has_moved_aside_are_no_packages(tmp_path, monkeypatch):
    """As Debian 13 has some: the last word of `diversion by libc6 to: FILE` was taken for a package."""
    caffe = pytest.importorskip("caffe")
    if not shutil.which("dpkg-query"):
        pytest.skip("no dpkg-query")
    for part in ("status", "info", "arch"):
        if (there := Path("/var/lib/dpkg", part)).exists():
            (tmp_path / part).symlink_to(there)
    loaded = run("ldd", caffe._caffe.__file__).stdout
    library = os.path.realpath(re.search(r"libboost_python\S* => (\S+)", loaded)[1])
    (tmp_path / "diversions").write_text(f"{library}\n{library}.aside\nlibc6\n")
    monkeypatch.setenv("DPKG_ADMINDIR", str(tmp_path))
    assert "diversion by" in run("dpkg-query", "--search", library).stdout
    packages = run(IMAGE_TOOLS / "runtime-packages", Path(caffe.__file__).resolve().parents[4]).stdout.splitlines()
    assert packages and not [name for name in packages if " " in name or "diversion" in name]
    assert any(name.startswith("libboost-python") for name in packages)
    assert [name for name in parts.debian_packages([Path(library)]) if name.startswith("libboost-python")]


def test_runtime_packages_of_nothing(tmp_path):
    result = run(IMAGE_TOOLS / "runtime-packages", tmp_path)
    assert result.returncode == 1
    assert str(tmp_path) in result.stderr


@pytest.fixture
def storage(tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty image storage of Buildah, which is the engine here."""
    if os.geteuid() or not shutil.which("buildah"):
        pytest.skip("needs root and buildah")
    driver = run("buildah", "info", "--format", "{{.store.GraphDriverName}}").stdout.strip() or "vfs"
    configuration = tmp_path / "storage.conf"
    folders = f'graphroot = "{tmp_path}/storage"\nrunroot = "{tmp_path}/run"\n'
    configuration.write_text(f'[storage]\ndriver = "{driver}"\n{folders}')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(configuration))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-daemon")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    if shutil.which("podman") and run("podman", "info").returncode == 0:
        pytest.skip("Podman would be taken")
    if run("buildah", "info").returncode:
        pytest.skip("buildah does not work here")
    yield tmp_path
    run("buildah", "rm", "--all")
    run("buildah", "rmi", "--all", "--force")


def new_container(image: str) -> str:
    return run("buildah", "from", "--pull-never", image).stdout.strip()


def files_of(image: str) -> Path:
    return Path(run("buildah", "mount", new_container(image)).stdout.strip())


def test_the_context_holds_no_data(storage):
    """What really arrives of a clone in which someone has worked."""
    clone = storage / "clone"
    kept = ["docker/build", "pysrn/systems/srn/heads.py", "tools/run_stage.py"]
    left = [
        ".git/config",
        "data/shapes/a.jpg",
        "notes.txt",
        "runs/x/log.csv",
        "shared/a.jpg",
        "tools/__pycache__/a.pyc",
    ]
    for name in kept + left:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text(name)
    shutil.copy(REPOSITORY / ".dockerignore", clone)
    (clone / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    assert run("buildah", "build", "--tag", "context", "--file", clone / "Dockerfile", clone).returncode == 0
    folder = files_of("context")
    arrived = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert arrived == kept


def test_source_folder_that_is_not_there(storage):
    result = run(BUILD, "cpu", env={**os.environ, "CAFFE_SOURCE_DIR": "/no/where"})
    assert result.returncode == 3
    assert result.stderr == "docker/build: CAFFE_SOURCE_DIR=/no/where is no folder that can be read\n"


def test_an_engine_that_refuses_says_why(storage):
    result = run(BUILD, "cpu", "--tag", "Upper")
    assert result.returncode == 1
    assert "invalid reference format" in result.stderr.splitlines()[-1]


def test_a_part_of_the_build_keeps_its_exit_code(storage):
    """The base image cannot be made: debootstrap is not there."""
    names = {path.name: path for folder in ("/usr/sbin", "/usr/bin") for path in Path(folder).iterdir()}
    (storage / "bin").mkdir()
    for name in set(names) - {"debootstrap"}:
        (storage / "bin" / name).symlink_to(names[name])
    result = run(BUILD, "cpu", "--own-base", env={**os.environ, "PATH": str(storage / "bin")})
    assert result.returncode == 3, result.stderr
    assert "debootstrap is missing" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "options, words", [((), "building srn-caffe failed"), (("--own-base",), "making the base image failed")]
)
def test_no_network(storage, options, words):
    """Neither the base image nor a mirror can be reached: one line, exit code 3."""
    if run("unshare", "--net", "true").returncode or not shutil.which("debootstrap"):
        pytest.skip("no network namespace without a network can be made, or no debootstrap")
    result = run("unshare", "--net", BUILD, "cpu", *options, timeout=HANG)
    assert result.returncode == 3, result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"docker/build: {words}: no way to the package index")
    assert not result.stdout


@pytest.mark.slow
def test_the_cpu_image(storage, monkeypatch):
    """Built from nothing, small, nothing lent stays in it; used without a network by a user that it does not know."""
    if not shutil.which("debootstrap"):
        pytest.skip("no debootstrap")
    monkeypatch.setenv("PIP_TRUSTED_HOST", "lent-to-the-build.invalid")
    built = run(BUILD, "cpu", "--own-base", timeout=5400)
    assert built.returncode == 0, built.stderr
    assert built.stdout == "srn-caffe\n"
    assert "self-test" in built.stderr

    configuration = json.loads(run("buildah", "inspect", "--type", "image", "srn-caffe").stdout)["OCIv1"]["config"]
    assert configuration["User"] == "srn"
    assert set(configuration["Volumes"]) == {"/data", "/runs"}
    version = re.search(r'version="(.*)"', (REPOSITORY / "setup.py").read_text())[1]
    assert configuration["Labels"]["org.opencontainers.image.version"] == version

    folder = files_of("srn-caffe")
    assert int(run("du", "--summarize", "--bytes", folder).stdout.split()[0]) < LARGEST_IMAGE
    assert not (folder / "usr/bin/g++").exists()
    assert not list((folder / "tmp").iterdir())
    assert not list((folder / "var/lib/apt/lists").glob("*Packages*"))
    assert list((folder / "etc/apt/sources.list.d").iterdir())
    search = ("grep", "--recursive", "--files-with-matches", "--devices=skip")
    assert run(*search, "lent-to-the-build", folder, timeout=HANG).stdout == ""
    assert "lent-to-the-build" not in run("buildah", "inspect", "--type", "image", "srn-caffe").stdout
    assert (folder / "srn" / configuration["Cmd"][1]).is_file()

    volumes = []
    for name in ("data", "runs"):
        (storage / name).mkdir()
        os.chown(storage / name, STRANGER, STRANGER)
        volumes += ["--volume", f"{storage / name}:/{name}"]

    def inside(*command: object) -> subprocess.CompletedProcess[str]:
        container = new_container("srn-caffe")
        # Buildah 1.28 mounts what the image declares over what it is told to mount; real engines do not.
        run("buildah", "config", "--volume", "/data-", "--volume", "/runs-", container)
        start = ("unshare", "--net", "buildah", "run", "--isolation", "chroot", "--user", f"{STRANGER}:{STRANGER}")
        return run(*start, *volumes, container, "--", *command, timeout=HANG)

    made = inside("tools/make_lmdb.py", "shapes", "--train", 24, "--test", 8)
    assert made.returncode == 0, made.stderr
    for stage, kept in ((2, []), (3, ["1", "2"])):
        trained = inside("tools/run_stage.py", stage, "--iterations", 2, "--batch-size", 4)
        assert trained.returncode == 0, trained.stderr
        assert re.findall(r"stage (\d) .*keep", trained.stderr) == kept
    curves = inside("tools/visualize.py", "curves")  # matplotlib wants a folder to write to
    assert curves.returncode == 0 and "not a writable" not in curves.stderr, curves.stderr
    weights = storage / "runs/shapes/stage3/weights.caffemodel"
    assert weights.stat().st_uid == STRANGER
