from __future__ import annotations

import json

import pytest

from ivm.data.synthesis_spec import SynthesisSpec, read_spec
from ivm.errors import OptionError


def test_toml_and_json_say_the_same(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "a.toml").write_text(
        'size = 128\nphotos = ["pack"]\nkinds = ["colour"]\n'
        "[shares]\ncollage = 1\ntabletop = 0.5\n[tabletop]\nrobot = 0.0\n"
    )
    content = {
        "size": 128,
        "photos": ["pack"],
        "kinds": ["colour"],
        "shares": {"tabletop": 0.5, "collage": 1},
        "tabletop": {"robot": 0.0},
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    one, two = read_spec(tmp_path / "a.toml"), read_spec(tmp_path / "a.json")
    assert one == two
    assert one.photos == (str(tmp_path / "pack"),)  # relative to the spec
    assert one.tabletop_spec().robot == 0.0
    assert one.tabletop_spec().size == 128
    assert one.digest() == two.digest()


def test_the_digest_goes_by_what_is_made_not_by_where_it_lies(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place / "pack").mkdir(parents=True)
    one, two = (SynthesisSpec({"collage": 1}, photos=(str(tmp_path / place / "pack"),)) for place in "ab")
    assert one.digest() == two.digest()
    assert one.digest() != SynthesisSpec({"collage": 1}, photos=one.photos, size=128).digest()
    assert str(tmp_path) not in json.dumps(one.to_json())


def test_variables_of_the_environment_are_filled_in(tmp_path, monkeypatch):
    (tmp_path / "pack").mkdir()
    (tmp_path / "s.toml").write_text('photos = ["$PACKS_HERE/pack"]\n[shares]\nphoto = 1\n')
    monkeypatch.setenv("PACKS_HERE", str(tmp_path))
    assert read_spec(tmp_path / "s.toml").photos == (str(tmp_path / "pack"),)
    monkeypatch.delenv("PACKS_HERE")
    with pytest.raises(OptionError, match=r"photos: \$PACKS_HERE/pack uses a variable that is not set"):
        read_spec(tmp_path / "s.toml")
    (tmp_path / "s.toml").write_text('photos = ["/data/$PACKS_HERE/x"]\n[shares]\nphoto = 1\n')
    with pytest.raises(OptionError, match=r"photos: /data/\$PACKS_HERE/x uses a variable that is not set"):
        read_spec(tmp_path / "s.toml")


def test_every_error_is_listed_at_once_with_the_nearest_name(tmp_path):
    (tmp_path / "s.toml").write_text(
        'sizes = 3\nsize = 20\nkinds = ["colur", "count"]\nnoise = 2\nsplit = "tran"\ncutouts = ["no/such"]\n'
        "[shares]\ntable = 1\nphoto = 1\n[tabletop]\nrobots = 1\nstacked = 5\n"
    )
    with pytest.raises(OptionError) as caught:
        read_spec(tmp_path / "s.toml")
    text = str(caught.value)
    for part in (
        "'sizes': did you mean 'size'",
        "size must be a whole number from 64 to 1024, but is 20",
        "'colur': did you mean 'colour'",
        "noise must be a number in [0, 1]",
        "split must be one of train, val, test",
        "there is no folder",
        "'table': did you mean 'tabletop'",
        "photo scenes need folders",
        "'robots': did you mean 'robot'",
        "tabletop.stacked",
    ):
        assert part in text, part
    assert "has 10 errors" in text
    assert "'count'" not in text


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({}, "shares must be a table"),
        ({"tabletop": -1}, "at least 0"),
        ({"tabletop": 0}, "must not all be 0"),
        ({"tabletop": True}, "at least 0"),
        ({"collage": 1}, "something to paste"),
    ],
)
def test_wrong_shares_are_told(shares, message):
    with pytest.raises(OptionError, match=message):
        SynthesisSpec(shares)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.toml", "shares = [", "is not TOML"),
        ("s.json", "{", "is not JSON"),
        ("s.json", "[1]", "must be a table of options"),
        ("s.toml", "", "shares must be a table"),
    ],
)
def test_a_file_that_is_no_spec_is_told(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(OptionError, match=message):
        read_spec(tmp_path / name)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(OptionError, match=r"cannot read the spec .*no\.toml"):
        read_spec(tmp_path / "no.toml")
