from __future__ import annotations

import json
import re
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ivm.errors import ImageError, InputError, InstructionError, ModelError, OptionError
from ivm.masker import Backend, ImageFeatures, Masker, Origin, load
from ivm.models import config
from ivm.types import Heatmap, Masking

Picture = Callable[..., np.ndarray]


def box_iou(a: tuple[int, int, int, int] | None, b: tuple[int, int, int, int]) -> float:
    if a is None:
        return 0.0
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, width) * max(0, height)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b)]
    return both / (sum(areas) - both)


def test_the_fake_is_a_backend_and_the_masker_a_masking(colour_masker: Masker) -> None:
    assert isinstance(colour_masker.backend, Backend)
    assert isinstance(colour_masker, Masking)
    assert "colours" in repr(colour_masker)


def test_a_heatmap_lies_on_the_target_at_the_images_own_size(colour_masker: Masker, picture: Picture) -> None:
    target = (100, 60, 220, 180)
    heatmap = colour_masker(picture(240, 400, red=target, blue=(300, 20, 380, 100)), "the red box")
    assert heatmap.values.dtype == np.float32
    assert heatmap.shape == (240, 400)
    assert heatmap.found
    assert heatmap.score == pytest.approx(0.97)
    assert heatmap.threshold == colour_masker.threshold == 0.5
    assert heatmap.instruction == "the red box"
    assert box_iou(heatmap.box(), target) > 0.85


def test_values_are_the_sigmoid_of_logits_resized_with_align_corners_false(picture: Picture) -> None:
    logits = np.random.default_rng(1).normal(0, 40, (1, 5, 7)).astype(np.float32)

    class Fixed:
        name, threshold, found_threshold = "fixed", 0.3, 0.6

        def encode_images(self, images: list[np.ndarray]) -> list[None]:
            return [None] * len(images)

        def decode(self, features: list[None], instructions: list[str]) -> tuple[np.ndarray, np.ndarray]:
            return logits, np.float32([0.59])

    heatmap = Masker(Fixed())(picture(33, 61), "x")
    # Bilinear by its definition: the centre of output pixel i lies at (i + 0.5) * scale - 0.5.
    rows = np.clip((np.arange(33) + 0.5) * 5 / 33 - 0.5, 0, 4)
    columns = np.clip((np.arange(61) + 0.5) * 7 / 61 - 0.5, 0, 6)
    r0, c0 = np.floor(rows).astype(int), np.floor(columns).astype(int)
    r1, c1 = np.minimum(r0 + 1, 4), np.minimum(c0 + 1, 6)
    dr, dc = (rows - r0)[:, None], (columns - c0)[None, :]
    grid = np.clip(logits[0], -30, 30).astype(np.float64)
    top = grid[r0][:, c0] * (1 - dc) + grid[r0][:, c1] * dc
    bottom = grid[r1][:, c0] * (1 - dc) + grid[r1][:, c1] * dc
    expected = 1 / (1 + np.exp(-(top * (1 - dr) + bottom * dr)))
    np.testing.assert_allclose(heatmap.values, expected, atol=1e-5)
    assert not heatmap.found  # 0.59 is under the model's own limit
    assert heatmap.threshold == 0.3


def test_what_is_not_there_is_not_found_and_nothing_is_edited(
    colour_masker: Masker, picture: Picture
) -> None:
    heatmap = colour_masker(picture(100, 100, red=(10, 10, 60, 60)), "the blue box")
    assert not heatmap.found
    assert heatmap.box() is None
    assert 0 < heatmap.values.max() < 0.5


def test_every_kind_of_image_gives_the_same_heatmap(
    colour_masker: Masker, picture: Picture, tmp_path: Path
) -> None:
    image = picture(80, 120, red=(10, 10, 60, 60))
    file = tmp_path / "p.png"
    Image.fromarray(image).save(file)
    before = image.copy()
    expected = colour_masker(image, "red").values
    for source in (
        str(file),
        file,
        file.read_bytes(),
        Image.fromarray(image),
        colour_masker.encode_image(image),
    ):
        np.testing.assert_array_equal(colour_masker(source, "red").values, expected)
    np.testing.assert_array_equal(image, before)


def test_one_image_with_many_instructions_is_encoded_once(
    colour_masker: Masker, colour_backend: object, picture: Picture
) -> None:
    image = picture(80, 120, red=(10, 10, 60, 60), blue=(70, 20, 110, 70))
    texts = ["red", "blue", "green"] * 5
    heatmaps = colour_masker.batch([image], texts, batch_size=4)
    assert len(colour_backend.encoded) == 1
    assert colour_backend.decoded == [4, 4, 4, 3]
    assert [heatmap.instruction for heatmap in heatmaps] == texts
    assert [heatmap.found for heatmap in heatmaps] == [True, True, False] * 5


def test_images_that_come_again_are_encoded_once_and_order_is_kept(
    colour_masker: Masker, colour_backend: object, picture: Picture, tmp_path: Path
) -> None:
    a, b = picture(80, 120, red=(10, 10, 60, 60)), picture(60, 60, blue=(10, 10, 50, 50))
    file = tmp_path / "a.png"
    Image.fromarray(a).save(file)
    images = [a, b, a, str(file), b, str(file), colour_masker.encode_image(b)]
    colour_backend.encoded.clear()
    heatmaps = colour_masker.batch(images, ["red", "blue"] * 3 + ["blue"], batch_size=2)
    assert len(colour_backend.encoded) == 3
    assert [heatmap.shape for heatmap in heatmaps] == [(80, 120), (60, 60)] + [(80, 120)] * 2 + [
        (60, 60),
        (80, 120),
        (60, 60),
    ]
    assert [heatmap.found for heatmap in heatmaps] == [True, True, True, False, False, False, True]


def test_a_lazy_sequence_of_images_is_not_mixed_up(colour_masker: Masker, picture: Picture) -> None:
    class Lazy:
        """Makes each image anew: objects whose id() comes again."""

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> np.ndarray:
            if index >= 4:
                raise IndexError
            return picture(50, 50, **{("red", "blue")[index % 2]: (5, 5, 45, 45)})

    heatmaps = colour_masker.batch(Lazy(), ["red"] * 4)
    assert [heatmap.found for heatmap in heatmaps] == [True, False, True, False]


def test_batch_equals_single_calls(colour_masker: Masker, picture: Picture) -> None:
    images = [picture(40 + 7 * i, 90 - 5 * i, red=(5, 5, 30, 30), green=(31, 5, 45, 25)) for i in range(5)]
    texts = ["red", "green", "blue", "red and green", "yellow"]
    for one, many in zip(
        [colour_masker(i, t) for i, t in zip(images, texts, strict=True)],
        colour_masker.batch(images, texts, batch_size=3),
        strict=True,
    ):
        np.testing.assert_array_equal(one.values, many.values)
        assert (one.found, one.score) == (many.found, many.score)


def test_an_empty_batch_is_empty(colour_masker: Masker) -> None:
    assert colour_masker.batch([], []) == []


def test_faults_in_a_batch_name_their_index(colour_masker: Masker, picture: Picture) -> None:
    good = picture(20, 20)
    with pytest.raises(InstructionError, match=r"instruction 1: .*empty"):
        colour_masker.batch([good], ["red", "  "])
    with pytest.raises(ImageError, match=r"image 2: .*float64"):
        colour_masker.batch([good, good, good / 255.0], ["red"] * 3)
    with pytest.raises(ImageError, match=r"^an image array"):
        colour_masker(good / 255.0, "red")
    with pytest.raises(InputError, match=r"2 images and 3 instructions"):
        colour_masker.batch([good, good], ["red"] * 3)
    with pytest.raises(InputError, match="sequences"):
        colour_masker.batch([good], "red")
    for one in (Path("a.png"), "a.png", b"a", Image.fromarray(good), colour_masker.encode_image(good)):
        with pytest.raises(InputError, match="sequences"):
            colour_masker.batch(one, ["red"])  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="batch_size must be"):
        colour_masker.batch([good], ["red"], batch_size=0)


@pytest.mark.parametrize(
    "text",
    ["pick up the red cup " * 500, "找到红色的杯子", "اعثر على الكوب", "🍎🟥", "red\n\tbox\x00", "é" * 10],
)
def test_any_text_is_an_instruction(colour_masker: Masker, picture: Picture, text: str) -> None:
    heatmap = colour_masker(picture(30, 30, red=(5, 5, 25, 25)), text)
    assert heatmap.instruction == text.strip()
    assert heatmap.found == ("red" in text)


def test_features_of_another_masker_are_refused(picture: Picture, colour_masker: Masker) -> None:
    other = Masker(type(colour_masker.backend)())
    features = other.encode_image(picture(20, 20))
    with pytest.raises(InputError, match="come from another one"):
        colour_masker(features, "red")
    with pytest.raises(InputError, match="encoded already"):
        other.encode_image(features)


def test_a_model_that_answers_nan_is_named(picture: Picture, colour_masker: Masker) -> None:
    class Broken(type(colour_masker.backend)):
        name = "broken"

        def decode(self, features: list, instructions: list[str]) -> tuple[np.ndarray, np.ndarray]:
            logits, found = super().decode(features, instructions)
            return logits * np.nan, found

    with pytest.raises(ModelError, match="broken answered with NaN"):
        Masker(Broken())(picture(20, 20), "red")


# High resolution


def test_tiles_find_a_target_of_a_thousandth_of_a_large_photo_and_outline_it(
    colour_masker: Masker, picture: Picture
) -> None:
    target = (292, 47, 402, 157)  # 110 x 110 of 4000 x 3000: 0.1 %
    image = picture(3000, 4000, red=target)
    alone, tiled = colour_masker(image, "the red box"), colour_masker(image, "the red box", tiles="auto")
    assert tiled.found
    assert tiled.shape == (3000, 4000)
    assert box_iou(tiled.box(), target) > 0.9
    assert box_iou(tiled.box(), target) > box_iou(alone.box(), target) + 0.1


def test_tiles_find_what_the_whole_picture_cannot_show(colour_masker: Masker, picture: Picture) -> None:
    target = (1480, 900, 1512, 932)  # astride the middle of the picture, where tiles meet; 2 of 256 pixels
    image = picture(2000, 3000, red=target)
    alone, tiled = colour_masker(image, "red"), colour_masker(image, "red", tiles="auto")
    assert not alone.found
    assert tiled.found
    assert box_iou(tiled.box(), target) > 0.4
    assert not colour_masker(image, "blue", tiles="auto").found


def test_a_large_target_is_not_cut_up_by_tiles_that_see_a_part_of_it(picture: Picture) -> None:
    """Tiles whose model takes a surface that fills them for background must not punch holes into it."""

    class Shy:
        """Relevant is what is red and not everything: blind to a target larger than its view."""

        name, threshold, found_threshold = "shy", 0.5, 0.5

        def encode_images(self, images: list[np.ndarray]) -> list[np.ndarray]:
            return [cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA) for image in images]

        def decode(
            self, features: list[np.ndarray], instructions: list[str]
        ) -> tuple[np.ndarray, np.ndarray]:
            red = np.stack([f[..., 0].astype(int) - f[..., 1] > 90 for f in features])
            share = red.mean(axis=(1, 2))
            sees = (share > 0.002) & (share < 0.55)
            logits = np.where(red & sees[:, None, None], 6.0, -6.0).astype(np.float32)
            # Where it sees only a part it is even sure of itself.
            return logits, np.where(share > 0.002, 0.95, 0.05).astype(np.float32)

    target = (600, 500, 2300, 1900)
    image = picture(2400, 3000, red=target)
    masker = Masker(Shy())
    whole, tiled = masker(image, "red"), masker(image, "red", tiles=4)
    inside = tiled.to_mask()[520:1880, 620:2280]
    assert whole.to_mask()[520:1880, 620:2280].mean() > 0.999
    assert inside.mean() > 0.999
    assert tiled.kept_area() < whole.kept_area() + 0.02


def test_context_dampens_tiles_that_claim_what_the_whole_picture_places_elsewhere(picture: Picture) -> None:
    class Fickle:
        """Sure of the red box in the whole picture; in a crop without it, half sure of anything green."""

        name, threshold, found_threshold = "fickle", 0.5, 0.5

        def encode_images(self, images: list[np.ndarray]) -> list[np.ndarray]:
            return [cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).astype(int) for image in images]

        def decode(
            self, features: list[np.ndarray], instructions: list[str]
        ) -> tuple[np.ndarray, np.ndarray]:
            logits, found = [], []
            for f in features:
                red, green = f[..., 0] - f[..., 1] > 90, f[..., 1] - f[..., 0] > 90
                logits.append(np.where(red if red.any() else green, 6.0, -6.0))
                found.append(0.95 if red.any() else 0.8 if green.any() else 0.1)
            return np.float32(logits), np.float32(found)

    green = (2200, 1400, 2700, 1900)
    both = picture(2400, 3000, red=(300, 300, 800, 900), green=green)
    only = picture(2400, 3000, green=green)
    masker = Masker(Fickle())
    x0, y0, x1, y1 = green
    assert masker(both, "it", tiles=3).to_mask()[y0:y1, x0:x1].mean() < 0.02
    assert masker(only, "it", tiles=3).to_mask()[y0:y1, x0:x1].mean() > 0.9


def test_tiles_of_features_work_like_tiles_of_the_image(
    colour_masker: Masker, colour_backend: object, picture: Picture
) -> None:
    image = picture(900, 1400, red=(1000, 600, 1020, 620), blue=(100, 100, 500, 500))
    features = colour_masker.encode_image(image, tiles=(2, 3))
    assert len(features.tiles) == 6
    colour_backend.encoded.clear()
    for text in ("red", "blue"):
        expected = colour_masker(image, text, tiles=(2, 3)).values
        np.testing.assert_array_equal(colour_masker(features, text).values, expected)
        np.testing.assert_array_equal(colour_masker(features, text, tiles=(2, 3)).values, expected)
    assert len(colour_backend.encoded) == 2 * 7
    with pytest.raises(OptionError, match="encode_image"):
        colour_masker(features, "red", tiles=5)
    with pytest.raises(OptionError, match="encode_image"):
        colour_masker(colour_masker.encode_image(image), "red", tiles=5)


def test_tiles_are_encoded_once_for_many_instructions(
    colour_masker: Masker, colour_backend: object, picture: Picture
) -> None:
    image = picture(600, 600, red=(10, 10, 100, 100))
    texts = ["red", "blue", "green", "yellow", "red"]
    heatmaps = colour_masker.batch([image], texts, batch_size=2, tiles=2)
    assert len(colour_backend.encoded) == 1 + 4
    assert max(colour_backend.decoded) <= 2
    np.testing.assert_array_equal(heatmaps[0].values, colour_masker(image, "red", tiles=2).values)
    np.testing.assert_array_equal(heatmaps[0].values, heatmaps[4].values)


def test_auto_leaves_small_pictures_alone(
    colour_masker: Masker, colour_backend: object, picture: Picture
) -> None:
    image = picture(480, 640, red=(10, 10, 100, 100))
    tiled = colour_masker(image, "red", tiles="auto")
    assert len(colour_backend.encoded) == 1
    np.testing.assert_array_equal(tiled.values, colour_masker(image, "red").values)


def test_memory_stays_bounded_with_tiles(colour_masker: Masker, picture: Picture) -> None:
    image = picture(3000, 4000, red=(2710, 1330, 2820, 1440))
    tracemalloc.start()
    try:
        colour_masker(image, "red", tiles="auto")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The answer itself is 48 MB of float32; crops, tiles and grids must stay within three times that.
    assert peak < 200e6


# Loading


def test_fingerprints_tell_models_of_one_name_apart(tmp_path: Path, colour_masker: Masker) -> None:
    def of(folder: str, content: bytes, **options: object) -> str:
        (tmp_path / folder / "deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "deep" / "weights").write_bytes(content)
        return Masker(colour_masker.backend, Origin(tmp_path / folder, options)).fingerprint

    first = of("a", b"one")
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert of("b", b"one") == first, "the same files elsewhere are the same model"
    assert len({first, of("a", b"two"), of("a", b"one", quantise="int8"), colour_masker.fingerprint}) == 4


def test_a_loaded_model_has_the_fingerprint_of_its_files(tmp_path: Path) -> None:
    shipped = load("compact")
    assert shipped.fingerprint == load("compact", threads=1).fingerprint
    copy = tmp_path / "compact"
    shutil.copytree(shipped.origin.folder, copy)
    assert load(copy).fingerprint == shipped.fingerprint
    changed = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**changed, "threshold": 0.9}))
    assert load(copy).fingerprint != shipped.fingerprint


def test_load_checks_its_arguments_before_it_works() -> None:
    with pytest.raises(OptionError, match=r"device must be one of auto, cpu, cuda, but got 'gpu'"):
        load("compact", device="gpu")
    with pytest.raises(OptionError, match="threads must be"):
        load("compact", threads=0)
    with pytest.raises(OptionError, match=r"no model is called 'compcat': did you mean 'compact'\?"):
        load("compcat")


def test_load_hands_folder_device_and_threads_to_the_loader_of_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Picture
) -> None:
    (tmp_path / "config.json").write_text('{"kind": "colours"}')
    kind = config.Kind("conftest_colours", "open_colours", ("*.json",))
    monkeypatch.setattr(config, "KINDS", config.KINDS | {"colours": kind})
    monkeypatch.setattr("ivm.masker.KINDS", config.KINDS)
    import sys
    import types

    import conftest

    calls = []

    def open_colours(folder: Path, device: str, threads: int | None) -> object:
        calls.append((folder, device, threads))
        return conftest.ColourBackend()

    module = types.ModuleType("conftest_colours")
    module.open_colours = open_colours
    monkeypatch.setitem(sys.modules, "conftest_colours", module)
    masker = load(tmp_path, device="cpu", threads=1)
    assert calls == [(tmp_path, "cpu", 1)]
    assert isinstance(masker(picture(20, 20, red=(2, 2, 18, 18)), "red"), Heatmap)
    with pytest.raises(OptionError, match="has no option dtype: it has none beside device and threads"):
        load(tmp_path, dtype="float32")

    def open_with_depth(folder: Path, device: str, threads: int | None, depth: int = 1) -> object:
        calls.append((device, depth))
        return conftest.ColourBackend()

    module.open_colours = open_with_depth
    load(tmp_path, device="cpu", depth=3)
    assert calls[-1] == ("cpu", 3)
    with pytest.raises(OptionError, match="has no option dtype, width: it has depth"):
        load(tmp_path, dtype="float32", width=2)


@pytest.mark.weights
def test_the_shipped_model_masks(picture: Picture) -> None:
    if not (Path(config.__file__).parents[1] / "weights" / "compact" / "config.json").exists():
        pytest.skip("the weights of the compact model are not there")
    masker = load("compact", device="cpu", threads=1)
    features = masker.encode_image(picture(120, 160, red=(40, 30, 120, 90)))
    assert isinstance(features, ImageFeatures)
    heatmaps = masker.batch([features], ["the red box", "a dog"])
    assert [heatmap.shape for heatmap in heatmaps] == [(120, 160)] * 2
    assert np.ptp(heatmaps[0].values) > 0.1
