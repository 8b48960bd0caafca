"""What helps where the system refuses a file: room only where room is missing."""

from __future__ import annotations

import errno
import os

_FULL = (errno.ENOSPC, errno.EDQUOT)
_KNOWN = {
    errno.EIO: "the disk or its connection fails (the system's log says how: dmesg): take {elsewhere}",
    errno.EROFS: "the file system may only be read: mount it for writing, or take {elsewhere}",
    errno.EACCES: "get the right to it, or take {elsewhere}",
    errno.EPERM: "get the right to it, or take {elsewhere}",
    errno.ENOTDIR: "take {elsewhere}",
    errno.EEXIST: "take {elsewhere}",
    errno.EFBIG: "no file may become that large: raise the limit (ulimit -f), or take {elsewhere}",
    errno.EMFILE: "too many files may not be open at once: raise the limit (ulimit -n)",
}


def cure_of(error: Exception, room: str = "make room on the disk", elsewhere: str = "another disk or folder") -> str:
    """What mends it; `room` says that for a full disk or quota, `elsewhere` where else to write. Empty: not known.

    Libraries that raise errors of their own repeat the system's words in them.
    """
    number = number_of(error)
    return room if number in _FULL else _KNOWN.get(number, "").format(elsewhere=elsewhere)


def cure_and_then(error: Exception, then: str, **words: str) -> str:
    """The same with `then` what goes on, which holds where the former is not known as well."""
    return f"{cure_of(error, **words) or 'mend that'}; {then}"


def number_of(error: Exception) -> int:
    """The system's error number; 0 where it tells none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    words = str(error)
    return next((number for number in (*_FULL, *_KNOWN) if os.strerror(number) in words), 0)
