"""Building databases: our pair writer against Caffe's own `convert_imageset`, each in a process of its own.

Both read the same list of files from the page cache, warp bilinearly to the same square and store JPEG of quality 95
(that of `convert_imageset` is OpenCV's default). Ours writes the labels, the manifest and the keys in shuffled order,
too. Run as `python -m pysrn.benchmark.data.building PHOTOS OUT THREADS` it is our contestant.

The files are a user's own photos (`--images`), the better material, or made ones: windows of one large texture whose
amplitudes fall with a power of the frequency, as those of photos do, so that they cost about as much to decode and to
encode.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import lmdb
import numpy as np

from pysrn.benchmark.timing import alternate, seconds_of, summary
from pysrn.console import MissingError, SrnError, existing_folder
from pysrn.data.pair.encoding import Encoding
from pysrn.data.pair.lmdb_file import pair_paths
from pysrn.data.pair.pair_writer import write_pair
from pysrn.data.readers.records import Sample
from pysrn.processes import python_module
from pysrn.recipes import STORED_SIZE, class_names

OURS, PEER = "pysrn", "convert_imageset"
LABELS = "coco"  # whose class names the databases get
SPLIT = "train"
STORED = {name: Encoding(name, quality=95, interpolation="linear") for name in ("jpeg", "raw")}  # as the peer does
WIDTH, HEIGHT = 640, 480  # assumed: the commonest size of MS-COCO's photos
QUALITY = 95  # assumed
LIST = "list.txt"
_TEXTURE = 2048  # pixels a side
_FALL = 1.2  # assumed: with it the files weigh about what those of MS-COCO do
_CONTRAST = 55  # assumed: standard deviation of a photo's grey levels
_SUFFIXES = (".jpg", ".jpeg")


def compare_building(photos: Path, work: Path, rounds: int, threads: int) -> dict:
    """Images/s of both. Raises MissingError without `convert_imageset`, SrnError when one of them fails."""
    program = shutil.which(PEER)
    if program is None:
        raise MissingError(f"{PEER} is not in PATH", "docker/local tools/benchmark.py data")
    count = len((photos / LIST).read_text(encoding="utf-8").splitlines())
    for path in photos.iterdir():
        path.read_bytes()  # into the page cache

    def ours() -> float:
        out = work / "ours"
        command = python_module("pysrn.benchmark.data.building", photos, out, threads)
        return count / _timed(command, out, pair_paths(out, SPLIT)[0], count)

    def peer() -> float:
        out = work / "peer"
        return count / _timed(peer_command(program, photos, out), out, out, count)

    return summary(alternate({OURS: ours, PEER: peer}, rounds), OURS) | {"images": count, "threads": threads}


def peer_command(program: str, photos: Path, out: Path) -> list[str]:
    """The command line of `convert_imageset`."""
    size = [f"-resize_height={STORED_SIZE}", f"-resize_width={STORED_SIZE}"]
    return [program, *size, "-encoded", "-encode_type=jpg", f"{photos}/", str(photos / LIST), str(out)]


def run(command: list[str]) -> None:
    """Run a builder. Raises SrnError with its last words when it fails."""
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SrnError(f"{Path(command[0]).name} ended with exit code {done.returncode}: {done.stderr[-500:]}")


def _timed(command: list[str], out: Path, database: Path, count: int) -> float:
    """Seconds of a command that fills `database` with `count` records. What it wrote is removed."""
    seconds = seconds_of(lambda: run(command))
    with lmdb.open(str(database), readonly=True, lock=False) as environment:
        entries = environment.stat()["entries"]
    shutil.rmtree(out)
    if entries != count:
        raise SrnError(f"{Path(command[0]).name} wrote {entries} of {count} records")
    return seconds


def build(photos: Path, out: Path, labels: str, encoding: str, threads: int | None = None) -> None:
    """Build the pair of the listed photos with the classes of the data set `labels`."""
    classes = class_names(labels)
    samples = read_samples(photos, len(classes))
    write_pair(samples, out, SPLIT, classes, 0, dataset=labels, encoding=STORED[encoding], workers=threads)


def make_photos(folder: Path, count: int, seed: int = 0) -> None:
    """Write `count` JPEG files of 640 x 480 into `folder`; the same seed gives the same files."""
    random = np.random.default_rng(seed)
    texture = _texture(random)
    folder.mkdir(parents=True)
    for number in range(count):
        top, left = (int(random.integers(_TEXTURE - side)) for side in (HEIGHT, WIDTH))
        window = texture[top : top + HEIGHT, left : left + WIDTH]
        name = str(folder / f"{number:06d}.jpg")
        cv2.imwrite(name, np.roll(window, number % 3, axis=2), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def copy_photos(source: Path, folder: Path, count: int) -> None:
    """Copy the JPEG files below `source` until there are `count`, again and again under other names.

    Raises MissingError where there is none.
    """
    below = sorted(existing_folder(source, "folder of photos").rglob("*"))
    photos = [path for path in below if path.suffix.lower() in _SUFFIXES]
    if not photos:
        raise MissingError(f"no JPEG file in {source}")
    folder.mkdir(parents=True)
    for number in range(count):
        shutil.copyfile(photos[number % len(photos)], folder / f"{number:06d}.jpg")


def write_list(folder: Path, labels: int) -> None:
    """Write the list of the files in the form of `convert_imageset`: a name and a label number a line."""
    names = sorted(path.name for path in folder.glob("*.jpg"))
    text = "".join(f"{name} {number % labels}\n" for number, name in enumerate(names))
    (folder / LIST).write_text(text, encoding="utf-8")


def read_samples(folder: Path, labels: int) -> Sequence[Sample]:
    """The files of the list, each with the one label that it names."""
    samples = []
    for line in (folder / LIST).read_text(encoding="utf-8").splitlines():
        name, label = line.rsplit(" ", 1)
        vector = np.full(labels, -1, np.int8)
        vector[int(label)] = 1
        samples.append(Sample(Path(name).stem, folder / name, vector))
    return samples


def _texture(random: np.random.Generator) -> np.ndarray:
    """A picture of random phases, its channels alike as in photos: uint8, three channels."""
    rows, columns = np.fft.fftfreq(_TEXTURE)[:, None], np.fft.rfftfreq(_TEXTURE)[None]
    falling = np.maximum(np.hypot(rows, columns), 1 / _TEXTURE) ** -_FALL
    planes = [np.fft.irfft2(np.fft.rfft2(random.standard_normal((_TEXTURE, _TEXTURE))) * falling) for _ in range(4)]
    grey, *tints = (plane / plane.std() for plane in planes)
    texture = np.stack([grey + 0.2 * tint for tint in tints], axis=2)  # assumed: most of a photo's contrast is grey
    return np.clip(128 + _CONTRAST * texture, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]), LABELS, "jpeg", int(sys.argv[3]))
