"""The checked-in job script under a real Slurm of two nodes: what one process does, requeued, and parts as an array."""

from importlib.util import find_spec

import pytest

from tests.cluster import slurm as slurm_module
from tests.cluster.conftest import ENVIRONMENT, ROOT, call, like_one_process, tool
from tests.holding import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mpi4py") is None, reason="no mpi4py: pip install mpi4py mpich"),
]
LAUNCHER = "srun --mpi=pmi2 --nodes=2 --ntasks=2"
TOY = ("--system", "toy", "--workers", 0, "--batch-size", 4)
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
OURS = ENVIRONMENT | {"UCX_TLS": "tcp,self"}  # or ranks of one machine would not use the network


@pytest.fixture(scope="module")
def slurm(hosts, tmp_path_factory):
    if absent := slurm_module.missing():
        pytest.skip(absent)
    return slurm_module.Slurm(hosts, tmp_path_factory.mktemp("slurm"))


def submit(slurm, folder, *words):
    """The number of a job; its words come to stand in `folder`."""
    how = ("sbatch", "--parsable", f"--chdir={ROOT}", f"--output={folder}/%j.out", *words)
    return slurm.call(*how, env=OURS).strip()


def said(folder):
    return "".join(path.read_text() for path in sorted(folder.glob("*.out")))


def test_two_nodes_do_what_one_process_does(slurm, hosts, begun, tmp_path):
    def ranks(*words):
        how = tool("run_stage", *words, "--ranks", 2, "--launcher", LAUNCHER)
        done = hosts.run("node-a", how, env=OURS | slurm.environment)
        assert done.returncode == 0, done.stderr

    print(f"two nodes of Slurm: {like_one_process(begun, tmp_path, ranks)}")


@pytest.mark.parametrize("how", ["requeued", "asked to save"])
def test_a_job_that_is_pre_empted_goes_on_bit_for_bit(slurm, toys, tmp_path, how):
    """`scontrol requeue`, and the SIGTERM of --signal: twice each, at any iteration."""
    weights = []
    for name, times in (("straight", 0), ("interrupted", 2)):
        words = (*TOY, "--data", toys, "--iterations", 600, "--snapshot-every", 20, "--runs", tmp_path / name)
        job = submit(slurm, tmp_path, "--nodes=2", ROOT / "docs/slurm.sh", 1, *words)
        stage, reached = tmp_path / name / "toy-shapes/stage1", -1
        for _ in range(times):
            goes_on = lambda: slurm.state(job) == "RUNNING" and newest(stage) > reached  # noqa: B023, E731
            wait_until(lambda: goes_on() or slurm.state(job) in ENDED)  # noqa: B023
            assert slurm.state(job) == "RUNNING", said(tmp_path)
            if how == "requeued":
                slurm.call("scontrol", "requeue", job)
            else:
                slurm.call("scancel", "--batch", "--signal=TERM", job)
            wait_until(lambda: slurm.state(job) == "PENDING" or slurm.state(job) in ENDED)  # noqa: B023
            reached = newest(stage)
            print(f"{how} at iteration {reached}")
        wait_until(lambda: slurm.state(job) in ENDED)  # noqa: B023
        assert slurm.state(job) == "COMPLETED", said(tmp_path)
        weights.append((stage / "weights.caffemodel").read_bytes())
    assert said(tmp_path).count("going on from the snapshot") == 2, said(tmp_path)
    assert weights[0] == weights[1]


def newest(stage):
    return max((int(path.stem[5:]) for path in stage.glob("iter_*.json")), default=-1)


def test_an_array_predicts_in_parts_and_a_job_behind_it_joins_them(slurm, toys, tmp_path):
    words = ("--data", toys, "--split", "train", "--batch-size", 1)
    call("run_stage", *TOY, "--iterations", 3, "--data", toys, "--runs", tmp_path / "runs")
    run = tmp_path / "runs" / "toy-shapes"
    call("predict", run, *words, "-o", tmp_path / "whole.npz")
    words = (ROOT / "docs/slurm_predict.sh", run, *words, "-o", tmp_path / "found.npz")
    parts = submit(slurm, tmp_path, "--array=1-4", *words)
    join = submit(slurm, tmp_path, f"--dependency=afterok:{parts}", *words, "--join")
    wait_until(lambda: slurm.state(join) in ENDED or "DependencyNeverSatisfied" in slurm.call("squeue"))
    assert slurm.state(join) == "COMPLETED", said(tmp_path)
    assert len(list(tmp_path.glob("found.part*of4.npz"))) == 4
    assert (tmp_path / "found.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
