from __future__ import annotations

import inspect
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ivm.cli import app
from ivm.data.readers import READERS, reader

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
    assert "12 samples in 1 shard (12 photo)" in done.output
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


def run(*arguments, code=0):
    done = runner.invoke(app, ["data", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def source(tmp_path):
    home = tmp_path / "mine"
    home.mkdir()
    rows = ["image,instruction,mask"]
    for k in range(30):
        coarse = np.random.default_rng(k).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((64, 48)).save(home / f"{k}.png")
        mask = np.zeros((48, 64), np.uint8)
        mask[: 6 + k // 2, :20] = 255
        Image.fromarray(mask if k != 3 else np.full_like(mask, 255)).save(home / f"m{k}.png")
        rows.append(f"{k}.png,thing number {k},m{k}.png")
    (home / "table.csv").write_text("\n".join([*rows, "none.png,x,"]) + "\n")
    return home


def test_the_way_of_a_data_set(source, tmp_path):
    store, cleaned = tmp_path / "store", tmp_path / "clean"
    out = run("convert", "csv", source, "-o", store, "--set", "table=table.csv")
    assert "30 samples in 1 shard (30 mine, human)" in out
    assert "1 wrong record left out" in out
    assert json.loads((store / "report.jsonl").read_text())["place"] == 32
    assert "already" not in run("convert", "csv", source, "-o", store, "--set", "table=table.csv")
    run("convert", "csv", source, "-o", tmp_path / "strict", "--strict", code=1)

    assert "30 samples" in run("verify", store)
    out = run("stats", store, "-o", tmp_path / "stats")
    assert "30 samples of 30 pictures" in out
    assert (tmp_path / "stats" / "areas.png").exists()
    assert "60 samples of 30 pictures" in run("stats", store, store, "-o", tmp_path / "stats")

    assert "30 samples kept" in run("clean", store, "-o", tmp_path / "trusting")
    out = run("clean", store, "-o", cleaned, "--people")
    assert "29 samples kept, 1 dropped" in out
    assert "1 nearly-whole-image" in out
    run("clean", cleaned, "-o", tmp_path / "back", "--undo")
    same = [(folder / "shard-000000.tar").read_bytes() for folder in (store, tmp_path / "back")]
    assert same[0] == same[1]

    run("split", cleaned, "-o", tmp_path / "parts", "--part", "train=0.5", "--part", "val=0.5")
    parts = [tmp_path / "parts" / name for name in ("train", "val")]
    assert "0 pictures in two stores" in run("leaks", *parts)
    assert "look alike" not in run("leaks", store, cleaned, code=1)


def test_previews_of_a_store_a_source_and_a_list(source, tmp_path):
    run("convert", "csv", source, "-o", tmp_path / "store")
    run("preview", tmp_path / "store", "-o", tmp_path / "p.html", "-n", 5)
    assert (tmp_path / "p.html").read_text().count("<article>") == 5
    out = run("preview", source, "--reader", "csv", "-o", tmp_path / "p.html")
    assert (tmp_path / "p.html").read_text().count("<article>") == 30
    assert "left out: table.csv:32: the image none.png is missing" in out
    (tmp_path / "list.jsonl").write_text('{"uuids": ["mine-2", "mine-9"]}\n{"uuid": "mine-4"}\n')
    run("preview", tmp_path / "store", "-o", tmp_path / "p.html", "--uuids", tmp_path / "list.jsonl")
    assert (tmp_path / "p.html").read_text().count("<article>") == 3
    for line in ('{"uuids": "mine-2"}', '{"uuid": null}', "[]"):
        (tmp_path / "wrong.jsonl").write_text(line)
        told = run("preview", tmp_path / "store", "--uuids", tmp_path / "wrong.jsonl", code=1)
        assert "wrong.jsonl:1: must have 'uuid' or a list 'uuids'" in told
    assert "must end in .html or .png" in run("preview", tmp_path / "store", "-o", "x.pdf", code=1)
    assert "--set needs --reader" in run("preview", tmp_path / "store", "--set", "a=b", code=2)


def test_damage_is_told_by_the_exit_code(source, tmp_path):
    run("convert", "csv", source, "-o", tmp_path / "store")
    tar = tmp_path / "store" / "shard-000000.tar"
    tar.write_bytes(tar.read_bytes()[:-1])
    assert "must be" in run("verify", tmp_path / "store", "--checksums-only", "--workers", 1, code=1)


def test_wrong_usage(source, tmp_path):
    assert "did you mean 'coco'" in run("convert", "coc", source, "-o", tmp_path / "s", code=2)
    assert "takes table, but got 'tabel'" in run(
        "convert", "csv", source, "-o", tmp_path / "s", "--set", "tabel=x", code=2
    )
    assert "NAME=VALUE" in run("convert", "csv", source, "-o", tmp_path / "s", "--set", "table", code=2)
    run("convert", "csv", source, "-o", tmp_path / "s")
    assert "must be a number" in run("split", tmp_path / "s", "-o", tmp_path / "p", "--part", "a=b", code=2)
    assert "rules must be among" in run("clean", tmp_path / "s", "-o", tmp_path / "c", "--rule", "x", code=2)


def test_another_source_is_not_taken_for_the_old_one(source, tmp_path):
    run("convert", "csv", source, "-o", tmp_path / "s")
    other = tmp_path / "other" / source.name
    shutil.copytree(source, other)
    assert "30 samples" in run("convert", "csv", other, "-o", tmp_path / "s")  # the same, elsewhere
    with (other / "table.csv").open("a") as table:
        table.write("0.png,one more,\n")
    assert "content: {'files': 61" in run("convert", "csv", other, "-o", tmp_path / "s", code=1)
    (tmp_path / "s" / "index.json").unlink()
    assert "shards of another conversion (content:" in run(
        "convert", "csv", other, "-o", tmp_path / "s", code=1
    )
    run("convert", "csv", source, "-o", source / "store")  # within the source
    (source / "store" / "index.json").unlink()
    assert "30 samples" in run("convert", "csv", source, "-o", source / "store")


def test_options_that_would_be_ignored_are_refused(source, tmp_path):
    run("convert", "csv", source, "-o", tmp_path / "s")
    store, page = tmp_path / "s", tmp_path / "p.html"
    (tmp_path / "list.jsonl").write_text('{"uuid": "mine-2"}\n')
    for arguments, why in (
        (["--undo", "--people", "--whole", 7], "--whole and --people need a store to clean, not --undo"),
        (["--undo", "--scores", "/nope", "--min-score", 9], "--scores and --min-score need a store"),
        (["--min-score", "0.3"], "--min-score needs --scores"),
        (["--rule", "empty", "--whole", 0.5], "--whole needs the rule nearly-whole-image"),
        (["--rule", "empty", "--scores", "/nope"], "--scores needs the rule low-score"),
        (["--rule", "empty", "--people"], "--people needs the rule"),
    ):
        assert why in run("clean", store, "-o", tmp_path / "c", *arguments, code=2)
    for arguments, why in (
        ([source, "--reader", "csv", "--uuids", tmp_path / "list.jsonl"], "--uuids needs a store"),
        ([source, "--reader", "csv", "--seed", 3], "--seed needs a spec or a whole store"),
        ([store, "--uuids", tmp_path / "list.jsonl", "--seed", 3], "--seed needs"),
        ([store, "--columns", 3], "--columns needs a picture"),
    ):
        assert why in run("preview", "-o", page, *arguments, code=2)
    assert not page.exists()
    assert not (tmp_path / "c").exists()


def test_samples_without_a_score_pass_and_are_counted(source, tmp_path):
    head, *rows = (source / "table.csv").read_text().splitlines()[:4]
    (source / "table.csv").write_text("\n".join([f"{head},human", *(f"{row},no" for row in rows)]))
    run("convert", "csv", source, "-o", tmp_path / "s")
    lines = [{"uuid": f"mine-{k}", "score": score} for k, score in ((2, 0.9), (3, 0.2), (4, None))]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arguments = ["--rule", "low-score", "--scores", tmp_path / "r.jsonl", "--min-score", 0.5]
    out = run("clean", tmp_path / "s", "-o", tmp_path / "c", *arguments)
    assert "2 samples kept, 1 dropped" in out
    assert "1 sample without a score: not judged by low-score" in out


def test_leaks_are_between_different_stores(source, tmp_path):
    run("convert", "csv", source, "-o", tmp_path / "s")
    for stores in (["s"], ["s", "s"], ["s", "../" + tmp_path.name + "/s"]):
        assert "two or more different stores" in run("leaks", *(tmp_path / name for name in stores), code=2)


def test_every_reader_is_listed_with_its_options():
    out = run("readers")
    assert "coco-panoptic" in out
    assert "--set segments=  folder of the PNG files" in out
    assert "root" not in out  # the folder that convert is given
    for name in READERS:  # every option is told of
        known = set(inspect.signature(reader(name)).parameters) - {"root"}
        block = out.partition(f"\n{name}\n" if name != "ivm-mix" else f"{name}\n")[2]
        told = re.findall(r"--set (\w+)=", re.split(r"\n(?=\S)", block)[0])
        assert set(told) == known, name
