"""A user's own tables with empty image files, written and read in a line of a test."""

from pysrn.data.readers.options import ReaderOptions
from pysrn.data.readers.registry import read_splits


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(root, **files):
    """`train="..."` is train.csv, `classes="..."` classes.txt; images p1.jpg to p9.jpg are there."""
    for name, content in files.items():
        path = root / (f"{name}.txt" if name == "classes" else f"{name}.csv")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    touch(root, *(f"p{number}.jpg" for number in range(1, 10)))


def read(root, **options):
    return read_splits("folder", root, ReaderOptions(**options))


def named(split):
    """File name -> the names of the labels it has."""
    return {
        sample.path.name: {name for name, value in zip(split.classes, sample.labels, strict=True) if value == 1}
        for sample in split.samples
    }
