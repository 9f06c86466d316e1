from __future__ import annotations

import pytest
from PIL import Image
from typer.testing import CliRunner

from ivm.cli import app

runner = CliRunner()


@pytest.fixture
def spec(tmp_path, pack_folder):
    file = tmp_path / "spec.toml"
    file.write_text(
        f'size = 64\ninstructions = 2\nsplit = ""\nphotos = ["{pack_folder.name}"]\n[shares]\nphoto = 1\n'
    )
    return file


def test_samples_are_made_and_shown(spec, tmp_path):
    done = runner.invoke(app, ["data", "synthesize", str(spec), "-o", str(tmp_path / "store"), "-n", "12"])
    assert done.exit_code == 0, done.output
    assert "12 samples in 1 shards (12 photo)" in done.output
    for source in (spec, tmp_path / "store"):
        shown = runner.invoke(app, ["data", "preview", str(source), "-o", str(tmp_path / "a.png"), "-n", "7"])
        assert shown.exit_code == 0, shown.output
        with Image.open(tmp_path / "a.png") as picture:
            assert picture.width == 5 * 266 + 10


def test_a_wrong_spec_is_wrong_usage_and_tells_every_error(tmp_path):
    (tmp_path / "s.toml").write_text("sizes = 3\n[shares]\ntable = 1\n")
    done = runner.invoke(app, ["data", "synthesize", str(tmp_path / "s.toml"), "-o", str(tmp_path / "x")])
    assert done.exit_code == 2
    assert "did you mean 'size'" in done.output
    assert "did you mean 'tabletop'" in done.output
    assert not (tmp_path / "x").exists()


def test_a_folder_that_is_no_store_is_told(tmp_path):
    done = runner.invoke(app, ["data", "preview", str(tmp_path), "-o", str(tmp_path / "a.png")])
    assert done.exit_code == 1
    assert "must hold shards" in done.output
