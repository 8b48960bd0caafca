"""The views: pixels against a plain OpenCV crop, draws against the rules of the official transformer."""

from collections import Counter
from itertools import pairwise, product

import cv2
import numpy as np
import pytest
from scipy.stats import chisquare

from pysrn.data.feed.augment import CornerCrop, whole_image, write_view

RATIOS = (1.0, 0.875, 0.75, 0.66, 0.5)
SIDES = (256, 224, 192, 168, 128)  # the paper's crops
MEAN = np.array([104, 117, 123], np.float32).reshape(3, 1, 1)


def draws(count, **settings):
    crop = CornerCrop(
        **{"image_size": 256, "crop_size": 224, "scale_ratios": RATIOS, "max_distort": 1, "mirror": True} | settings
    )
    return [crop.draw(0, epoch, index) for epoch in range(4) for index in range(count // 4)]


@pytest.fixture(scope="module")
def many():
    """100,000 draws with the default settings: 25,000 images in 4 epochs."""
    return draws(100_000)


def assert_uniform(counts, cells):
    """Pearson's chi-square against equal frequencies: draws as they should be fail once in a million times."""
    assert set(counts) == set(cells)
    assert chisquare([counts[cell] for cell in cells]).pvalue > 1e-6


def place_of(view):
    """Which of the five places it is, told from the crop's position alone; only for crops smaller than the image."""
    ends = {0: "start", 256 - view.height: "end"}, {0: "start", 256 - view.width: "end"}
    if (view.top, view.left) == ((256 - view.height) // 2, (256 - view.width) // 2):
        return "centre"
    return ends[0][view.top], ends[1][view.left]


PLACES = ["centre", ("start", "start"), ("start", "end"), ("end", "start"), ("end", "end")]


def allowed_sizes(max_distort, sides=SIDES):
    """Written out from the rule: heights and widths at most `max_distort` apart in the list of sides."""
    steps = {side: number for number, side in enumerate(SIDES)}
    return [(h, w) for h in sides for w in sides if abs(steps[h] - steps[w]) <= max_distort]


@pytest.mark.parametrize(("max_distort", "pairs"), [(0, 5), (1, 13), (2, 19)])
def test_sizes_are_the_allowed_pairs_equally_often(max_distort, pairs):
    sizes = Counter((view.height, view.width) for view in draws(100_000, max_distort=max_distort))
    assert len(sizes) == pairs
    assert_uniform(sizes, allowed_sizes(max_distort))


def test_places_are_the_corners_and_the_centre(many):
    views = [view for view in many if (view.height, view.width) == (192, 168)]
    assert {(view.top, view.left) for view in views} == {(0, 0), (0, 88), (64, 0), (64, 88), (32, 44)}
    smaller = [view for view in many if view.height < 256 > view.width]
    assert_uniform(Counter(map(place_of, smaller)), PLACES)
    # A crop as high as the image has three positions: the centre is drawn once in five times, each side twice.
    wide = Counter((view.top, view.left) for view in many if (view.height, view.width) == (256, 224))
    assert set(wide) == {(0, 0), (0, 16), (0, 32)}
    total = sum(wide.values())
    found = [wide[0, left] for left in (0, 16, 32)]
    assert chisquare(found, [0.4 * total, 0.2 * total, 0.4 * total]).pvalue > 1e-6


def test_half_are_mirrored_or_none(many):
    assert_uniform(Counter(view.mirror for view in many), [False, True])
    assert not any(view.mirror for view in draws(400, mirror=False))


def test_size_place_and_mirror_are_independent(many):
    """Independent and uniform is: every combination equally often (10 sizes smaller than the image, 5 places, 2)."""
    smaller = [view for view in many if view.height < 256 > view.width]
    cells = list(product(allowed_sizes(1, SIDES[1:]), PLACES, [False, True]))
    assert len(cells) == 100 and len(smaller) > 70_000
    assert_uniform(Counter(((v.height, v.width), place_of(v), v.mirror) for v in smaller), cells)


def test_draws_of_neighbours_and_of_successive_epochs_are_independent(many):
    epochs = [[(v.height, v.width) for v in many[n : n + 25_000]] for n in range(0, 100_000, 25_000)]
    pairs = list(product(allowed_sizes(1), repeat=2))
    assert_uniform(Counter(pair for one, two in pairwise(epochs) for pair in zip(one, two, strict=True)), pairs)
    assert_uniform(Counter(pair for epoch in epochs for pair in zip(epoch[::2], epoch[1::2], strict=True)), pairs)


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


def plain_opencv(image, view):
    """The view of an image as its definition reads: crop, resize, mirror, minus the mean of each channel."""
    crop = image[view.top : view.top + view.height, view.left : view.left + view.width]
    resized = cv2.resize(crop, (224, 224), interpolation=cv2.INTER_LINEAR)
    if view.mirror:
        resized = cv2.flip(resized, 1)
    return np.stack([resized[:, :, channel].astype(np.float32) - mean for channel, mean in enumerate((104, 117, 123))])


def test_pixels_are_those_of_plain_opencv_bit_for_bit():
    """Every size, place and mirroring once, on noise and on a smooth image."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    views = {view for view in draws(8000) if view.height <= 256}
    assert len(views) == 2 * (10 * 5 + 2 * 3 + 1)
    out = np.full((3, 224, 224), np.nan, np.float32)
    for image in (noise, smooth):
        before = image.copy()
        for view in views:
            out.fill(np.nan)
            write_view(image, view, MEAN, out)
            assert out.tobytes() == plain_opencv(image, view).tobytes(), view
        np.testing.assert_array_equal(image, before)


def test_the_mean_may_have_fractions():
    image = np.random.default_rng(2).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    mean, out = np.array([103.939, 116.779, 123.68], np.float32), np.empty((3, 256, 256), np.float32)
    write_view(image, whole_image(256), mean.reshape(3, 1, 1), out)
    assert out.tobytes() == (image.astype(np.float32) - mean).transpose(2, 0, 1).tobytes()


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
