import json

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from ivm.cli import app
from ivm.images import read_image
from ivm.lmm import Reply
from ivm.types import Heatmap

run = CliRunner().invoke


@pytest.fixture
def lmm_server(monkeypatch):
    """Every client talks to this instead of the network; answers with the number of messages it got."""
    requests = []

    def answer(request):
        requests.append(request)
        text = f"{len(json.loads(request.content)['messages'])} messages"
        return httpx.Response(200, json={"choices": [{"message": {"content": text}}]})

    client = httpx.Client

    def local(**options):
        return client(**{**options, "transport": httpx.MockTransport(answer)})

    monkeypatch.setattr(httpx, "Client", local)
    return requests


@pytest.fixture
def photo(tmp_path):
    from importlib.resources import files

    path = tmp_path / "coffee.jpg"
    path.write_bytes((files("ivm") / "assets" / "coffee.jpg").read_bytes())
    return path


pytestmark = pytest.mark.weights
TO = ("--lmm", "fake", "--url", "http://localhost:1/v1")


def test_questions_are_asked_in_turn_and_the_picture_is_written(lmm_server, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("IVM_LMM_KEY", "secret")
    shown = tmp_path / "shown.png"
    result = run(app, ["ask", str(photo), "the cup", "where is the spoon?", *TO, "--picture", str(shown)])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["1 messages", "3 messages"]
    assert read_image(shown).ndim == 3
    assert lmm_server[0].headers["authorization"] == "Bearer secret"
    assert "secret" not in result.output


def test_dry_run_asks_nobody_and_json_tells_what_was_found(lmm_server, photo):
    result = run(app, ["ask", str(photo), "the cup", *TO, "--dry-run", "--json", "--mode", "overlay"])
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["answer"] is None
    assert 0 <= record["score"] <= 1
    assert not lmm_server


def test_a_picture_that_is_kept_whole_is_told(lmm_server, photo, monkeypatch):
    found = Heatmap(np.full(read_image(photo).shape[:2], 0.6, np.float32))
    monkeypatch.setattr("ivm.masker.Masker.__call__", lambda *_, **__: found)
    for threshold, told in (("0.5", False), ("0.7", True)):
        result = run(app, ["ask", str(photo), "the cup", *TO, "--threshold", threshold])
        assert result.exit_code == 0, result.output
        assert ("kept whole: the cup" in result.stderr) == told
        assert result.stdout == "1 messages\n"


def test_wrong_use_is_one_sentence(photo, monkeypatch):
    result = run(app, ["ask", str(photo), "the cup", "--lmm", "fake", "--url", "localhost"])
    assert result.exit_code == 2
    assert "base_url must be" in result.output
    monkeypatch.setattr("ivm.lmm_cli.open_masker", lambda *_: pytest.fail("the model was loaded"))
    for options, words in (
        (["--mode", "nope"], "mode must be"),
        (["--show", "nope"], "show must be"),
        (["--tiles", "nope"], "tiles must be"),
        (["--url", "http://[::1/v1"], "base_url must be"),
    ):
        result = run(app, ["ask", str(photo), "the cup", *TO, *options])
        assert result.exit_code == 2
        assert words in result.output
    monkeypatch.undo()
    result = run(app, ["ask", str(photo), "the cup", "--lmm", "fake", "--url", "http://localhost:9/v1"])
    assert result.exit_code == 1
    assert "is the server running?" in result.output


def test_the_source_is_never_overwritten(lmm_server, photo):
    before = photo.read_bytes()
    result = run(app, ["ask", str(photo), "the cup", *TO, "--picture", str(photo)])
    assert result.exit_code == 2
    assert "never overwritten" in result.output
    assert photo.read_bytes() == before
    assert not lmm_server


def test_an_answer_is_told_even_if_the_picture_cannot_be_written(lmm_server, photo, tmp_path):
    shown = str(tmp_path / "shown.jpg")
    result = run(app, ["ask", str(photo), "the cup", *TO, "--mode", "transparent", "--picture", shown])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "1 messages"


def test_an_answer_that_is_no_text_is_told(lmm_server, photo, monkeypatch):
    monkeypatch.setattr("ivm.lmm.LMM.complete", lambda *_, **__: Reply("\ud83d yes"))
    for more in ([], ["--json"]):
        result = run(app, ["ask", str(photo), "the cup", *TO, *more])
        assert result.exit_code == 0, result.output
        assert "yes" in result.stdout
