from __future__ import annotations

import json

import pytest

from ivm.annotation.answers import Answers
from ivm.annotation.llm import Llm
from ivm.errors import DataError, InstructionError
from ivm.lmm import LMM

httpx = pytest.importorskip("httpx")


def llm(*texts):
    waiting, bodies = list(texts), []

    def server(request):
        bodies.append(json.loads(request.content))
        text = waiting.pop(0)
        text = text if isinstance(text, str) else json.dumps(text)
        return httpx.Response(200, json={"choices": [{"message": {"content": text}}]})

    chat = LMM("small", "http://localhost:1/v1", transport=httpx.MockTransport(server))
    return Llm(Answers(chat)), bodies


def targets(*names, whole=False):
    return {"targets": list(names), "whole_image": whole}


def test_an_instruction_becomes_phrases():
    helper, bodies = llm(targets("red cup", " green  plate", "red cup"))
    named = helper.simplify(" put the cup on it ")
    assert (named.phrases, named.by, named.whole) == (("red cup", "green plate"), "llm small", False)
    system, user = bodies[0]["messages"]
    assert user == {"role": "user", "content": "put the cup on it"}
    assert '"targets"' in system["content"]
    assert helper.knows("put the cup on it")
    assert not helper.knows("another")


def test_the_whole_picture():
    named = llm(targets(whole=True))[0].simplify("describe it")
    assert (named.phrases, named.whole) == ((), True)


WRONG = {
    "a list": ["cup"],
    "a key too many": {**targets("cup"), "why": ""},
    "a key too few": {"targets": ["cup"]},
    "no target": targets(),
    "both": targets("cup", whole=True),
    "no text": targets(3),
    "empty": targets(" "),
    "signs": targets("--"),
    "too long": targets("x" * 81),
    "too many": targets(*"abcdefghi"),
    "not a boolean": {"targets": [], "whole_image": "yes"},
    "one text": {"targets": "cup", "whole_image": False},
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_every_other_form_is_refused(answer):
    helper, bodies = llm(answer, answer)
    with pytest.raises(DataError, match="no usable answer"):
        helper.simplify("the cup")
    assert "not usable" in bodies[1]["messages"][-1]["content"]


def test_a_phrase_becomes_instructions():
    helper, bodies = llm(
        {"instructions": ["a?", "a?"]}, {"instructions": ["drink", "what could I drink from?"]}
    )
    made = helper.compose("cup", 2)
    assert (made.instructions, made.by) == (("drink", "what could I drink from?"), "llm small")
    assert "2 different instructions, but there are 1" in bodies[1]["messages"][-1]["content"]
    assert bodies[0]["messages"][1]["content"] == "Phrase: cup\nNumber of instructions: 2"


def test_an_empty_instruction_is_not_asked():
    helper, bodies = llm()
    with pytest.raises(InstructionError):
        helper.simplify("  ")
    assert bodies == []
