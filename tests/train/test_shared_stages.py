"""First stages of one run given to another: the bytes that it would train itself, and refused where they are not."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from pysrn.console import UsageError
from pysrn.systems.registry import system_named
from pysrn.train.flags import Asked
from pysrn.train.run_folder import RunFolder
from pysrn.train.settings import choose_settings, with_real_counts
from pysrn.train.shared_stages import share_first_stages
from tests.holding import Hold, wait_until
from tests.train.conftest import SHORT, assert_same_weights
from tests.train.test_kills import kill_all

OTHERS = ("cnn_rnn", "msrn")
ROOT = Path(__file__).resolve().parents[2]
AS_FINISHED = {"recipe": {"batch_size": 2}, "stages": {"iterations": [3]}}  # of the fixture `finished`
SHARE = """
from tests.train.test_shared_stages import *

done, run = (RunFolder(Path(folder)) for folder in a_share[:2])
share_first_stages(done, run, settings_of("msrn", a_share[2]))
"""


def settings_of(name, data, recipe=None, stages=None):
    asked = Asked(AS_FINISHED["recipe"] | (recipe or {}), AS_FINISHED["stages"] | (stages or {}))
    return with_real_counts(choose_settings(None, data=str(data), asked=asked, system=system_named(name)))


@pytest.mark.parametrize("name", OTHERS)
def test_a_shared_stage_is_what_the_run_would_train_itself(finished, small_data, run_stage, tmp_path, name):
    done, run = RunFolder(finished[0] / "shapes"), RunFolder(tmp_path / "runs" / "shared")
    share_first_stages(done, run, settings_of(name, small_data))
    flags = ("1", "--system", name, "--iterations", "3", *SHORT)
    kept = run_stage(*flags, "--run", "shared")
    assert kept.returncode == 0 and "stage 1 (main): keep" in kept.stderr, kept.stderr
    alone = run_stage(*flags, "--run", "alone")
    assert alone.returncode == 0, alone.stderr
    own = RunFolder(tmp_path / "runs" / "alone")
    assert_same_weights(run.weights(1), own.weights(1))
    for file in ("deploy.prototxt", "labels.txt"):
        assert (run.stage(1) / file).read_bytes() == (own.stage(1) / file).read_bytes()
    manifest, theirs = (json.loads((one.stage(1) / "manifest.json").read_text()) for one in (run, own))
    assert manifest["shared_from"] == str(done.stage(1)) and manifest["digest"] == theirs["digest"]


def test_all_stages_that_are_alike_are_shared(finished, small_data, run_stage, tmp_path):
    """Of a run that differs in its last stage alone: three are copied, the fourth is what an own run ends with."""
    done, run = RunFolder(finished[0] / "shapes"), RunFolder(tmp_path / "runs" / "shared")
    settings = settings_of("srn", small_data, stages={"iterations": [3, 3, 3, 2]})
    shorter = settings_of("srn", small_data, stages={"iterations": [3, 2, 3, 2]})
    for name, wanted, stages in (("shorter", shorter, [1]), ("shared", settings, [1, 2, 3])):
        share_first_stages(done, RunFolder(run.path.parent / name), wanted)
        assert [n for n in range(1, 5) if RunFolder(run.path.parent / name).state(n).word == "done"] == stages
    flags = ("4", "--iterations", "3,3,3,2", *SHORT)
    for name in ("shared", "alone"):
        ended = run_stage(*flags, "--run", name)
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr.count(": keep") == (3 if name == "shared" else 0)
    assert_same_weights(run.weights(4), RunFolder(tmp_path / "runs" / "alone").weights(4))


def test_sharing_goes_on_behind_what_a_run_has(finished, small_data, tmp_path):
    """A run that was given one stage gets the next from another that is done; none behind one that it has begun."""
    done, run = RunFolder(finished[0] / "shapes"), RunFolder(tmp_path / "run")
    settings = settings_of("srn", small_data, stages={"iterations": [3, 3, 3, 2]})
    share_first_stages(done, run, settings)
    before = run.weights(1).stat().st_mtime_ns
    shutil.rmtree(run.stage(3))
    share_first_stages(done, run, settings)
    assert run.state(3).word == "done" and run.weights(1).stat().st_mtime_ns == before
    shutil.rmtree(run.stage(3))
    (run.weights(2)).write_bytes(b"other")
    share_first_stages(done, run, settings)  # its stage 3 would start from other weights
    assert run.state(3).word == "not begun"


@pytest.mark.slow
def test_killed_at_any_file_while_a_stage_is_shared(finished, small_data, tmp_path):
    """SIGKILL before each file that is opened or renamed: the same call then leaves what an undisturbed one leaves."""

    def share(run):
        share_first_stages(RunFolder(finished[0] / "shapes"), RunFolder(run), settings_of("msrn", small_data))
        return {path.relative_to(run): path.is_file() and path.read_bytes() for path in run.rglob("*")}

    straight = share(tmp_path / "straight")
    for number in count(1):
        run = tmp_path / f"run{number}"
        words = [str(finished[0] / "shapes"), str(run), str(small_data)]
        with Hold(tmp_path, "a_share", rf"/{run.name}(/|$)", number) as hold:
            command = [sys.executable, "-c", f"a_share = {words}\n{SHARE}"]
            process = subprocess.Popen(command, cwd=ROOT, env=os.environ | hold.environment)
            wait_until(lambda: hold.reached or process.poll() is not None)  # noqa: B023 (called within the loop)
            if not hold.reached:
                assert process.returncode == 0
                break
            kill_all(process, [process.pid])
        assert process.returncode == -signal.SIGKILL
        assert RunFolder(run).state(1).word == ("done" if (run / "stage1").exists() else "not begun")
        assert share(run) == straight, number
    assert number > 10


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": {"seed": 1}},
        {"recipe": {"weight_decay": 0.1}},
        {"stages": {"iterations": [4]}},
        {"stages": {"base_lr": [0.02, 1.0]}},
    ],
)
def test_another_training_is_refused(finished, small_data, tmp_path, other):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(UsageError, match="another net, other numbers, data or first weights"):
        share_first_stages(RunFolder(finished[0] / "shapes"), run, settings_of("msrn", small_data, **other))
    assert not run.path.exists()


def test_other_first_weights_are_refused(finished, small_data, tmp_path):
    done = RunFolder(finished[0] / "shapes")
    settings = replace(settings_of("msrn", small_data), weights=str(done.weights(1)))
    with pytest.raises(UsageError, match="first weights"):
        share_first_stages(done, RunFolder(tmp_path / "run"), settings)


def test_what_a_run_has_stays_and_what_is_not_done_is_not_shared(finished, small_data, tmp_path):
    done, run, settings = (
        RunFolder(finished[0] / "shapes"),
        RunFolder(tmp_path / "run"),
        settings_of("msrn", small_data),
    )
    with pytest.raises(UsageError, match=r"no finished stage 1 \(main\)"):
        share_first_stages(run, RunFolder(tmp_path / "other"), settings)
    share_first_stages(done, run, settings)
    before = (run.stage(1) / "manifest.json").stat().st_mtime_ns
    share_first_stages(done, run, settings)
    assert (run.stage(1) / "manifest.json").stat().st_mtime_ns == before
    run.weights(1).write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"no finished stage 1 \(main\)"):
        share_first_stages(run, RunFolder(tmp_path / "other"), settings)


def test_systems_are_compared_from_one_first_stage(small_data, tmp_path):
    """The table of small runs; the second system's stage 1 is the first's, and a second call trains nothing."""
    words = ["--systems", "cnn_rnn", "msrn", "--seeds", "0", "--iterations", "1"]
    words += ["--runs", str(tmp_path), "--data", str(small_data)]
    command = [sys.executable, str(ROOT / "tools" / "compare_seeds.py"), *words]
    first, again = (subprocess.run(command, capture_output=True, text=True, cwd=ROOT) for _ in range(2))
    assert first.returncode == 0, first.stderr
    heads = [line for line in first.stdout.splitlines() if "stage 1 score_cls" in line]
    assert heads and all(" CNN-RNN score |" in line and " MSRN score |" in line for line in heads)
    own, shared = (tmp_path / f"{name}-shapes-seed0/stage1" for name in ("cnn_rnn", "msrn"))
    assert json.loads((shared / "manifest.json").read_text())["shared_from"] == str(own)
    assert again.stdout == first.stdout and "done:" in first.stderr and "done:" not in again.stderr
