from __future__ import annotations

import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import ivm
from ivm.cli import app
from ivm.errors import OptionError
from ivm.images import read_image
from ivm.masker import Masker
from ivm.models.config import PRESETS
from ivm.render import MODES, NOT_FOUND

Picture = Callable[..., np.ndarray]


@pytest.fixture
def ran(colour_masker: Masker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run the command line in an empty folder, with the masker of colours for every model."""

    def load(name: str, device: str = "auto", threads: int | None = None) -> Masker:
        if name not in PRESETS:
            raise OptionError(f"no model is called {name!r}")
        return colour_masker

    monkeypatch.setattr("ivm.masker.load", load)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def photo(tmp_path: Path, picture: Picture) -> Path:
    path = tmp_path / "photo.jpg"
    Image.fromarray(picture(60, 90, red=(20, 10, 60, 40))).save(path, quality=95)
    return path


# One picture


def test_mask_writes_a_picture_beside_the_source_and_tells_what_it_did(
    ran: Callable[..., Result], photo: Path
) -> None:
    result = ran("mask", photo, "the red box", "--dilate", 0)
    written = read_image(photo.with_name("photo-masked.png"))
    assert written.shape == (60, 90, 3)
    assert (written[0, 0] == 255).all()
    assert written[25, 40, 0] > 200
    assert str(photo.with_name("photo-masked.png")) in result.stdout
    assert "found, score 0.97" in result.stdout
    assert "kept area" in result.stdout
    assert result.stderr == ""


def test_json_is_one_record_that_programs_can_use(ran: Callable[..., Result], photo: Path) -> None:
    options = ["--json", "-o", "x.webp", "-m", "overlay+crop", "--heatmap", "h.npy"]
    result = ran("mask", photo, "the red box", *options)
    record = json.loads(result.stdout)
    assert record["image"] == str(photo)
    assert record["instruction"] == "the red box"
    assert record["found"] is True
    assert record["score"] == pytest.approx(0.97)
    assert len(record["box"]) == 4
    assert 0.1 < record["kept_area"] < 0.4
    assert record["output"] == "x.webp"
    assert record["heatmap"] == "h.npy"
    transform = ivm.Transform.from_dict(record["transform"])
    written = read_image("x.webp")
    assert transform.size == (written.shape[1], written.shape[0])
    heatmap = ivm.Heatmap(np.load("h.npy"))
    assert heatmap.shape == (60, 90)
    assert list(heatmap.box()) == record["box"]


def test_a_target_that_is_not_there(ran: Callable[..., Result], photo: Path) -> None:
    kept = ran("mask", photo, "the blue box", "-o", "a.png")
    assert "not found, score 0.05" in kept.stdout
    assert "the whole picture" in kept.stdout
    np.testing.assert_array_equal(read_image("a.png"), read_image(photo))
    ran("mask", photo, "the blue box", "-o", "b.png", "--not-found", "mask")
    assert (read_image("b.png") == 255).all()
    failed = ran("mask", photo, "the blue box", "-o", "c.png", "--not-found", "error", code=1)
    assert "must be in the image" in failed.stderr
    assert not Path("c.png").exists()


def test_every_mode_is_in_the_help_and_works(ran: Callable[..., Result], photo: Path) -> None:
    help_ = " ".join(ran("mask", "--help").stdout.split())
    named = re.search(r"Deployment mode: (.*?)\.", help_)
    assert named is not None
    assert re.split(r", | or ", named[1]) == list(MODES)
    for name in NOT_FOUND:
        assert re.search(rf"\b{name}\b", help_)
    for mode in MODES:
        ran("mask", photo, "red", "-m", mode, "-o", f"{mode}.png")
        assert Path(f"{mode}.png").exists()


def test_options_reach_the_picture(ran: Callable[..., Result], photo: Path) -> None:
    def masked(*options: object) -> np.ndarray:
        ran("mask", photo, "red", "-o", "x.png", "--dilate", 0, *options)
        return read_image("x.png")

    plain = masked()
    assert masked("--colour", "#102030")[0, 0].tolist() == [16, 32, 48]
    assert (masked("--threshold", 0.9) != plain).any()
    assert (masked("--feather", 0.2) != plain).any()
    assert (masked("--opacity", 0.5)[0, 0] < 255).all()
    assert (masked("--tiles", "1x1") == plain).all()
    assert np.abs(masked("--exact").astype(int) - plain).max() <= 2
    ran("mask", photo, "red", "-o", "y.png")
    assert (read_image("y.png") != plain).any()  # dilated by default


def test_tiles_are_understood(ran: Callable[..., Result], photo: Path, colour_backend: object) -> None:
    for text, count in (("auto", 1), ("1", 1), ("1x1", 1)):
        colour_backend.encoded.clear()
        ran("mask", photo, "red", "--tiles", text)
        assert len(colour_backend.encoded) == count
    Image.fromarray(read_image(photo)).resize((300, 200)).save("large.png")
    for text, count in (("2", 1 + 2), ("2X3", 1 + 6)):
        colour_backend.encoded.clear()
        ran("mask", "large.png", "red", "--tiles", text)
        assert len(colour_backend.encoded) == count
    for text in ("many", "2x", "2x2x2", "-1", "", "1.5"):
        assert "tiles must be" in ran("mask", photo, "red", f"--tiles={text}", code=2).stderr
    assert "at least 64 pixels" in ran("mask", photo, "red", "--tiles", "4", code=2).stderr


def test_the_source_is_never_overwritten_and_other_files_are(ran: Callable[..., Result], photo: Path) -> None:
    before = photo.read_bytes()
    for option in ("--output", "--heatmap"):
        result = ran("mask", photo, "red", option, photo.parent / "." / photo.name, code=2)
        assert "the source itself" in result.stderr
    Path("link.png").symlink_to(photo)
    assert "the source itself" in ran("mask", photo, "red", "-o", "link.png", code=2).stderr
    assert photo.read_bytes() == before
    result = ran("mask", photo, "red", "-o", "same.png", "--heatmap", "./same.png", code=2)
    assert "another file than --output" in result.stderr
    Path("x.png").write_bytes(b"old")
    ran("mask", photo, "red", "-o", "x.png")
    assert read_image("x.png").shape == (60, 90, 3)
    Path("sub").mkdir()
    ran("mask", photo, "red", "-o", "sub")
    assert Path("sub/photo-masked.png").exists()


def encoded(image: np.ndarray | Image.Image, format_: str, **options: object) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, format_, **options)
    return stream.getvalue()


def rotated(image: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(np.ascontiguousarray(np.rot90(image)), "JPEG", exif=exif, quality=95)


STRANGE: dict[str, Callable[[np.ndarray], bytes]] = {
    "cmyk.jpg": lambda image: encoded(Image.fromarray(image).convert("CMYK"), "JPEG", quality=95),
    "palette.png": lambda image: encoded(Image.fromarray(image).quantize(64), "PNG"),
    "alpha.png": lambda image: encoded(Image.fromarray(image).convert("RGBA"), "PNG"),
    "animated.gif": lambda image: encoded(
        Image.fromarray(image), "GIF", save_all=True, append_images=[Image.new("RGB", (90, 60))]
    ),
    "rotated.jpg": rotated,
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_pictures_are_masked_in_their_colours_and_upright(
    ran: Callable[..., Result], tmp_path: Path, picture: Picture, name: str
) -> None:
    Path(name).write_bytes(STRANGE[name](picture(60, 90, red=(20, 10, 60, 40))))
    record = json.loads(ran("mask", name, "red", "--json").stdout)
    assert record["found"]
    assert record["transform"]["size"] == [90, 60]
    assert np.abs(np.array(record["box"]) - (20, 10, 60, 40)).max() <= 4


def test_a_16_bit_picture_works(ran: Callable[..., Result], picture: Picture) -> None:
    Image.fromarray(picture(60, 90)[..., 0].astype(np.uint16) * 257).save("deep.png")
    ran("mask", "deep.png", "red")
    np.testing.assert_array_equal(read_image("deep-masked.png"), read_image("deep.png"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "0 bytes|not an image"),
        (b"hello", "not an image"),
        (encoded(np.zeros((50, 50, 3), np.uint8), "PNG")[:60], "damaged or truncated"),
        (
            b"BM" + struct.pack("<IHHIIiiHHIIiiII", 90, 0, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6),
            "too large",
        ),
    ],
)
def test_files_that_are_no_pictures_exit_1_in_one_line(
    ran: Callable[..., Result], content: bytes | None, message: str
) -> None:
    if content is not None:
        Path("x.png").write_bytes(content)
    result = ran("mask", "x.png", "red", code=1)
    assert re.search(message, result.stderr)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.jpg"], "an instruction must follow"),
        (["photo.jpg", ""], "instruction must contain text"),
        (["photo.jpg", "x" * 20_001], "at most 20000 characters"),
        (["photo.jpg", "red", "--mode", "masked"], "mode must be one of"),
        (["photo.jpg", "red", "--model", "larg"], "no model is called 'larg'"),
        (["photo.jpg", "red", "--threshold", "1.2"], r"threshold must be in \[0, 1\], but got 1.2"),
        (["photo.jpg", "red", "--threshold", "nan"], "threshold must be in"),
        (["photo.jpg", "red", "--threshold", "much"], "not a valid float|valid"),
        (["photo.jpg", "red", "--dilate", "-1"], "dilate must be in"),
        (["photo.jpg", "red", "--colour", "whitish"], "colour must be"),
        (["photo.jpg", "red", "--mode", "blur", "--colour", "white"], "no use for colour"),
        (["photo.jpg", "red", "--not-found", "cry"], "not_found must be one of"),
        (["photo.jpg", "red", "--color", "white"], "No such option"),
        (["lines.jsonl", "red"], "a manifest has its own instructions"),
        ([], "Missing"),
    ],
)
def test_wrong_usage_exits_2(
    ran: Callable[..., Result], photo: Path, arguments: list[str], message: str
) -> None:
    result = ran("mask", *arguments, code=2)
    assert re.search(message, result.stderr)
    assert sorted(path.name for path in photo.parent.iterdir()) == ["photo.jpg"]


@pytest.mark.parametrize("text", ["red " * 2500, "找到红色的杯子", "🟥", "où est la tasse rouge"])
def test_long_foreign_and_pictured_instructions_work(
    ran: Callable[..., Result], photo: Path, text: str
) -> None:
    assert json.loads(ran("mask", photo, text, "--json").stdout)["instruction"] == text.strip()


@pytest.mark.parametrize("target", ["no/such/x.png", "x.xyz", "photo.jpg/x.png", "x" * 300 + ".png"])
def test_an_output_that_cannot_be_written_exits_1(
    ran: Callable[..., Result], photo: Path, target: str
) -> None:
    for option in ("--output", "--heatmap"):
        result = ran("mask", photo, "red", option, target, code=1)
        assert re.search("cannot|too long", result.stderr)
        assert result.stderr.count("\n") == 1


def test_a_transparent_picture_needs_a_format_that_has_it(ran: Callable[..., Result], photo: Path) -> None:
    assert (
        "cannot hold transparency"
        in ran("mask", photo, "red", "-m", "transparent", "-o", "x.jpg", code=1).stderr
    )
    ran("mask", photo, "red", "-m", "transparent", "-o", "x.png")
    with Image.open("x.png") as written:
        assert written.mode == "RGBA"


# Many pictures


@pytest.fixture
def photos(tmp_path: Path, picture: Picture) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for name, colour in (("a.png", "red"), ("b.png", "blue"), ("deep/a.png", "red")):
        Image.fromarray(picture(40, 60, **{colour: (5, 5, 30, 30)})).save(folder / name)
    return folder


def test_a_folder_is_masked_beside_itself_and_again_for_nothing(
    ran: Callable[..., Result], photos: Path, colour_backend: object
) -> None:
    result = ran("mask", "photos", "the red box")
    assert result.stdout == "photos-masked: 3 masked, target not found in 1\n"
    made = sorted(path.relative_to("photos-masked").as_posix() for path in Path("photos-masked").rglob("*.*"))
    assert made == ["a.png", "b.png", "deep/a.png", "results.jsonl"]
    colour_backend.encoded.clear()
    assert "0 masked, 3 done before" in ran("mask", "photos", "the red box").stdout
    assert colour_backend.encoded == []
    assert "3 masked" in ran("mask", "photos", "the blue box").stdout


def test_an_output_folder_inside_the_folder_is_not_masked_itself(
    ran: Callable[..., Result], photos: Path
) -> None:
    for _ in range(2):
        ran("mask", photos, "red", "-o", photos / "masked")
    assert len((photos / "masked" / "results.jsonl").read_text().splitlines()) == 3
    os.chdir(photos)
    assert "3 masked" in ran("mask", ".", "blue", "-o", "masked").stdout


def test_a_bad_file_is_reported_at_the_end_and_exits_1(ran: Callable[..., Result], photos: Path) -> None:
    (photos / "a.png").write_bytes(b"no picture")
    result = ran("mask", photos, "red", code=1)
    assert "2 masked, target not found in 1, 1 failed" in result.stdout
    assert f"{photos / 'a.png'}: " in result.stderr
    assert "not an image" in result.stderr
    lines = ran("mask", photos, "red", "--json", code=1).stdout.splitlines()
    assert [("error" in json.loads(line)) for line in lines] == [True, False, False]


def test_many_failures_are_not_all_listed(ran: Callable[..., Result], tmp_path: Path) -> None:
    Path("bad").mkdir()
    for index in range(25):
        Path(f"bad/{index:02}.png").write_bytes(b"x")
    result = ran("mask", "bad", "red", code=1)
    assert result.stderr.count("not an image") == 20
    assert "and 5 more, see bad-masked/results.jsonl" in result.stderr


def test_a_manifest_with_good_and_bad_lines(ran: Callable[..., Result], photos: Path) -> None:
    lines = [
        {"image": "photos/a.png", "instruction": "the red box", "id": "first"},
        {"image": "photos/a.png", "instruction": "the blue box", "id": "second"},
        {"image": "photos/none.png", "instruction": "the red box", "id": "third"},
        {"image": "photos/b.png"},
    ]
    Path("list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = ran("mask", "list.jsonl", "--heatmap", "heat", code=1)
    assert "2 masked, target not found in 1, 2 failed" in result.stdout
    assert "list.jsonl:4: " in result.stderr
    assert "none.png" in result.stderr
    assert sorted(path.name for path in Path("list-masked").glob("*.png")) == ["first.png", "second.png"]
    assert sorted(path.name for path in Path("heat").iterdir()) == ["first.png", "second.png"]
    told = [json.loads(line) for line in ran("mask", "list.jsonl", "--json", code=1).stdout.splitlines()]
    assert [line.get("id", line.get("line")) for line in told] == [4, "first", "second", "third"]
    assert told[1]["output"] == "list-masked/first.png"


def test_folders_that_cannot_be_used(ran: Callable[..., Result], photos: Path) -> None:
    Path("empty").mkdir()
    assert "must hold pictures" in ran("mask", "empty", "red", code=1).stderr
    before = sorted(photos.iterdir())
    for option in ("--output", "--heatmap"):
        assert "another folder than its sources" in ran("mask", photos, "red", option, photos, code=2).stderr
    assert sorted(photos.iterdir()) == before
    Path("notes").mkdir()
    Path("notes/x.txt").write_text("mine")
    assert "has other files" in ran("mask", photos, "red", "-o", "notes", code=2).stderr
    assert "cannot read manifest" in ran("mask", "none.jsonl", code=1).stderr


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's jobs in the background ignore it
from ivm.cli import main
import ivm.masker
sys.path.insert(0, {tests!r})
from conftest import ColourBackend

class Slow(ColourBackend):
    def encode_images(self, images):
        time.sleep(0.25)
        return super().encode_images(images)

ivm.masker.load = lambda *_, **__: ivm.masker.Masker(Slow())
sys.argv = ["ivm", "mask", "photos", "red"]
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_says_how_to_go_on_and_the_rest_is_made_next_time(
    ran: Callable[..., Result], photos: Path
) -> None:
    for index in range(20):
        Image.fromarray(np.full((30, 30, 3), index, np.uint8)).save(photos / f"z{index:02}.png")
    code = SLOW.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=photos.parent)
    record = photos.parent / "photos-masked" / "results.jsonl"
    deadline = time.monotonic() + 30
    while not (record.exists() and record.read_text().count("\n") >= 2):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert re.fullmatch(r"interrupted: \d+ of 23 are done; the same command goes on from there\n", told)
    done = record.read_text().count("\n")
    assert 2 <= done < 23
    assert f"{23 - done} masked, {done} done before" in ran("mask", "photos", "red").stdout


# The other commands


def test_demo_writes_one_sheet(ran: Callable[..., Result]) -> None:
    assert ran("demo").stdout == "demo.png\n"
    assert min(read_image("demo.png").shape[:2]) > 1000
    assert ran("demo", "-o", "no/x.png", code=1).stderr.startswith("error: cannot write")


@pytest.mark.parametrize("columns", ["200", "60", "40"])
def test_models_lists_every_preset_at_any_width(
    ran: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    listed = ran("models").stdout
    for preset in PRESETS.values():
        assert preset.name in listed
        # Broken lines are joined before looking: words may stand on two of them.
        words = " ".join(listed.split())
        assert preset.summary in words
        assert preset.licence in words
        assert f"It cannot {preset.cannot}." in words or not preset.cannot
        for hub, revision in ((preset.hub, preset.revision), *preset.parts):
            assert f"{hub}@{revision}" in "".join(listed.split()) or not hub
        assert not preset.extra or f"Needs pip install 'ivm[{preset.extra}]'" in words
    assert max(map(len, listed.splitlines())) <= int(columns)
    assert "\x1b" not in listed


def test_version_and_help(ran: Callable[..., Result]) -> None:
    assert ran("--version").stdout == f"ivm {ivm.__version__}\n"
    for command in ([], ["mask"], ["demo"], ["models"], ["eval"], ["eval", "masks"], ["eval", "vqa"]):
        text = ran(*command, "--help").stdout
        assert "Usage" in text
        assert "\x1b" not in text
    assert "Commands" in ran(code=2).output
    assert "No such command" in ran("mash", code=2).stderr


def test_help_fits_a_narrow_terminal() -> None:
    command = [sys.executable, "-m", "ivm", "mask", "--help"]
    narrow = {**os.environ, "COLUMNS": "56"}
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=narrow).stdout
    assert max(map(len, text.splitlines())) <= 56


def test_python_m_ivm_is_the_same_command() -> None:
    command = [sys.executable, "-m", "ivm", "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.startswith("ivm ")


def test_help_loads_no_library_for_pictures_or_models() -> None:
    code = "import sys; import ivm.cli; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "cv2", "PIL", "onnxruntime", "rich", "tokenizers"}
    assert not heavy & set(answer.stdout.split())
