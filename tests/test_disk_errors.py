"""What helps depends on what the system said, in whose words ever."""

import errno
import os

import lmdb
import pytest

from pysrn.console import run_main
from pysrn.data.pair import lmdb_file
from pysrn.disk_errors import cure_of, number_of

WORDS = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EIO: "dmesg",
    errno.EROFS: "mount it for writing",
    errno.EACCES: "get the right",
    errno.EPERM: "get the right",
    errno.EFBIG: "ulimit -f",
    errno.EMFILE: "ulimit -n",
}


@pytest.mark.parametrize(("number", "words"), WORDS.items())
def test_each_error_has_its_cure(number, words, capsys):
    def fail(_):
        raise error

    error = OSError(number, os.strerror(number), "/there/file")
    for one in (error, lmdb.Error(f"mdb_txn_commit: {os.strerror(number)}"), RuntimeError(f"{error} (os error 5)")):
        assert number_of(one) == number
        assert words in cure_of(one) and ("room" in cure_of(one)) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert run_main(fail, None) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"error: {os.strerror(number)} (/there/file)" and words in said[1] and len(said) == 2


def test_what_is_not_known_has_no_cure():
    assert cure_of(RuntimeError("odd")) == "" and cure_of(OSError("odd")) == ""


@pytest.mark.parametrize(("probe", "words"), [(errno.EDQUOT, "make room"), (0, "dmesg")])
def test_a_write_of_lmdb_that_was_cut_short_tells_its_reason(tmp_path, monkeypatch, probe, words):
    """LMDB calls that EIO, whatever the disk is: only another write tells a full one from one that fails."""

    class Failing:
        """An environment of a disk like that."""

        def __init__(self, path):
            self._open = lmdb_file.open_growing(path)
            self.path = self._open.path

        def begin(self, write):
            raise lmdb.Error("mdb_txn_commit: Input/output error")

    def allocate(*_):
        if probe:
            raise OSError(probe, os.strerror(probe))

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    with pytest.raises(lmdb_file.SrnError, match="cannot be written") as caught:
        lmdb_file.append(Failing(tmp_path / "records.lmdb"), [(b"key", b"value")])
    assert words in caught.value.cure and ("room" in caught.value.cure) == bool(probe)
