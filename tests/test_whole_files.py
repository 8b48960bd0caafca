"""Files appear whole or not at all, and leave nothing beside them."""

import os
import signal
import stat
import subprocess
import sys
import tempfile

import pytest

from pysrn.whole_files import replace_text, written_beside


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_was_there_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "made" / "file"
    with written_beside(path) as partial:
        partial.write_text("first")
        assert not path.exists()
    with pytest.raises(RuntimeError), written_beside(path) as partial:
        partial.write_text("half of the sec")
        raise RuntimeError
    assert path.read_text() == "first"
    assert names(path.parent) == ["file"]


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_files_may_be_read_as_any_new_file_may(tmp_path, mask):
    before = os.umask(mask)
    try:
        with written_beside(tmp_path / "file") as partial:
            descriptor, own = tempfile.mkstemp(dir=tmp_path)  # 0600, as libraries make theirs
            os.close(descriptor)
            os.replace(own, partial)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "file"
    with written_beside(path) as partial:
        partial.write_text("ours")
        code = f"""from pathlib import Path
from pysrn.whole_files import written_beside
with written_beside(Path({str(path)!r})) as partial:
    partial.write_text("theirs")
"""
        subprocess.run([sys.executable, "-c", code], check=True)
        assert path.read_text() == "theirs"
    assert path.read_text() == "ours"
    assert names(tmp_path) == ["file"]


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "file"
    replace_text(path, "first\n")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_text(path, "second\n")
    assert path.read_text() == "first\n"
    assert names(tmp_path) == ["file"]


def test_the_next_text_takes_the_place_of_what_a_killed_process_left(tmp_path):
    path = tmp_path / "file"
    code = f"""import os, signal
from pathlib import Path
from pysrn import whole_files
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
whole_files.replace_text(Path({str(path)!r}), "lost")
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert names(tmp_path) == ["file.partial"]
    replace_text(path, "kept")
    assert path.read_text() == "kept" and names(tmp_path) == ["file"]
