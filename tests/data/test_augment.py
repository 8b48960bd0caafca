"""The views: pixels against a plain OpenCV crop, draws against the rules of the official transformer."""

from collections import Counter

import cv2
import numpy as np
import pytest

from pysrn.data.augment import CornerCrop, View, whole_image, write_view

RATIOS = (1.0, 0.875, 0.75, 0.66, 0.5)
SIDES = (256, 224, 192, 168, 128)  # the paper's crops
MEAN = np.array([104, 117, 123], np.float32).reshape(3, 1, 1)


def draws(count, **settings):
    crop = CornerCrop(
        **{"image_size": 256, "crop_size": 224, "scale_ratios": RATIOS, "max_distort": 1, "mirror": True} | settings
    )
    return [crop.draw(0, epoch, index) for epoch in range(4) for index in range(count // 4)]


@pytest.mark.parametrize("max_distort", [0, 1, 2])
def test_sizes_are_the_allowed_pairs_equally_often(max_distort):
    sizes = Counter((view.height, view.width) for view in draws(13000, max_distort=max_distort))
    allowed = {
        (height, width) for i, height in enumerate(SIDES) for j, width in enumerate(SIDES) if abs(i - j) <= max_distort
    }
    assert set(sizes) == allowed
    assert len(allowed) == {0: 5, 1: 13, 2: 19}[max_distort]
    expected = 13000 / len(allowed)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in sizes.values())  # five standard deviations


def test_places_are_the_corners_and_the_centre():
    views = [view for view in draws(20000) if (view.height, view.width) == (192, 168)]
    places = Counter((view.top, view.left) for view in views)
    assert set(places) == {(0, 0), (0, 88), (64, 0), (64, 88), (32, 44)}
    assert all(abs(count / len(views) - 0.2) < 0.06 for count in places.values())


def test_half_are_mirrored_or_none():
    assert 0.47 < np.mean([view.mirror for view in draws(8000)]) < 0.53
    assert not any(view.mirror for view in draws(400, mirror=False))


def test_size_place_and_mirror_are_independent():
    views = draws(40000)
    joint = Counter((v.height > 192, v.top > 0, v.left > 0, v.mirror) for v in views if v.height < 256 > v.width)
    by_mirror = [[joint[tall, low, right, m] for tall in (0, 1) for low in (0, 1) for right in (0, 1)] for m in (0, 1)]
    for plain, mirrored in zip(*by_mirror, strict=True):
        assert abs(plain - mirrored) < 5 * (plain + mirrored + 1) ** 0.5


def test_a_view_depends_on_seed_epoch_and_index_alone():
    crop = CornerCrop(256, 224, RATIOS, 1, True)
    again = CornerCrop(256, 224, RATIOS, 1, True)
    points = [(seed, epoch, index) for seed in (0, 1) for epoch in (0, 1) for index in range(50)]
    first = {point: crop.draw(*point) for point in points}
    assert {point: again.draw(*point) for point in reversed(points)} == first
    for other in [(1, 0), (0, 1)]:
        assert [first[0, 0, i] for i in range(50)] != [first[*other, i] for i in range(50)]


def test_a_side_within_three_pixels_of_the_input_takes_its_size():
    crop = CornerCrop(256, 224, (222.5 / 256, 226.5 / 256, 221.5 / 256, 227.5 / 256), 0, False)
    assert crop.sizes == [(224, 224), (224, 224), (221, 221), (227, 227)]


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("top", "left", "height", "width"), [(0, 0, 256, 256), (32, 0, 224, 224), (64, 88, 192, 168)])
def test_pixels_are_those_of_plain_opencv(top, left, height, width, mirror):
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    out = np.full((3, 224, 224), np.nan, np.float32)
    before = image.copy()
    write_view(image, View(top, left, height, width, mirror), MEAN, out)
    expected = cv2.resize(image[top : top + height, left : left + width], (224, 224), interpolation=cv2.INTER_LINEAR)
    if mirror:
        expected = cv2.flip(expected, 1)
    for channel, mean in enumerate((104, 117, 123)):
        np.testing.assert_array_equal(out[channel], expected[:, :, channel].astype(np.float32) - mean)
    np.testing.assert_array_equal(image, before)


def test_resizing_is_bilinear():
    """A 256 to 224 resize written out in NumPy: pixel centres, two neighbours a side."""
    image = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    out = np.empty((3, 224, 224), np.float32)
    write_view(image, whole_image(256), MEAN * 0, out)
    at = (np.arange(224) + 0.5) * 256 / 224 - 0.5
    low, part = np.floor(at).astype(int), at - np.floor(at)
    rows = image[low] * (1 - part)[:, None, None] + image[low + 1] * part[:, None, None]
    both = rows[:, low] * (1 - part)[:, None] + rows[:, low + 1] * part[:, None]
    assert np.abs(out.transpose(1, 2, 0) - both).max() <= 1.0  # OpenCV rounds to whole grey levels
