from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image
from typer.testing import CliRunner

from ivm.cli import app
from ivm.data.stream import ShardSet

pytestmark = pytest.mark.weights
runner = CliRunner()


def run(*arguments, code=0):
    done = runner.invoke(app, ["annotate", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


def bundled(folder, *names):
    from importlib.resources import files

    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(files("ivm").joinpath("assets", name).read_bytes())
    return folder


@pytest.fixture
def photos(tmp_path):
    return bundled(tmp_path / "photos", "chelsea.jpg", "coffee.jpg")


@pytest.fixture
def portrait(tmp_path):
    return bundled(tmp_path / "portrait", "astronaut.jpg", "coffee.jpg")


def test_photos_are_annotated_offline(portrait, tmp_path):
    out = tmp_path / "out"
    text = run(portrait, out, "-i", "where is the person?", "-i", "describe the picture")
    assert "2 whole-instruction" in text
    store = ShardSet(out)
    made = [store[n] for n in range(len(store))]
    person = next(s for s in made if "astronaut" in s.uuid and s.targets)
    assert (person.targets, person.human) == (("person",), False)
    assert (person.heatmap > 0.5).mean() > 0.1
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run(portrait, out, "-i", "where is the person?", "-i", "describe the picture") == text
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_another_model_by_the_same_name_does_not_go_on(portrait, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(portrait, out, "-i", "the person")
    monkeypatch.setattr("ivm.masker.Masker.fingerprint", "of another model")
    assert "models: " in run(portrait, out, "-i", "the person", code=1)


def test_two_experts_give_reliability(photos, tmp_path):
    text = run(
        photos, tmp_path / "out", "-i", "the cat", "--experts", "compact", "--experts", "compact,tiles=2"
    )
    assert "reliability" in text
    lines = (tmp_path / "out" / "reliability.jsonl").read_text().splitlines()
    assert all(0 <= json.loads(line)["score"] <= 1 for line in lines)


def test_large_pictures_are_scaled_down(portrait, tmp_path):
    run(
        portrait, tmp_path / "out", "-i", "the person", "--max-side", 200, "--keep", "not-found", "--limit", 1
    )
    sample = ShardSet(tmp_path / "out")[0]
    assert sample.image.shape == (200, 200, 3)
    assert sample.heatmap.shape == (200, 200)


def test_a_dry_run_writes_and_asks_nothing(photos, tmp_path):
    out = tmp_path / "out"
    text = run(photos, out, "-i", "pick up the cup and the spoon", "--dry-run", "--limit", "1")
    assert "    cup | spoon\n" in text
    assert "and 1 more" in text
    asked = run(photos, out, "-i", "cup", "--dry-run", "--llm", "small", "--url", "http://localhost:1/v1")
    assert "would ask small" in asked
    assert not out.exists()


def test_a_dry_run_goes_on_after_what_the_llm_could_not_answer(photos, tmp_path, server):
    pytest.importorskip("httpx")
    url, _ = server
    kept = tmp_path / "answers.jsonl"
    llm = ["-i", "cat", "--llm", "small", "--url", url, "--request", "temperature=null", "--answers", kept]
    run(photos, tmp_path / "out", *llm)
    line = json.loads(kept.read_text())
    del line["answer"]
    kept.write_text(json.dumps(line | {"error": "no JSON"}) + "\n")
    text = run(photos, tmp_path / "other", *llm, "--dry-run")
    assert text.count("left out: no-answer: small gave no usable answer: no JSON") == 2


def test_what_the_output_cannot_show_does_not_break_it(photos, tmp_path):
    arguments = ["annotate", str(photos), str(tmp_path / "out"), "-i", "the café", "--dry-run"]
    done = CliRunner(charset="ascii").invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "    caf?" in done.output


def test_wrong_usage_is_told(photos, tmp_path):
    out = tmp_path / "out"
    llm = ["--llm", "small", "--url", "http://localhost:1/v1"]
    for arguments, why in (
        ([], "give --instruction"),
        (["-i", "cup", "--url", "http://localhost:1/v1"], "--url needs --llm"),
        (["-i", "cup", "--answers", "/nope/x", "--ahead", "3"], "--ahead and --answers need --llm"),
        (["-i", "cup", "--llm", "small"], "--llm needs --url"),
        (["--reader", "csv", "--set", "table=a", "--set", "table=b"], "given twice"),
        (["-i", "cup", *llm, "--request", "a=1", "--request", "a=2"], "given twice"),
        (["-i", "cup", *llm, "--request", "model=other"], "such as max_tokens=100"),
        (["-i", "cup", "--experts", "compact,wight=2"], "an expert must be such as"),
        (["-i", "cup", "--experts", "compact", "--experts", "compact"], "each once"),
        (["-i", "cup", "--keep", "all"], "keep must be among"),
        (["-i", "cup", "--whole", "2"], "whole must be in"),
    ):
        assert why in run(photos, out, *arguments, code=2)
        assert not (out / "index.json").exists()


@pytest.fixture
def server():
    """An LLM that calls everything a cat, and counts what it is asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(body)
            content = json.dumps({"targets": ["cat"], "whole_image": False})
            if "Phrase:" in body["messages"][1]["content"]:
                content = json.dumps({"instructions": ["Who could catch mice?", "stroke it"]})
            answer = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/v1", asked
    http.shutdown()
    thread.join()
    http.server_close()


def test_an_llm_simplifies_once(photos, tmp_path, server):
    pytest.importorskip("httpx")
    url, asked = server
    arguments = ["-i", "who could catch mice?", "--llm", "small", "--url", url, "--request", "max_tokens=99"]
    run(photos, tmp_path / "out", *arguments)
    assert len(asked) == 1  # of two pictures with one instruction
    assert (asked[0]["model"], asked[0]["temperature"], asked[0]["max_tokens"]) == ("small", 0, 99)
    store = ShardSet(tmp_path / "out")
    assert store[0].targets == ("cat",)
    assert store[0].provenance["annotation"]["by"] == "llm small"
    kept = tmp_path / "out" / "answers.jsonl"
    run(photos, tmp_path / "other", *arguments, "--answers", kept, "--whole", "0.9")
    assert len(asked) == 1
    assert "    cat\n" in run(photos, tmp_path / "third", *arguments, "--answers", kept, "--dry-run")


def test_labelled_samples_get_instructions(photos, tmp_path, server):
    pytest.importorskip("httpx")
    url, asked = server
    mask = Image.new("L", (451, 300))
    mask.paste(255, (50, 50, 200, 200))
    mask.save(photos / "m.png")
    (photos / "t.csv").write_text("image,instruction,mask\nchelsea.jpg,the cat,m.png\n")
    run(photos, tmp_path / "out", "--compose", 2, "--llm", "small", "--url", url)
    sample = ShardSet(tmp_path / "out")[0]
    assert sample.instructions == ("the cat", "Who could catch mice?", "stroke it")
    assert sample.heatmap.sum() == 150 * 150
    assert len(asked) == 1
    assert "1 annotated" in run(photos, tmp_path / "none")
