"""Ranks on two hosts over ssh, with MPICH and with Open MPI: what one process does, and one line for what is wrong."""

import glob
import re
import shutil
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.cluster.conftest import ENVIRONMENT, ROOT, call, like_one_process, tool
from tests.holding import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mpi4py") is None, reason="no mpi4py: pip install mpi4py mpich"),
]
TOY = ("--system", "toy", "--workers", "0", "--iterations", "6", "--snapshot-every", "2", "--batch-size", "4")
BOTH = "node-a,node-b"
# UCX and Open MPI see by the kernel's boot id that both are one machine, and would talk through its memory.
CABLE = {"UCX_TLS": "tcp,self", "FI_PROVIDER": "tcp", "OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "tcp,self"}


def launcher(hosts, kind, where=BOTH, ssh=None):
    """The command that docs/cluster.md gives."""
    if kind == "mpich":
        return f"mpiexec -launcher ssh -launcher-exec {ssh or hosts.ssh} -hosts {where} -n 2"
    if shutil.which("mpirun.openmpi") is None:
        pytest.skip("no Open MPI: apt-get install openmpi-bin")
    passed = " ".join(f"-x {name}" for name in ("PATH", "PYTHONPATH", "PYSRN_SYSTEMS", "MPI4PY_MPIABI"))
    return f"mpirun.openmpi --allow-run-as-root --mca plm_rsh_agent {hosts.ssh} -host {where} {passed} -n 2"


def run_stage(hosts, *words, kind="mpich", where=BOTH, ssh=None):
    """tools/run_stage.py on node-a with a rank on each host."""
    how = tool("run_stage", *words, "--ranks", 2, "--launcher", launcher(hosts, kind, where, ssh))
    own = {"MPI4PY_MPIABI": "openmpi"} if kind == "openmpi" else {}
    done = hosts.run("node-a", how, env=ENVIRONMENT | CABLE | own)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("kind", ["mpich", "openmpi"])
def test_two_hosts_do_what_one_process_does(hosts, begun, tmp_path, kind):
    def ranks(*words):
        done = run_stage(hosts, *words, kind=kind)
        assert done.returncode == 0, done.stderr

    print(f"{kind} on two hosts: {like_one_process(begun, tmp_path, ranks)}")


def words_of(toys, tmp_path):
    return (*TOY, "--data", toys, "--runs", tmp_path / "runs")


def last_line(done):
    """The one line of the error."""
    assert done.returncode == 1, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("kind", ["mpich", "openmpi"])
@pytest.mark.parametrize(
    ("where", "words"),
    [("node-a,node-c", "resolve hostname node-c"), ("node-a,10.213.7.9", "connect to host 10.213.7.9")],
)
def test_a_host_that_cannot_be_reached(hosts, toys, tmp_path, kind, where, words):
    done = run_stage(hosts, *words_of(toys, tmp_path), kind=kind, where=where)
    assert "a host cannot be reached: ssh: " in last_line(done) and words in last_line(done)


@pytest.mark.parametrize("kind", ["mpich", "openmpi"])
def test_a_host_that_differs_is_named(hosts, toys, tmp_path, kind):
    """No shared folder, other data, another version, a full /dev/shm; and then the same command works."""
    words = words_of(toys, tmp_path)
    other = tmp_path / "other"
    call("make_lmdb", "shapes", "--out", other, "--train", 16, "--test", 8, "--image-size", 72, "--seed", 5)
    clone = shutil.copytree(ROOT / "pysrn", tmp_path / "pysrn", ignore=shutil.ignore_patterns("__pycache__"))
    (clone / "recipes.py").write_text((clone / "recipes.py").read_text() + "# another\n")
    (tmp_path / "runs").mkdir()
    for folder, options, line in (
        (tmp_path / "runs", (), "rank 1 on node-b: .*job.json: No such file or directory"),
        (toys, ("--bind", other), "rank 1 on node-b has another data set than rank 0"),
        (ROOT / "pysrn", ("--bind", clone), "rank 1 on node-b has another version of this project than rank 0"),
        (Path("/dev/shm"), (), "node-b: /dev/shm has 64 KiB free, MPI needs 8 MiB"),
    ):
        hosts.mount("node-b", folder, *options)
        try:
            done = run_stage(hosts, *words, kind=kind)
        finally:
            hosts.unmount("node-b", folder)
        assert re.search(line, last_line(done)), done.stderr
    assert run_stage(hosts, *words, kind=kind).returncode == 0


@pytest.mark.parametrize("wrong", ["+5h", "-5h"])
def test_a_clock_that_is_wrong_changes_nothing(hosts, toys, tmp_path, wrong):
    libraries = glob.glob("/usr/lib/*/faketime/libfaketime.so.1") or pytest.skip("no faketime: apt-get install it")
    ssh = hosts.ssh_with("node-b", LD_PRELOAD=libraries[0], FAKETIME=wrong, DONT_FAKE_MONOTONIC="1")
    clocks = [*launcher(hosts, "mpich", ssh=ssh).split(), "date", "+%s"]  # as the ranks see them
    first, last = sorted(map(int, hosts.run("node-a", clocks, env=ENVIRONMENT | CABLE).stdout.split()))
    assert last - first > 4 * 3600
    words = (*TOY, "--data", toys, "--hang-after", 10)
    for runs, program in (("right", hosts.ssh), ("wrong", ssh)):
        done = run_stage(hosts, *words, "--runs", tmp_path / runs, ssh=program)
        assert done.returncode == 0, done.stderr
    weights = [tmp_path / runs / "toy-shapes/stage1/weights.caffemodel" for runs in ("right", "wrong")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_cable_that_is_pulled_ends_the_job_which_goes_on(hosts, toys, tmp_path):
    words = (*TOY, "--data", toys, "--hang-after", 10)
    straight = run_stage(hosts, *words, "--iterations", 400, "--runs", tmp_path / "straight")
    assert straight.returncode == 0, straight.stderr
    how = tool("run_stage", *words, "--iterations", 400, "--runs", tmp_path / "runs", "--ranks", 2)
    how += ["--launcher", launcher(hosts, "mpich")]
    process = hosts.start("node-a", how, env=ENVIRONMENT | CABLE, stderr=subprocess.PIPE, text=True)
    stage = tmp_path / "runs" / "toy-shapes" / "stage1"
    wait_until(lambda: list(stage.glob("iter_*.json")) or process.poll() is not None)
    assert process.poll() is None
    hosts.cable("down")
    began = time.monotonic()
    try:
        _, said = process.communicate()
    finally:
        hosts.cable("up")
    assert process.returncode == 1 and "Traceback" not in said, said
    print(f"seen within {time.monotonic() - began:.0f} s: {said.splitlines()[-2]}")
    again = run_stage(hosts, *words, "--iterations", 400, "--runs", tmp_path / "runs")
    assert again.returncode == 0, again.stderr
    weights = [tmp_path / one / "toy-shapes/stage1/weights.caffemodel" for one in ("runs", "straight")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
