from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ivm.annotation.answers import Answers
from ivm.errors import DataError, LMMError, OutputError
from ivm.lmm import LMM

httpx = pytest.importorskip("httpx")


class Server:
    """Answers with the texts it is given, in turn; a number is a status."""

    def __init__(self, *texts):
        self.texts, self.bodies = list(texts), []
        self.lock = threading.Lock()

    def __call__(self, request):
        with self.lock:
            self.bodies.append(json.loads(request.content))
            text = self.texts.pop(0)
        if isinstance(text, int):
            return httpx.Response(text, json={"error": {"message": "not today"}})
        return httpx.Response(200, json={"choices": [{"message": {"content": text}}]})


def answers(server, path=None, **options):
    chat = LMM("small", "http://localhost:1/v1", retries=0, transport=httpx.MockTransport(server), **options)
    return Answers(chat, path)


def check(value):
    if not isinstance(value, dict) or "n" not in value:
        raise DataError("there must be n")
    return value["n"]


def messages(text="how many?"):
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    "text",
    [
        '{"n": 3}',
        '```json\n{"n": 3}\n```',
        'Sure! {"n": 3}',
        '  {"n": 3}\n',
        'Here:\n```\n{"n": 3}\n```\nDone.',
        '{"n": 3}\n\nHope this helps!',
        '<think>{"n"...}? No.</think>{"n": 3}',
        'The form is {"n": ...}.\n</think>\n{"n": 3}',
    ],
)
def test_answers_are_read_with_what_llms_put_around_them(text):
    assert answers(Server(text)).ask(messages(), "", check) == 3


@pytest.mark.parametrize("wrong", ["three", 'Here it is: {"n": 3', '{"n"', "} {", "[3"])
def test_a_wrong_answer_is_told_and_asked_once_more(wrong):
    server = Server(wrong, '{"n": 3}')
    assert answers(server).ask(messages(), "", check) == 3
    again = server.bodies[1]["messages"]
    assert again[:2] == [*messages(), {"role": "assistant", "content": wrong}]
    assert "must be JSON" in again[2]["content"]


def test_two_wrong_answers_fail_for_good(tmp_path):
    server = Server("three", '{"m": 3}')
    kept = answers(server, tmp_path / "a.jsonl")
    for restart in (False, False, True):
        asked = answers(Server(), tmp_path / "a.jsonl") if restart else kept
        with pytest.raises(DataError, match="no-answer: small gave no usable answer: there must be n"):
            asked.ask(messages(), "", check)
    assert (kept.asked, len(server.bodies)) == (2, 2)


def test_nothing_is_asked_twice(tmp_path):
    file = tmp_path / "deep" / "a.jsonl"
    first = answers(Server('{"n": 1}', '{"n": 2}'), file)
    assert [first.ask(messages(text), text, check) for text in ("a", "b", "a")] == [1, 2, 1]
    later = answers(Server('{"n": 3}'), file)
    assert later.knows(messages("b"))
    assert not later.knows(messages("c"))
    assert [later.ask(messages(text), text, check) for text in ("b", "c", "a")] == [2, 3, 1]
    assert later.asked == 1
    assert [json.loads(line)["about"] for line in file.read_text().splitlines()] == ["a", "b", "c"]


def test_another_model_or_option_is_another_question(tmp_path):
    answers(Server('{"n": 1}'), tmp_path / "a").ask(messages(), "", check)
    warm = answers(Server('{"n": 2}'), tmp_path / "a", options={"temperature": 1})
    assert warm.ask(messages(), "", check) == 2


def test_a_torn_line_is_asked_again(tmp_path):
    file = tmp_path / "a.jsonl"
    first = answers(Server('{"n": 1}', '{"n": 2}'), file)
    first.ask(messages("a"), "a", check)
    first.ask(messages("b"), "b", check)
    file.write_bytes(file.read_bytes()[:-20])
    again = answers(Server('{"n": 5}'), file)
    assert (again.ask(messages("a"), "a", check), again.ask(messages("b"), "b", check)) == (1, 5)
    assert answers(Server(), file).ask(messages("b"), "b", check) == 5


def test_an_answer_that_the_disk_takes_in_part_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda file, content, write=os.write: write(file, content[:9]))
    with pytest.raises(OutputError, match="No space left"):
        answers(Server('{"n": 1}'), tmp_path / "a.jsonl").ask(messages(), "", check)


def test_many_threads_ask_one_question_once():
    server = Server(*['{"n": 1}'] * 9)
    shared = answers(server)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: shared.ask(messages(), "", check), range(40))) == {1}
    assert shared.asked == 1


def test_a_server_that_is_down_stops_the_run_and_nothing_is_kept(tmp_path):
    file = tmp_path / "a.jsonl"
    asked = answers(Server(500, 200, 500, 500, 500), file)
    asked.chat.transport.handler.texts[1] = '{"n": 1}'
    with pytest.raises(DataError, match=r"no-answer: .* refused with status 500: not today"):
        asked.ask(messages("a"), "a", check)
    assert asked.ask(messages("b"), "b", check) == 1
    for text in "cd":
        with pytest.raises(DataError, match="no-answer"):
            asked.ask(messages(text), text, check)
    with pytest.raises(LMMError, match="failed 3 times in a row, so the run is stopped"):
        asked.ask(messages("e"), "e", check)
    assert answers(Server('{"n": 7}'), file).ask(messages("c"), "c", check) == 7


def test_another_file_is_told(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"uuid": 1}\n')
    with pytest.raises(DataError, match=r"a.jsonl:1 is no answer"):
        answers(Server(), tmp_path / "a.jsonl")
    (tmp_path / "notes.txt").write_text("mine\n")
    with pytest.raises(DataError, match=r"notes.txt:1 is no answer"):
        answers(Server(), tmp_path / "notes.txt")
