import numpy as np
import pytest

from ivm.data.colours import COLOURS, colour_index, colour_of


@pytest.mark.parametrize("name", COLOURS)
def test_each_example_has_its_own_name_also_in_dimmer_light(name):
    names = list(COLOURS)
    for rgb in COLOURS[name]:
        assert names[colour_index(np.array([rgb], np.uint8))[0]] == name
    first = np.array([COLOURS[name][0]])
    if name not in (
        "white",
        "grey",
        "black",
        "orange",
        "pink",
        "yellow",
    ):  # those turn into another when dimmed
        assert names[colour_index((first * 0.85).astype(np.uint8))[0]] == name


def test_a_colour_must_dominate():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :10] = (205, 35, 35)
    image[:, 10:] = (35, 70, 200)
    everything = np.ones((10, 20), bool)
    left = everything.copy()
    left[:, 10:] = False
    assert colour_of(image, left) == "red"
    assert colour_of(image, ~left) == "blue"
    assert colour_of(image, everything) is None
    assert colour_of(image, np.zeros((10, 20), bool)) is None
