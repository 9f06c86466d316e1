from __future__ import annotations

import json
import sys
import tomllib

import pytest
from typer.testing import CliRunner

from ivm.cli import app

pytest.importorskip("accelerate")

from training.conftest import configure, small_text, stores  # noqa: F401  the tiny trainable world

runner = CliRunner()


def run(*words):
    return runner.invoke(app, [str(word) for word in words])


def test_help_lists_every_option_of_a_configuration():
    from ivm.training.config import STAGES
    from ivm.training.config_file import options

    done = run("train", "--help")
    assert done.exit_code == 0
    for stage in STAGES:
        for name, one in options(stage):
            assert name in done.output
            assert one.metadata["about"] in done.output or name == "loss.clip"


def test_options_are_printed_as_a_file():
    done = run("train", "options", "discriminator")
    assert tomllib.loads(done.output)["loss"]["method"] == "paper"
    wrong = run("train", "options", "critics")
    assert wrong.exit_code == 2
    assert "must be one of discriminator, generator" in wrong.output


def test_wrong_options_are_wrong_usage(tmp_path):
    (tmp_path / "c.toml").write_text("[optimise]\nstep = 3\n")
    done = run("train", "generator", tmp_path / "c.toml")
    assert done.exit_code == 2
    assert "no option optimise.step: did you mean optimise.steps?" in done.output
    assert "Traceback" not in done.output


def test_an_extra_that_is_absent_names_the_command(tmp_path, monkeypatch):
    (tmp_path / "c.toml").write_text("")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    done = run("train", "discriminator", tmp_path / "c.toml")
    assert done.exit_code == 1
    assert "pip install 'ivm[train]'" in done.output


def test_from_stores_to_scores_to_a_cleaned_store(configure, stores, tmp_path):  # noqa: F811
    configure("discriminator")
    config = tmp_path / "discriminator.toml"
    plan = run("train", "discriminator", config, "--dry-run")
    assert plan.exit_code == 0, plan.output
    assert "train a compact discriminator" in plan.output
    assert not (tmp_path / "discriminator-run").exists()
    done = run("train", "discriminator", config, "--set", "optimise.steps=6")
    assert done.exit_code == 0, done.output
    assert "step 6/6" in done.output
    assert "last.safetensors" in done.output
    scores = tmp_path / "s.jsonl"
    refused = run("score", tmp_path / "discriminator-run", stores["mixed"], "-o", scores, "--histogram", "h")
    assert refused.exit_code == 2
    assert "the histogram must end in one of" in refused.output
    assert not scores.exists()
    scored = run("score", tmp_path / "discriminator-run", stores["mixed"], "-o", scores)
    assert scored.exit_code == 0, scored.output
    assert (tmp_path / "s.png").stat().st_size > 5000
    machine = [row for row in map(json.loads, scores.read_text().splitlines()) if not row["human"]]
    limit = sorted(row["score"] for row in machine)[12]
    cleaned = run(
        "data", "clean", stores["mixed"], "-o", tmp_path / "kept", "--scores", scores,
        "--min-score", limit, "--rule", "low-score",
    )  # fmt: skip
    assert cleaned.exit_code == 0, cleaned.output
    assert "36 samples kept, 12 dropped" in cleaned.output
    bare = run("data", "clean", stores["mixed"], "-o", tmp_path / "x", "--rule", "low-score")
    assert bare.exit_code == 2
    assert "needs --scores" in bare.output


def test_a_generator_ends_with_a_folder_for_masking(configure, tmp_path, monkeypatch):  # noqa: F811
    configure("generator")
    done = run("train", "generator", tmp_path / "generator.toml")
    assert done.exit_code == 0, done.output
    assert f"--model {tmp_path / 'generator-run' / 'model'}" in done.output
    written = run("export", tmp_path / "generator-run", "-o", tmp_path / "mine")
    assert written.exit_code == 0, written.output
    assert (tmp_path / "mine").is_dir()
    (tmp_path / "generator-run").rename(tmp_path / "compact")
    monkeypatch.chdir(tmp_path)  # a run of the name of a preset is a run
    written = run("export", "compact", "-o", "other")
    assert written.exit_code == 0, written.output
    (tmp_path / "compact").rename(tmp_path / "generator-run")
    wrong = run("score", tmp_path / "generator-run", tmp_path / "mixed")
    assert wrong.exit_code == 1
    assert "must hold a discriminator" in wrong.output
