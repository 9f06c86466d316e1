from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import ivm
from ivm.cli import app
from ivm.errors import OptionError
from ivm.masker import Masker

Picture = Callable[..., np.ndarray]


@pytest.fixture
def ran(colour_masker: Masker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run the command line in an empty folder, with the masker of colours for the embedded model."""

    def load(name: str, device: str = "auto", threads: int | None = None) -> Masker:
        if name != "compact":
            raise OptionError(f"no model is called {name!r}")
        return colour_masker

    monkeypatch.setattr("ivm.masker.load", load)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


# Masks


@pytest.fixture
def pack(tmp_path: Path, picture: Picture) -> Path:
    """A small COCO-format folder: eight photos with a red box, which is called a cup."""
    folder = tmp_path / "cups"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for index in range(8):
        box = (10, 10, 40 + index, 30)
        Image.fromarray(picture(48, 64, red=box)).save(folder / "images" / f"{index}.png")
        mask = np.zeros((48, 64), bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        images.append({"id": index, "file_name": f"{index}.png", "width": 64, "height": 48})
        annotations.append(
            {
                "id": index,
                "image_id": index,
                "category_id": 1,
                "segmentation": ivm.Heatmap.from_mask(mask).to_rle(),
                "iscrowd": 0,
            }
        )
    names = [{"id": 1, "name": "cup", "isthing": 1}, {"id": 2, "name": "dog", "isthing": 1}]
    content = {"images": images, "annotations": annotations, "categories": names}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def test_eval_masks_prints_the_model_beside_the_baselines_and_writes_figures(
    ran: Callable[..., Result], pack: Path
) -> None:
    result = ran("eval", "masks", pack, "--split", "all", "-o", "report.json")
    for words in ("colours on cups", "gIoU", "category", "whole image", "centre ellipse", "colour words"):
        assert words in result.stdout
    report = json.loads(Path("report.json").read_text())
    assert report["images"] == 8
    assert set(report["tables"]) == {"colours", "whole image", "centre ellipse", "colour words"}
    again = ran("eval", "masks", pack, "--split", "all", "--limit", 3, "--no-baselines", "-o", "report.json")
    assert "whole image" not in again.stdout
    assert json.loads(Path("report.json").read_text())["images"] == 3


def test_eval_masks_asks_the_model_with_the_threshold_given(ran: Callable[..., Result], pack: Path) -> None:
    kept = []
    for threshold in (0.0, 0.9):
        options = ["--split", "all", "--no-baselines", "--threshold", threshold, "-o", "report.json"]
        ran("eval", "masks", pack, *options)
        kept.append(
            json.loads(Path("report.json").read_text())["tables"]["colours"]["all present"]["kept"][0]
        )
    assert kept[0] == 1.0
    assert kept[1] < 0.5


def test_eval_masks_of_what_is_no_data(ran: Callable[..., Result], pack: Path) -> None:
    assert "must hold annotations.json" in ran("eval", "masks", "nowhere", code=1).stderr
    assert "split must be" in ran("eval", "masks", pack, "--split", "most", code=2).stderr
    assert "threshold must be" in ran("eval", "masks", pack, "--threshold", "2", code=2).stderr
    assert "there is no folder 'no'" in ran("eval", "masks", pack, "-o", "no/report.json", code=1).stderr
    shutil.rmtree(pack / "images")
    assert "8 were left out, the first: " in ran("eval", "masks", pack, "--split", "all", code=1).stderr


def test_figures_are_printed_and_written_whatever_the_output_can_show(
    ran: Callable[..., Result], pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["eval", "masks", str(pack), "--split", "all", "-o", "report.json"]
    result = CliRunner(charset="ascii").invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "0.95?.00" in result.output or "1.00?.00" in result.output

    def broken(*given: object) -> None:
        raise RuntimeError("no output")

    Path("report.json").unlink()
    monkeypatch.setattr("ivm.evaluation.masks.print_report", broken)
    CliRunner().invoke(app, command)
    assert json.loads(Path("report.json").read_text())["images"] == 8


# Referring expressions


def test_eval_expressions_of_a_data_set_and_of_its_store(
    ran: Callable[..., Result], tmp_path: Path, picture: Picture
) -> None:
    photos = tmp_path / "words"
    photos.mkdir()
    Image.fromarray(picture(48, 64, red=(10, 10, 40, 30))).save(photos / "a.png")
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:40] = 255
    Image.fromarray(mask).save(photos / "a-mask.png")
    (photos / "samples.csv").write_text("image,instruction,mask\na.png,the red box,a-mask.png\n")
    from_reader = ran("eval", "expressions", photos, "--reader", "csv", "-o", "report.json")
    report = json.loads(Path("report.json").read_text())
    assert report["tables"]["colours"]["all present"]["box_p_at_50"][0] == 1.0
    assert "boxes around the masks" in from_reader.stdout
    ran("data", "convert", "csv", photos, "-o", "store")
    ran("eval", "expressions", "store", "--no-baselines", "-o", "again.json")
    again = json.loads(Path("again.json").read_text())
    assert again["tables"]["colours"]["all present"] == report["tables"]["colours"]["all present"]
    assert "--reader" in ran("eval", "expressions", "store", "--set", "a=b", code=2).stderr
    assert "NAME=VALUE" in ran("eval", "expressions", photos, "--reader", "csv", "--set", "a", code=2).stderr
    assert "index.json" in ran("eval", "expressions", photos, code=1).stderr


# Visual questions


class Answers(BaseHTTPRequestHandler):
    """An OpenAI-compatible server: says "red" of everything, and to a judge that it is right."""

    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        self.server.keys.append(self.headers["authorization"] or "")
        judging = isinstance(body["messages"][-1]["content"], str)
        message = {"content": "Rating: [[1]]" if judging else "red"}
        answer = {
            "choices": [{"message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 1},
        }
        status, content = (
            (200, answer) if self.server.status == 200 else (self.server.status, {"error": "down"})
        )
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output quiet."""


class Server(ThreadingHTTPServer):
    """Keeps what it was sent; `status` is that of every answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.bodies: list[dict] = []
        self.keys: list[str] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    pytest.importorskip("httpx")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("IVM_LMM", "small-lmm")
        monkeypatch.setenv("IVM_LMM_URL", server.url)
        monkeypatch.delenv("IVM_LMM_KEY", raising=False)
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def own(tmp_path: Path, picture: Picture) -> Path:
    """Three questions about two pictures: one in words, one of options, one for a judge."""
    Image.fromarray(picture(60, 90, red=(20, 10, 60, 40))).save(tmp_path / "a.png")
    Image.fromarray(picture(60, 90, blue=(20, 10, 60, 40))).save(tmp_path / "b.png")
    lines = [
        {"image": "a.png", "question": "Which colour has the red box?", "answer": "red", "kind": "words"},
        {
            "image": "b.png",
            "question": "Is the box blue or red?",
            "options": ["blue", "red"],
            "answer": "blue",
        },
        {"image": "b.png", "question": "What is blue?", "answer": "a box", "scoring": "judge"},
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_vqa_asks_compares_and_asks_nothing_twice(
    ran: Callable[..., Result], own: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IVM_LMM_KEY", "secret")
    command = ["eval", "vqa", "own", own, "-o", "out", "-m", "overlay", "-m", "overlay+crop"]
    command += ["--judge", "small-llm", "--prices", 1, 2, "--parallel", 2, "--request", "max_tokens=9"]
    first = ran(*command)
    asked = len(server.bodies)
    for words in (
        "your own questions: 3 questions, 2 pictures",
        "asked of small-lmm",
        "overlay - off",
        "question",
    ):
        assert words in first.stdout
    assert set(server.keys) == {"Bearer secret"}
    assert {body["model"] for body in server.bodies} == {"small-lmm", "small-llm"}
    assert all(
        b["temperature"] == 0 and b["max_tokens"] == 9 for b in server.bodies if b["model"] == "small-lmm"
    )
    again = ran(*command)
    assert again.stdout == first.stdout
    assert len(server.bodies) == asked
    report = json.loads(Path("out/report.json").read_text())
    assert report["complete"]
    assert report["judge"] == {"llm": "small-llm", "words": "ivm"}
    assert report["figures"]["scores"]["off"]["all"]["score"][0] == pytest.approx(2 / 3)
    assert report["request"] == {"temperature": 0, "max_tokens": 9}
    rows = [json.loads(line) for line in Path("out/side-by-side.jsonl").read_text().splitlines()]
    assert [row["off"]["score"] for row in rows] == [1.0, 0.0, 1.0]
    written = "".join(path.read_text() for path in Path("out").iterdir())
    assert "secret" not in written + first.output


def test_a_field_of_a_request_that_is_no_json_number_is_text(
    ran: Callable[..., Result], own: Path, server: Server
) -> None:
    fields = ["--request", "temperature=NaN", "--request", "top_p=1e999"]
    ran("eval", "vqa", "own", own, "--kind", "words", *fields)
    assert {(body["temperature"], body["top_p"]) for body in server.bodies} == {("NaN", "1e999")}


def test_vqa_dry_run_masks_and_asks_nobody(
    ran: Callable[..., Result], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IVM_LMM", raising=False)
    monkeypatch.delenv("IVM_LMM_URL", raising=False)
    result = ran("eval", "vqa", "own", own, "--dry-run")
    assert "3 questions about 2 pictures, 2 conditions (off, overlay+crop): 6 requests" in result.stdout
    assert "masks: overlay+crop" in result.stdout
    assert not Path("own-vqa").exists()
    (own.parent / "b.png").unlink()
    broken = ran("eval", "vqa", "own", own, "--dry-run", code=1)
    assert "2 questions have no readable picture" in broken.stderr
    (own.parent / "a.png").unlink()
    assert "--images must name their folder" in ran("eval", "vqa", "own", own, "--dry-run", code=1).stderr


def test_vqa_tells_what_is_left_without_a_judge_and_judges_later(
    ran: Callable[..., Result], own: Path, server: Server
) -> None:
    first = ran("eval", "vqa", "own", own, "-o", "out", code=1)
    assert "off 1, overlay+crop 1: wait for a judge" in first.stdout
    asked = len(server.bodies)
    ran("eval", "vqa", "own", own, "-o", "out", "--judge", "small-llm")
    assert len(server.bodies) == asked + 1  # both conditions were answered alike: judged once


def test_vqa_sends_a_judge_elsewhere_no_key_but_its_own(
    ran: Callable[..., Result], own: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IVM_LMM_KEY", "mine")
    monkeypatch.setenv("JUDGES", "theirs")
    elsewhere = server.url.replace("127.0.0.1", "localhost")

    def keys_of(*options: object) -> set[str]:
        server.bodies.clear()
        server.keys.clear()
        ran("eval", "vqa", "own", own, "-o", f"out{len(options)}", "--judge", "small-llm", *options)
        sent = zip(server.bodies, server.keys, strict=True)
        return {key for body, key in sent if body["model"] == "small-llm"}

    assert keys_of() == {"Bearer mine"}
    assert keys_of("--judge-url", elsewhere) == {""}
    assert keys_of("--judge-url", elsewhere, "--judge-key-variable", "JUDGES") == {"Bearer theirs"}


def test_vqa_takes_the_publishers_words_for_the_judge_where_they_lie(
    ran: Callable[..., Result], own: Path, server: Server
) -> None:
    words = {"name": "single-math-v2", "prompt_template": "Rate {answer} for {question}: {ref_answer_1}"}
    (own.parent / "judge_prompts.jsonl").write_text(json.dumps(words))
    ran("eval", "vqa", "own", own, "-o", "out", "--judge", "small-llm", "--judge-url", server.url)
    asked = [body["messages"] for body in server.bodies if body["model"] == "small-llm"]
    assert asked == [[{"role": "user", "content": "Rate red for What is blue?: a box"}]]
    report = json.loads(Path("out/report.json").read_text())
    assert report["judge"]["words"] == "judge_prompts.jsonl: single-math-v2"
    assert report["figures"]["cost"]["judge"]["requests"] == 1


def test_vqa_of_a_server_that_is_down(ran: Callable[..., Result], own: Path, server: Server) -> None:
    server.status = 400
    result = ran("eval", "vqa", "own", own, "-o", "out", code=1)
    assert "5 questions in a row got no answer" in result.stderr
    assert not json.loads(Path("out/report.json").read_text())["complete"]
    server.status = 200
    ran("eval", "vqa", "own", own, "-o", "out", "--kind", "words")


def test_vqa_of_wrong_options(ran: Callable[..., Result], own: Path, server: Server) -> None:
    def refused(*options: object, code: int = 2) -> str:
        return ran("eval", "vqa", "own", own, *options, code=code).stderr

    assert "mode must be one of" in refused("-m", "overlie")
    assert "such as max_tokens=100" in refused("--request", "max_tokens")
    assert "such as max_tokens=100" in refused("--request", "model=other")
    assert "--judge must name" in refused("--judge-url", "http://localhost/v1")
    assert "--judge must name" in refused("--judge-key-variable", "KEY")
    assert "the kind must be one of" in refused("--kind", "none")
    assert "cannot read" in refused("--judge", "x", "--judge-file", "nowhere.jsonl", code=1)
    own.write_text(own.read_text().rpartition("\n")[0])
    assert "needs a judge" in refused("--judge", "x")
    assert "the benchmark must be one of" in ran("eval", "vqa", "vstart", own, code=2).stderr
    assert server.bodies == []


def test_vqa_needs_an_lmm_or_a_dry_run(
    ran: Callable[..., Result], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IVM_LMM", raising=False)
    monkeypatch.delenv("IVM_LMM_URL", raising=False)
    assert "--lmm, --url" in ran("eval", "vqa", "own", own, code=2).stderr


def test_benchmarks_are_listed_with_address_and_files(ran: Callable[..., Result]) -> None:
    text = ran("eval", "benchmarks").stdout
    for words in (
        "vstar",
        "huggingface.co/datasets/craigwu/vstar_bench",
        "AoiDragon/POPE",
        "AdaCheng/EgoThink",
    ):
        assert words in text
