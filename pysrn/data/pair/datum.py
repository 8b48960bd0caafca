"""Records of an LMDB pair as Caffe's `Datum`: images and label vectors."""

from __future__ import annotations

import numpy as np

from pysrn.data.pair.encoding import SIGNED, ZERO_ONE
from pysrn.nets.messages import Datum


def encoded_image(jpeg: bytes, height: int, width: int) -> bytes:
    """A serialized Datum that holds an encoded BGR image."""
    return Datum(channels=3, height=height, width=width, data=jpeg, encoded=True).SerializeToString()


def raw_image(pixels: np.ndarray) -> bytes:
    """A serialized Datum of a uint8 H x W x 3 image, stored channel by channel as Caffe does."""
    height, width, channels = pixels.shape
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()
    return Datum(channels=channels, height=height, width=width, data=planes).SerializeToString()


def label_vector(labels: np.ndarray, stored_as: str = SIGNED) -> bytes:
    """A serialized Datum of C x 1 x 1 floats of labels 1, -1 and 0; with ZERO_ONE unspecified becomes no."""
    labels = labels > 0 if stored_as == ZERO_ONE else labels
    return Datum(channels=len(labels), height=1, width=1, float_data=labels.astype(float)).SerializeToString()


def label_values(record: Datum, stored_as: str = SIGNED) -> np.ndarray:
    """The labels 1, -1 and 0 of such a Datum: float32 of shape (C,)."""
    values = np.array(record.float_data, np.float32)
    return 2 * values - 1 if stored_as == ZERO_ONE else values
