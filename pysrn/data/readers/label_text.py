"""Label files that are text: their lines, their numbers, and what the numbers say.

The list-like readers (`image_lists.py`, `label_table.py`, `nus_wide.py`) parse with it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

from pysrn.console import MissingError, SrnError, escaped, existing_file, message, recoded
from pysrn.data.readers.annotation_checks import shown
from pysrn.data.readers.records import NEGATIVE, POSITIVE, UNSPECIFIED, Naming
from pysrn.later import later

np = later("numpy")

LONGEST_NAME = 1000  # characters; assumed: more are a quote that was left open
LARGEST_TEXT = 2**27  # bytes; assumed: four times the largest list of labels that circulates, NUS-WIDE's


def text_lines(path: Path) -> list[str]:
    """Lines of a text file (or of a `.gz` of one) without line ends and without empty lines at the end.

    Bytes that are not UTF-8 become surrogates, so that one bad name does not cost the others.
    Raises MissingError when there is none or it is empty, SrnError for one that is UTF-16, a damaged archive or
    too large.
    """
    existing_file(path, "annotation file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            data = stream.read(LARGEST_TEXT + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SrnError(f"{path}: damaged archive: {error}") from None
    if len(data) > LARGEST_TEXT:
        raise SrnError(f"{path}: more than {LARGEST_TEXT >> 20} MiB: too large for a list of labels")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SrnError(f"{path}: the file is UTF-16 (its first bytes are {data[:2]})", recoded(path, "UTF-16"))
    for begin, encoding in ((1, "UTF-16LE"), (0, "UTF-16BE")):  # every other byte of a Latin letter is 0
        if 2 * data[begin:64:2].count(0) > len(data[:64:2]):
            raise SrnError(f"{path} line 1: {data[:8]} is {encoding} without its mark", recoded(path, encoding))
    lines = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if len(lines) == 1:
        lines = lines[0].split("\r")  # line ends of old Macs
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise MissingError(f"{path}: the file is empty")
    return lines


def is_utf8(text: str) -> bool:
    """Whether text that `text_lines` read was UTF-8, all of it."""
    return text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text)


def class_name(text: str, path: Path, line: int) -> str:
    """A class name without the blanks around it: exactly as the file has it, which is what makes a class.

    Raises SrnError, with the line, for one that is not UTF-8 or is longer than `LONGEST_NAME`.
    """
    name = text.strip()
    if not is_utf8(name):
        raw = name.encode("utf-8", "surrogateescape")
        raise SrnError(
            f"{path} line {line}: class name {shown(raw)} is not UTF-8",
            recoded(path),
        )
    if len(name) > LONGEST_NAME:
        raise SrnError(f"{path} line {line}: a class name of {len(name)} characters: was a quote left open?")
    return name


def listed_namings(path: Path) -> list[Naming]:
    """The class names of a file with one a line, exactly as they stand there, and where.

    Raises SrnError when a line is empty or stands there twice, or is no class name.
    """
    lines: dict[str, int] = {}
    for line, text in enumerate(text_lines(path), 1):
        name = class_name(text, path, line)
        if not name or name in lines:
            what = f"line {line} is empty" if not name else f"line {line}: {shown(name)}, as line {lines[name]}"
            raise SrnError(f"{path}: a class stands there twice, or a line is empty: {what}", "remove the line")
        lines[name] = line
    return [Naming(name, path, f"line {line}", listed=True) for name, line in lines.items()]


def class_list(path: Path) -> tuple[str, ...]:
    """The names of `listed_namings`."""
    return tuple(naming.name for naming in listed_namings(path))


def printable(text: str, longest: int | None = 80) -> str:
    """Text that can be shown and stored as UTF-8: whatever cannot is escaped, and the end of a long one is cut.

    What is to be told from others, as a class name, is never cut (`longest` None).
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    text = escaped(text)
    return text if longest is None or len(text) <= longest else f"{text[:longest]}..."


def number_rows(rows: list[str], path: Path) -> np.ndarray:
    """Numbers divided by white space, float32 of shape (rows, columns).

    Raises SrnError for an empty row, one with another number of columns than the first, or what is no number.
    """
    try:
        values = np.loadtxt(rows, np.float32, comments=None, ndmin=2)
        if len(values) == len(rows):
            return values
    except ValueError:
        pass
    columns = len(rows[0].split())
    for line, row in enumerate(rows, 1):
        if len(row.split()) != columns or not columns:
            raise SrnError(f"{path} line {line}: {len(row.split())} labels where line 1 has {columns}")
        for value in row.split():
            try:
                float(value)
            except ValueError:
                raise SrnError(f"{path} line {line}: {shown(value)} is not a label: 1, 0 or -1") from None
    raise SrnError(f"{path}: its rows cannot be read as numbers")


def labels_of(values: np.ndarray, path: Path, lines: Sequence[int], unspecified: int | None = None) -> np.ndarray:
    """Label values int8 (rows, columns) of 1/0/-1 from the numbers of a file.

    0 is "unspecified" in a file that has -1, and "has it not" in one that has only 1 and 0. `unspecified` is a further
    number with that meaning. Raises SrnError for any other number, with its line.
    """
    wrong = (values != POSITIVE) & (values != 0) & (values != NEGATIVE)
    if unspecified is not None:
        wrong &= values != unspecified
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise SrnError(
            f"{path} line {lines[row]}: label {values[row, column]:.0f} in label column {column + 1} is out of range: "
            "1, 0 or -1"
        )
    labels = np.full(values.shape, NEGATIVE, np.int8)
    labels[values == POSITIVE] = POSITIVE
    if unspecified is not None:
        labels[values == unspecified] = UNSPECIFIED
    if (values == NEGATIVE).any():
        labels[values == 0] = UNSPECIFIED
        message(f"{path}: labels are 1/-1/0, so 0 is read as unspecified")
    return labels
