"""How the images of an LMDB pair are stored: `pair_writer.py` makes its records with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pysrn.data.readers.records import Sample
from pysrn.later import later
from pysrn.recipes import STORED_SIZE

cv2, datum, pixels = (later(name) for name in ("cv2", "pysrn.data.pair.datum", "pysrn.data.pair.pixels"))
SIGNED, ZERO_ONE = "1/-1/0", "0-1"  # how labels are stored: yes / no / unspecified, or no and yes alone
INTERPOLATIONS = ("area", "linear")
JPEG_QUALITY = 95  # assumed: no visible loss; a quarter of the bytes of raw pixels


@dataclass(frozen=True)
class Encoding:
    """`name`: "jpeg" or "raw", `interpolation`: one of INTERPOLATIONS, `size`: pixels of a side,
    `labels_as`: SIGNED or ZERO_ONE.
    """

    name: str = "jpeg"
    quality: int = JPEG_QUALITY
    interpolation: str = "area"
    size: int = STORED_SIZE
    labels_as: str = SIGNED

    def record(self, sample: Sample) -> bytes:
        """Serialized Datum of a sample's size x size x 3 BGR pixels. Raises BadImage."""
        image = pixels.sample_pixels(sample, self.size, self.interpolation)
        if self.name == "raw":
            return datum.raw_image(image)
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        return datum.encoded_image(jpeg.tobytes(), *image.shape[:2])

    def facts(self) -> dict[str, str | int]:
        """What the manifest says of it."""
        facts = {"encoding": self.name} | asdict(self)
        del facts["name"], facts["size"]  # the manifest has the size of all splits, too
        if self.labels_as == SIGNED:  # as ever: manifests of before this could be chosen do not say it
            del facts["labels_as"]
        if self.name != "jpeg":
            del facts["quality"]
        return facts


DEFAULT_ENCODING = Encoding()
