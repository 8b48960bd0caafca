"""A rank that hangs: named, the job ended, its last snapshot kept; and who is only slow, or was asleep, goes on."""

import os
import random
import re
import signal
import time

import pytest

from pysrn.train.stage import snapshots
from pysrn.train.stage.pulse import ASLEEP, BEGINS, WAITS, WORKS
from pysrn.train.watch import Watch
from tests.holding import HANG, Hold, wait_until
from tests.train.conftest import WITHOUT_END, assert_same_weights, call_run_stage, named, stop, wait_for_iteration
from tests.train.test_kills import assert_same_run
from tests.train.test_parallel import losses, needs_mpi, rank_of, rank_processes

SHORT = ("--batch-size", "4", "--snapshot-every", "2", "--ranks", "2")
PATIENCE = 10  # seconds; a healthy rank of a small net uses the CPU more often


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def pulse(number, **said):
    return {"pulse": ["vm", 50 + number], "rank": str(number), "stopped": False, "idle": 0.0, "does": WORKS} | said


def after(seconds, said, clock=None, ranks=2):
    """What is found `seconds` after the first word; `said`: the pulses, again and again; None: silence."""
    clock = clock or Clock()
    watch = Watch(ranks, 45, clock)
    for number in range(ranks):
        watch.hear(pulse(number, since=0))
    for _ in range(seconds):
        clock.now += 1
        for one in said:
            watch.hear(one)
        found = watch.hung([])
    return found


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([pulse(0), pulse(1)], None),
        ([pulse(0)], r"rank 1 \(process 51 on vm\) hangs: nothing is heard of it for 4\d s"),
        ([pulse(0), pulse(1, idle=50.0, stopped=True, does=WAITS, since=50)], "rank 1 .* it is stopped, for 50 s"),
        ([pulse(0, idle=50.0), pulse(1, idle=50.0, does=WAITS, since=50)], "rank 0 .* it uses no CPU for 50 s"),
        ([pulse(0, idle=50.0, does=BEGINS), pulse(1, idle=50.0, does=BEGINS)], None),
        ([pulse(0), pulse(1, does=WAITS, since=5000)], None),  # rank 0 validates
        ([pulse(0, does=WAITS, since=50), pulse(1, does=WAITS, since=50)], "all ranks wait for each other"),
        ([pulse(0, does=WAITS, since=50), pulse(1, does=WAITS, since=2)], None),
        ([pulse(0), pulse(1, ended=True)], None),
    ],
)
def test_what_is_a_hang(said, words):
    assert after(30, said) is None
    found = after(46, said)
    assert (found is None) if words is None else re.search(words, found), found


def test_a_rank_that_never_begins():
    clock = Clock()
    watch = Watch(3, 45, clock)
    for second in range(400):  # a queue, then two of three
        clock.now += 1
        if second >= 300:
            for number in range(2):
                watch.hear(pulse(number))
        found = watch.hung([])
        assert found is None or second >= 345
    assert found.startswith("2 of 3 ranks have begun")


def test_time_asleep_counts_for_none():
    clock = Clock()
    watch = Watch(2, 45, clock)
    for number in range(2):
        watch.hear(pulse(number))
    for _ in range(44):
        clock.now += 1
        assert watch.hung([]) is None
    clock.now += 3600  # a lid; then what was sent before is read, and only then what is sent now
    watch.hear(pulse(1, idle=3000.0, stopped=True))
    assert watch.hung([]) is None
    clock.now += ASLEEP
    assert watch.hung([]) is None
    for number in range(2):
        watch.hear(pulse(number))
    assert watch.hung([]) is None


@needs_mpi
@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stopped_rank_ends_the_job_and_the_same_command_goes_on_bit_for_bit(run_stage, tmp_path, family, victim):
    arguments = ("1", "--iterations", "8", *SHORT)
    folder = tmp_path / "runs/shapes/stage1"
    with Hold(tmp_path, "pysrn.train.stage.rank", r"stage1/iter_000004\.json$") as hold:
        process = run_stage(*arguments, "--hang-after", PATIENCE, hold=hold)
        hold.wait(process)
        stop([next(pid for pid in rank_processes(folder) if rank_of(pid) == victim)])
        hold.release()
        said = process.communicate(timeout=HANG)[1]
    assert process.returncode == 1 and "Traceback" not in said and said.count("error:") == 1, said
    words = (
        rf"error: stage 1 .*, after iteration \d+: rank {victim} \(process \d+ on \S+\) hangs: it is stopped, for \d+ s"
    )
    assert re.search(words + "; the snapshot of iteration [24] is kept", said), said
    wait_until(lambda: not family())
    assert snapshots.newest_whole(folder) in ((2, []), (4, []))
    done = run_stage(*arguments)
    assert done.returncode == 0 and "resume" in done.stderr, done.stderr
    assert run_stage(*arguments, runs=tmp_path / "straight").returncode == 0
    assert_same_weights(folder / "weights.caffemodel", tmp_path / "straight/shapes/stage1/weights.caffemodel")
    assert (losses(folder) == losses(tmp_path / "straight/shapes/stage1")).all()


@needs_mpi
def test_a_rank_whose_images_never_come_is_named(run_stage, tmp_path, family):
    """As with a network file system that blocks: the process that loads images for rank 1 is stopped."""
    folder = tmp_path / "runs/shapes/stage1"
    process = run_stage("1", *WITHOUT_END, *SHORT, "--hang-after", PATIENCE, wait=False)
    wait_for_iteration(folder, 2)
    rank = next(pid for pid in rank_processes(folder) if rank_of(pid) == 1)
    stop([pid for pid in named(family, "pysrn.data.feed.worker") if rank_of(pid) == 1])
    said = process.communicate(timeout=HANG)[1]
    assert process.returncode == 1 and re.search(rf"rank 1 \(process {rank} on .* uses no CPU", said), said
    wait_until(lambda: not family())


@needs_mpi
@pytest.mark.parametrize("who", [pytest.param("the command", marks=pytest.mark.slow), "all"])
def test_who_was_asleep_goes_on(run_stage, tmp_path, family, who):
    """The command alone (Ctrl-Z), or all of the job (a lid, a container that is paused)."""
    folder = tmp_path / "runs/shapes/stage1"
    process = run_stage("1", *WITHOUT_END, *SHORT, "--hang-after", PATIENCE, wait=False)
    wait_for_iteration(folder, 2)
    asleep = [process.pid, *(pid for pid in family() if who == "all" and pid != process.pid)]
    stop(asleep)
    time.sleep(PATIENCE + 2 * ASLEEP)
    for pid in asleep:
        os.kill(pid, signal.SIGCONT)
    wait_for_iteration(folder, snapshots.iterations(folder)[0] + 4)
    time.sleep(PATIENCE + 2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=HANG)[1]
    assert process.returncode == 130 and "is saved" in said, said


@needs_mpi
def test_going_on_with_fewer_ranks_trains_on_the_same_images(run_stage, tmp_path):
    """Stage 3, which has no batch statistics: the losses of four ranks, then of two, then of one, are those of one."""
    for runs in ("straight", "fewer"):
        done = run_stage("2", "--iterations", "2", "--batch-size", "4", runs=tmp_path / runs)
        assert done.returncode == 0, done.stderr
    words = ("3", "--iterations", "2,2,8,2", "--batch-size", "4", "--snapshot-every", "1")
    assert run_stage(*words, runs=tmp_path / "straight").returncode == 0
    for ranks, moment in ((4, 3), (2, 6), (1, None)):
        command = (*words, "--ranks", ranks)
        if moment is None:
            assert run_stage(*command, runs=tmp_path / "fewer").returncode == 0
            break
        with Hold(tmp_path, "pysrn.train.stage.rank", rf"stage3/iter_{moment:06d}\.json$") as hold:
            process = run_stage(*command, runs=tmp_path / "fewer", hold=hold)
            hold.wait(process)
            os.kill(rank_processes(tmp_path / "fewer/shapes/stage3")[-1], signal.SIGKILL)
            said = process.communicate(timeout=HANG)[1]
        assert process.returncode == 1, said
    ours, theirs = (losses(tmp_path / f"{runs}/shapes/stage3") for runs in ("fewer", "straight"))
    assert len(ours) == 8
    for mine, their in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(their, rel=1e-3)


@needs_mpi
@pytest.mark.slow
def test_twenty_hangs_and_kills_in_all_stages_change_nothing(small_data, tmp_path, family):
    rng, iterations = random.Random(22), 60
    words = ("4", "--iterations", str(iterations), *SHORT, "--base-lr", "1e-4")
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert call_run_stage(*words, runs=straight, data=small_data).returncode == 0
    moments = sorted((1 + number % 4, rng.randrange(2, iterations - 6)) for number in range(20))
    for number, (stage, target) in enumerate(moments):
        folder, how = broken / f"shapes/stage{stage}", signal.SIGSTOP if number % 2 else signal.SIGKILL
        at = max([target, *(snapshots.iterations(folder) if folder.is_dir() else [])]) // 2 * 2 + 2
        name = rf"stage{stage}/(iter_{min(at, iterations):06d}|manifest)\.json$"
        with Hold(tmp_path, "", name) as hold:
            process = call_run_stage(*words, "--hang-after", PATIENCE, runs=broken, data=small_data, hold=hold)
            hold.wait(process)
            victims = rank_processes(folder)
            os.kill(rng.choice(victims) if victims else process.pid, how if victims else signal.SIGKILL)
            hold.release()
            said = process.communicate(timeout=HANG)[1]
        assert process.returncode in (1, -signal.SIGKILL) and "Traceback" not in said, said
        wait_until(lambda: not family())
    assert call_run_stage(*words, runs=broken, data=small_data).returncode == 0
    assert_same_run(broken, straight)
