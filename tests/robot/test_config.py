from __future__ import annotations

import pytest

from ivm.errors import CheckpointError, OptionError
from ivm.robot.config import CloningConfig, PolicyConfig


def test_configurations_travel_as_json() -> None:
    config = CloningConfig(masker="none", policy=PolicyConfig(picture=48, cameras=("side",)))
    values = config.to_json()
    assert CloningConfig(**{**values, "policy": PolicyConfig.from_json(values["policy"])}) == config
    with pytest.raises(CheckpointError, match="unknown entry 'wings'"):
        PolicyConfig.from_json({"wings": 2})


def test_at_test_masks_have_one_threshold_within_what_training_draws() -> None:
    config = CloningConfig()
    low, high = config.thresholds
    assert low <= config.settings.options["threshold"] <= high
    assert CloningConfig(threshold=0.7).settings.options == {"threshold": 0.7}


def test_wrong_values_are_told() -> None:
    for options, message in (
        ({"picture": 60}, "multiple of 8"),
        ({"width": 6}, "width must be a multiple of 4"),
        ({"execute": 9}, "from 1 to 8, but got 9"),
        ({"width": 2.0}, "width must be an integer"),
        ({"cameras": ()}, "at least one camera"),
    ):
        with pytest.raises(OptionError, match=message):
            PolicyConfig(**options)
    for options, message in (
        ({"thresholds": (0.9, 0.4)}, "thresholds must be"),
        ({"dilations": (0.0, 1.5)}, "dilations must be"),
        ({"steps": 0}, "steps must be"),
        ({"threshold": 2}, "threshold must be"),
        ({"rate": 0.0}, "rate must be"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 10**14}, "seed must be"),
        ({"mode": "transparent"}, "three channels"),
        ({"every": 0}, "every must be"),
    ):
        with pytest.raises(OptionError, match=message):
            CloningConfig(**options)
