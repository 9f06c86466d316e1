from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ivm.errors import DataError, InputError, InstructionError, OptionError, OutputError
from ivm.images import read_image
from ivm.jobs import (
    RESULTS,
    Item,
    Settings,
    mask_items,
    mask_picture,
    read_folder,
    read_manifest,
    write_heatmap,
)
from ivm.masker import Masker, Origin
from ivm.render import Transform
from ivm.types import Heatmap

Picture = Callable[..., np.ndarray]


@pytest.fixture
def photos(tmp_path: Path, picture: Picture) -> Path:
    """A folder of four pictures, two of them with something red."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for name, boxes in (
        ("a.png", {"red": (5, 5, 30, 30)}),
        ("b.jpg", {"blue": (5, 5, 30, 30)}),
        ("deep/a.png", {"red": (20, 5, 55, 35)}),
        ("deep/c.WEBP", {}),
    ):
        Image.fromarray(picture(40, 60, **boxes)).save(folder / name, **({"quality": 95} if boxes else {}))
    return folder


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / RESULTS).read_text(encoding="utf-8").splitlines()]


def test_a_folder_is_searched_in_order_without_hidden_and_other_files(photos: Path) -> None:
    (photos / ".hidden.png").write_bytes(b"x")
    (photos / ".git").mkdir()
    (photos / ".git" / "x.png").write_bytes(b"x")
    (photos / "notes.txt").write_text("x")
    items = read_folder(photos, " the red box ")
    assert [item.output for item in items] == ["a.png", "b.png", "deep/a.png", "deep/c.png"]
    assert [item.image.relative_to(photos).as_posix() for item in items] == [
        "a.png",
        "b.jpg",
        "deep/a.png",
        "deep/c.WEBP",
    ]
    assert {item.instruction for item in items} == {"the red box"}
    assert len(read_folder(photos, "x", without=[photos / "deep"])) == 2
    with pytest.raises(OptionError, match="another folder than its sources"):
        read_folder(photos, "x", without=[photos / "deep" / ".."])


def test_a_folder_without_pictures_and_an_empty_instruction_are_refused(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty must hold pictures"):
        read_folder(tmp_path / "empty", "x")
    with pytest.raises(InstructionError, match="empty"):
        read_folder(photos, "")


NAMES = st.lists(
    st.tuples(*map(st.sampled_from, (["", "d/"], "ab", [".jpg", ".png", ".jpg.png"]))),
    min_size=1,
    unique=True,
)


@settings(max_examples=60, deadline=None)
@given(NAMES)
def test_outputs_never_meet(tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, ...]]) -> None:
    folder = tmp_path_factory.mktemp("names")
    (folder / "d").mkdir()
    for name in names:
        (folder / "".join(name)).write_bytes(b"x")
    outputs = [item.output for item in read_folder(folder, "x")]
    assert len({output.casefold() for output in outputs}) == len(names)
    assert all(output.endswith(".png") for output in outputs)


def test_a_manifest_gives_items_and_names_the_lines_that_are_none(tmp_path: Path) -> None:
    lines = [
        '{"image": "a.jpg", "instruction": "the cup", "id": "one"}',
        "",
        '{"image": "a.jpg", "instruction": "the plate"}',
        '{"image": "/x/a.jpg", "instruction": "the cup", "id": "a/b é?"}',
        '{"image": "a.jpg", "instruction": "the plate"}',
        "{",
        "[1]",
        '{"instruction": "the cup"}',
        '{"image": "a.jpg"}',
        '{"image": "a.jpg", "instruction": " "}',
        '{"image": "b.jpg", "instruction": "the cup", "id": "ONE"}',
        '{"image": "b.jpg", "instruction": "the cup", "id": 7}',
        '{"image": "b.jpg", "instruction": "the cup", "id": [7]}',
        '{"image": "b.jpg", "instruction": "the cup", "id": true}',
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    items, faults = read_manifest(manifest)
    assert [item.id for item in items] == ["one", "", "a/b é?", "7"]
    assert items[0] == Item(tmp_path / "a.jpg", "the cup", "one.png", "one")
    assert items[1].output.startswith("a-")
    assert items[2].image == Path("/x/a.jpg")
    assert items[2].output.startswith("a_b_é_-")
    assert all("/" not in item.output for item in items)
    assert [fault.record["line"] for fault in faults] == [6, 7, 8, 9, 10, 11, 13, 14]
    assert faults[0].what == f"{manifest}:6"
    said = [
        "a JSON object",
        "is a list",
        '"image" must',
        '"instruction" must',
        "empty",
        "line 1 has it",
        '"id"',
        '"id"',
    ]
    for fault, words in zip(faults, said, strict=True):
        assert words in fault.error


def test_names_of_a_manifest_do_not_depend_on_the_other_lines(tmp_path: Path) -> None:
    lines = [json.dumps({"image": "a.jpg", "instruction": f"thing {i}"}) for i in range(5)]
    (tmp_path / "all.jsonl").write_text("\n".join(lines))
    (tmp_path / "some.jsonl").write_text("\n".join(lines[:1:-1]))
    names = {item.instruction: item.output for item in read_manifest(tmp_path / "all.jsonl")[0]}
    assert len(set(names.values())) == 5
    for item in read_manifest(tmp_path / "some.jsonl")[0]:
        assert names[item.instruction] == item.output


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read manifest .*No such file"):
        read_manifest(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="but is empty"):
        read_manifest(tmp_path / "empty.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        read_manifest(tmp_path / "bytes.jsonl")


def test_a_picture_is_masked_and_told(tmp_path: Path, colour_masker: Masker, picture: Picture) -> None:
    image = picture(60, 90, red=(20, 10, 60, 40))
    how = Settings("overlay+crop", None, {"dilate": 0.0, "threshold": 0.4})
    heatmap, record = mask_picture(colour_masker, image, image, "red", tmp_path / "x.png", how)
    assert record["found"] is True
    assert record["box"] == heatmap.box(0.4)
    assert record["threshold"] == 0.4
    assert record["kept_whole"] is False
    assert record["model"] == "colours"
    written = read_image(tmp_path / "x.png")
    transform = Transform.from_dict(json.loads(json.dumps(record))["transform"])
    assert transform.size == (written.shape[1], written.shape[0])
    corner = transform.to_original([0.5, 0.5])
    np.testing.assert_array_equal(corner, np.array(record["box"][:2]) + 0.5)


def test_heatmaps_are_written_as_floats_or_grey(tmp_path: Path) -> None:
    heatmap = Heatmap(np.float32([[0, 0.25, 1]]))
    write_heatmap(heatmap, tmp_path / "h.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "h.npy"), heatmap.values)
    write_heatmap(heatmap, tmp_path / "large.NPY")
    np.testing.assert_array_equal(np.load(tmp_path / "large.NPY"), heatmap.values)
    write_heatmap(heatmap, tmp_path / "h.png")
    assert read_image(tmp_path / "h.png")[0, :, 0].tolist() == [0, 64, 255]
    for name in ("no/h.npy", "no/h.png", "h.xyz"):
        with pytest.raises(OutputError):
            write_heatmap(heatmap, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["h.npy", "h.png", "large.NPY"]


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("masked", {}, "mode must be one of"),
        ("overlay", {"threshold": 1.5}, r"threshold must be in \[0, 1\]"),
        ("overlay", {"dilate": -1}, "dilate"),
        ("overlay", {"colour": "whitish"}, "colour must be"),
        ("blur", {"colour": "white"}, "no use for colour"),
        ("overlay", {"not_found": "cry"}, "not_found"),
    ],
)
def test_wrong_settings_are_found_before_any_work(
    tmp_path: Path, colour_masker: Masker, mode: str, options: dict, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        Settings(mode, None, options).check()
    with pytest.raises(OptionError, match=message):
        next(mask_items(colour_masker, [], tmp_path / "out", Settings(mode, None, options)), None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_right_settings_pass(threshold: float) -> None:
    Settings("crop", "auto", {"threshold": threshold, "not_found": "error"}).check()


def test_a_job_writes_a_picture_and_a_line_each(tmp_path: Path, photos: Path, colour_masker: Masker) -> None:
    out, heat = tmp_path / "out", tmp_path / "heat"
    items = read_folder(photos, "the red box")
    outcomes = list(mask_items(colour_masker, items, out, Settings(), heat))
    assert [outcome.record["found"] for outcome in outcomes] == [True, False, True, False]
    assert not any(outcome.error or outcome.skipped for outcome in outcomes)
    assert records(out) == [json.loads(json.dumps(outcome.record)) for outcome in outcomes]
    for item in items:
        assert read_image(out / item.output).shape == (40, 60, 3)
        assert read_image(heat / item.output).shape == (40, 60, 3)
    assert (read_image(out / "a.png")[0, -1] == 255).all()


def test_an_interrupted_job_goes_on_without_loss_or_doubles(
    tmp_path: Path, photos: Path, colour_masker: Masker, colour_backend: object
) -> None:
    out, items = tmp_path / "out", read_folder(photos, "the red box")
    running = mask_items(colour_masker, items, out, Settings())
    next(running), next(running)
    running.close()
    # The machine stopped in the middle of a line, after its picture had been written.
    with (out / RESULTS).open("a") as file:
        file.write('{"image": "deep/a.png", "output": "deep/a.p')
    colour_backend.encoded.clear()
    outcomes = list(mask_items(colour_masker, items, out, Settings()))
    assert [outcome.skipped for outcome in outcomes] == [True, True, False, False]
    assert len(colour_backend.encoded) == 2
    assert [record["output"] for record in records(out)] == [item.output for item in items]
    assert all(outcome.skipped for outcome in mask_items(colour_masker, items, out, Settings()))


def test_what_has_changed_is_made_again_and_only_that(
    tmp_path: Path, photos: Path, colour_masker: Masker, picture: Picture
) -> None:
    out, items = tmp_path / "out", read_folder(photos, "the red box")

    def made(**changes: object) -> list[str]:
        how = Settings(**{"mode": "overlay", **changes})
        done = mask_items(colour_masker, items, out, how, heatmaps=heat)
        names = [outcome.record["output"] for outcome in done if not outcome.skipped]
        assert sorted(record["output"] for record in records(out)) == sorted(item.output for item in items)
        return names

    heat: Path | None = None
    everything = [item.output for item in items]
    assert made() == everything
    assert made() == []
    assert made(mode="blur") == everything
    assert made() == everything  # the files in the folder are the blurred ones
    assert made(options={"threshold": 0.3}) == everything
    assert made(options={"threshold": 0.3}) == []
    assert made(options={"threshold": 0.3}, tiles=1) == everything
    assert made() == everything
    Image.fromarray(picture(44, 60, red=(1, 1, 20, 20))).save(photos / "a.png")
    assert made() == ["a.png"]
    (out / "b.png").unlink()
    assert made() == ["b.png"]
    heat = tmp_path / "heat"
    assert made() == everything
    (heat / "b.png").unlink()
    assert made() == ["b.png"]


def test_a_bad_file_does_not_stop_the_others_and_is_tried_again(
    tmp_path: Path, photos: Path, colour_masker: Masker, picture: Picture
) -> None:
    (photos / "b.jpg").write_bytes(b"not a picture")
    items, out = read_folder(photos, "red"), tmp_path / "out"
    outcomes = list(mask_items(colour_masker, items, out, Settings()))
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False, False]
    assert "not an image" in outcomes[1].error
    assert outcomes[1].what == str(photos / "b.jpg")
    assert "error" in records(out)[1]
    Image.fromarray(picture(20, 20)).save(photos / "b.jpg")
    outcomes = list(mask_items(colour_masker, items, out, Settings()))
    assert [outcome.skipped for outcome in outcomes] == [True, False, True, True]
    assert not any(outcome.error for outcome in outcomes)
    assert sum("error" in record for record in records(out)) == 0
    assert len(records(out)) == 4


def test_not_found_may_be_an_error_of_its_own_picture(
    tmp_path: Path, photos: Path, colour_masker: Masker
) -> None:
    how = Settings("overlay", None, {"not_found": "error"})
    outcomes = list(mask_items(colour_masker, read_folder(photos, "red"), tmp_path / "out", how))
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False, True]


def test_an_image_of_many_lines_is_encoded_once(
    tmp_path: Path, photos: Path, colour_masker: Masker, colour_backend: object
) -> None:
    items = [Item(photos / "a.png", text, f"{text}.png") for text in ("red", "blue", "green")]
    outcomes = list(mask_items(colour_masker, items, tmp_path / "out", Settings(tiles=(1, 1))))
    assert [outcome.record["found"] for outcome in outcomes] == [True, False, False]
    assert len(colour_backend.encoded) == 1


def test_strange_folders_are_left_alone(tmp_path: Path, photos: Path, colour_masker: Masker) -> None:
    items = read_folder(photos, "red")
    before = (photos / "a.png").read_bytes()
    with pytest.raises(OptionError, match="has other files"):
        next(mask_items(colour_masker, items, photos, Settings()))
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot make folder"):
        next(mask_items(colour_masker, items, tmp_path / "file", Settings()))
    foreign = tmp_path / "foreign" / RESULTS  # of another program
    foreign.parent.mkdir()
    foreign.write_text('{"question": 1, "accuracy": 0.5}\n')
    with pytest.raises(OptionError, match="must be a job's record"):
        next(mask_items(colour_masker, items, foreign.parent, Settings()))
    assert "accuracy" in foreign.read_text()
    # Also where a record makes the folder look like a job's.
    (photos / RESULTS).write_text("")
    outcomes = list(mask_items(colour_masker, items, photos, Settings()))
    assert "over a source" in outcomes[0].error
    assert (photos / "a.png").read_bytes() == before


def test_heatmaps_never_take_the_place_of_sources_or_masked_pictures(
    tmp_path: Path, photos: Path, colour_masker: Masker
) -> None:
    items = read_folder(photos, "red")
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    with pytest.raises(OptionError, match="photos must be new, empty"):
        next(mask_items(colour_masker, items, tmp_path / "out", Settings(), heatmaps=photos))
    # Also where an earlier job begun without heatmaps.
    assert not any(o.error for o in mask_items(colour_masker, items, tmp_path / "out", Settings()))
    with pytest.raises(OptionError, match="photos must be new, empty"):
        next(mask_items(colour_masker, items, tmp_path / "out", Settings(), heatmaps=photos))
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    # A folder of its own it may have later, and go on with it, also with other options.
    heat = tmp_path / "heat"
    for mode in ("overlay", "blur", "blur"):
        job = list(mask_items(colour_masker, items, tmp_path / "out", Settings(mode), heatmaps=heat))
        assert not any(o.error for o in job)
    assert all(o.skipped for o in job)
    # And not even there is a source written over.
    source = heat / "source.png"
    source.write_bytes((photos / "a.png").read_bytes())
    (outcome,) = mask_items(
        colour_masker, [Item(source, "red", "source.png")], tmp_path / "out", Settings(), heatmaps=heat
    )
    assert "over a source" in outcome.error
    assert source.read_bytes() == (photos / "a.png").read_bytes()
    with pytest.raises(OptionError, match="another folder than the pictures"):
        next(mask_items(colour_masker, items, tmp_path / "same", Settings(), tmp_path / "x" / ".." / "same"))
    assert not (tmp_path / "same").exists()
    # One in the other: here the heatmap of a.png would be the masked picture of deep/a.png.
    out = tmp_path / "nested"
    with pytest.raises(OptionError, match="another folder than the pictures"):
        next(mask_items(colour_masker, items, out, Settings(), out / "deep"))
    assert not any(o.error for o in mask_items(colour_masker, items, out, Settings(), out / "heat"))


def test_a_name_too_long_for_the_disk_fails_alone(
    tmp_path: Path, photos: Path, colour_masker: Masker
) -> None:
    items = [Item(photos / "a.png", "red", name) for name in ("x" * 300 + ".png", "fine.png")]
    outcomes = list(mask_items(colour_masker, items, tmp_path / "out", Settings()))
    assert "too long" in outcomes[0].error
    assert not outcomes[1].error


def test_long_foreign_names_of_a_manifest_fit_on_a_disk(
    tmp_path: Path, photos: Path, colour_masker: Masker
) -> None:
    names = ["杯" * 90, "杯" * 90 + "x"]
    lines = [{"image": "photos/a.png", "instruction": "red", "id": name} for name in names]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    items, faults = read_manifest(tmp_path / "list.jsonl")
    assert not faults
    assert len({item.output for item in items}) == 2
    items = [Item(photos / "a.png", item.instruction, item.output, item.id) for item in items]
    assert not any(o.error for o in mask_items(colour_masker, items, tmp_path / "out", Settings()))


def test_faults_of_a_manifest_are_recorded(tmp_path: Path, photos: Path, colour_masker: Masker) -> None:
    (tmp_path / "list.jsonl").write_text("{\n", encoding="utf-8")
    items, faults = read_manifest(tmp_path / "list.jsonl")
    for _ in range(2):  # a second run records them once more, instead of the first time's
        outcomes = list(mask_items(colour_masker, items, tmp_path / "out", Settings(), faults=faults))
        assert [record["line"] for record in records(tmp_path / "out")] == [1]
        assert outcomes == faults


def test_a_folder_that_cannot_be_read_is_told(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def closed(path: object) -> object:
        if Path(str(path)).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InputError, match=r"deep.*Permission denied"):
        read_folder(photos, "x")


def test_another_model_of_the_same_name_makes_everything_again(
    tmp_path: Path, photos: Path, colour_masker: Masker
) -> None:
    items, out = read_folder(photos, "red"), tmp_path / "out"
    weights = tmp_path / "model"
    weights.mkdir()
    skipped = []
    for content in ("one", "one", "two"):
        (weights / "weights").write_text(content)
        masker = Masker(colour_masker.backend, Origin(weights))
        skipped.append([outcome.skipped for outcome in mask_items(masker, items, out, Settings())])
    assert skipped == [[False] * 4, [True] * 4, [False] * 4]


def test_names_that_are_no_text_and_foreign_words_are_recorded(
    tmp_path: Path, photos: Path, colour_masker: Masker
) -> None:
    odd = photos / "odd\udcff.png"
    try:
        (photos / "a.png").rename(odd)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes valid text only")
    out, items = tmp_path / "out", read_folder(photos, "красный red 🟥")
    outcomes = list(mask_items(colour_masker, items, out, Settings()))
    assert not any(outcome.error for outcome in outcomes)
    assert (out / "odd\udcff.png").exists()
    assert {record["instruction"] for record in records(out)} == {"красный red 🟥"}
    assert all(outcome.skipped for outcome in mask_items(colour_masker, items, out, Settings()))


def test_line_ends_of_unicode_are_text(tmp_path: Path, photos: Path, colour_masker: Masker) -> None:
    """JSON keeps them as they are, and Python's `splitlines` would cut there."""
    text = "the red\u2028box\u0085"
    lines = [{"image": "photos/a.png", "instruction": f"{text} {number}"} for number in range(2)]
    manifest = tmp_path / "list.jsonl"
    manifest.write_text("\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    items, faults = read_manifest(manifest)
    assert not faults
    assert [item.instruction for item in items] == [f"{text} 0", f"{text} 1"]
    for skipped in (False, True):
        outcomes = list(mask_items(colour_masker, items, tmp_path / "out", Settings()))
        assert [outcome.skipped for outcome in outcomes] == [skipped] * 2


def test_a_line_of_endless_brackets_is_a_fault_of_that_line(
    tmp_path: Path, photos: Path, colour_masker: Masker
) -> None:
    deep, fine = "[" * 100_000, json.dumps({"image": "photos/a.png", "instruction": "red"})
    (tmp_path / "list.jsonl").write_text(f"{deep}\n{fine}\n")
    items, faults = read_manifest(tmp_path / "list.jsonl")
    assert (len(items), len(faults)) == (1, 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RESULTS).write_text(f"{deep}\n")
    assert not any(o.error for o in mask_items(colour_masker, items, tmp_path / "out", Settings()))


def test_a_full_disk_stops_the_job(
    tmp_path: Path, photos: Path, colour_masker: Masker, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = mask_items(colour_masker, read_folder(photos, "red"), tmp_path / "out", Settings())
    next(running)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ivm.jobs.os.write", full)
    with pytest.raises(OutputError, match="No space left"):
        next(running)


@pytest.mark.parametrize("tiles", [0, 129, (1, 0), (12, 12), "many", 1.5])
def test_impossible_tiles_are_found_before_anything_is_written(
    tmp_path: Path, photos: Path, colour_masker: Masker, tiles: Any
) -> None:
    items = read_folder(photos, "red")
    with pytest.raises(OptionError, match="tiles must be"):
        next(mask_items(colour_masker, items, tmp_path / "out", Settings(tiles=tiles)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tiles", [None, "auto", 1, 128, (1, 128), (128, 1), (8, 16)])
def test_possible_tiles_pass(tiles: Any) -> None:
    Settings(tiles=tiles).check()
