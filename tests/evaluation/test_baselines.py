import numpy as np
import pytest

from ivm.evaluation.baselines import BASELINES, CentreEllipse, ColourWords, WholeImage
from ivm.types import Masking

RED, BLUE = (205, 35, 35), (35, 70, 200)


@pytest.fixture
def image():
    pixels = np.full((60, 100, 3), 128, np.uint8)
    pixels[10:30, 5:35] = RED
    pixels[30:55, 60:95] = BLUE
    return pixels


@pytest.mark.parametrize("kind", BASELINES)
def test_a_baseline_is_a_masking(kind, image):
    masking = kind()
    assert isinstance(masking, Masking)
    heatmaps = masking.batch([image], ["the red box", "anything"])
    assert [h.values.shape for h in heatmaps] == [(60, 100)] * 2
    two = masking.batch([image, image[:30]], ["the red box", "the blue one"])
    assert [h.values.shape for h in two] == [(60, 100), (30, 100)]


def test_shares_are_what_the_names_say(image):
    assert WholeImage().batch([image], ["x"])[0].kept_area() == 1.0
    ellipse = CentreEllipse().batch([image], ["x"])[0]
    assert ellipse.kept_area() == pytest.approx(np.pi / 16, rel=0.03)
    assert ellipse.box() == pytest.approx((25, 15, 75, 45), abs=1)


def test_colour_words_follow_the_colour(image):
    red, blue, none = ColourWords().batch([image], ["the red box", "a BLUE thing", "the box"])
    assert red.box() == pytest.approx((5, 10, 35, 30), abs=3)
    assert blue.box() == pytest.approx((60, 30, 95, 55), abs=3)
    np.testing.assert_array_equal(none.values, CentreEllipse().batch([image], ["x"])[0].values)
