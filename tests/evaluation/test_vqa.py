"""Masking is what makes the fake LMM answer right: the whole way, with nothing asked twice."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import pytest
from PIL import Image

from ivm.errors import InstructionError, LMMError, OptionError
from ivm.evaluation.questions import read_questions
from ivm.evaluation.scoring import OWN_JUDGE, Judge
from ivm.evaluation.vqa import ANSWERS, JUDGEMENTS, OFF, Setup, ask, judge, look, outcomes, size_of_job
from ivm.evaluation.vqa_report import summarise

MODES = ("overlay", "overlay+crop")


@pytest.fixture
def setup(fake_lmm, colour_masker):
    return Setup(fake_lmm.client(), colour_masker, MODES)


@pytest.fixture
def questions(vstar):
    return read_questions("vstar", vstar)


def scores(found, condition):
    return {one.question.id: one.score for one in found if one.condition == condition}


def test_masking_turns_wrong_answers_right(questions, setup, fake_lmm, tmp_path):
    folder = tmp_path / "new" / "folder"
    steps = []
    ask(questions, setup, folder, progress=steps.append)
    found = outcomes(questions, setup, folder)
    assert {one.state for one in found} == {"answered"}
    # Where something large distracts, the fake LMM is wrong about the whole picture, and there alone.
    assert [scores(found, OFF)[q.id] for q in questions] == [0, 1, 0, 0, 1, 0]
    for mode in MODES:
        assert set(scores(found, mode).values()) == {1.0}
    assert len(fake_lmm.requests) == 18
    assert (steps[0], steps[-1]) == (0, 18)
    masked = [one.line for one in found if one.condition == "overlay"]
    assert all(line["target_kept"] > 0.9 and 0.02 < line["kept_area"] < 0.2 for line in masked)
    assert all(line["found"] and not line["kept_whole"] for line in masked)
    assert "kept_area" not in next(one.line for one in found if one.condition == OFF)


def test_the_lmm_is_asked_the_published_text_and_the_masker_the_question_alone(
    questions, setup, fake_lmm, tmp_path, monkeypatch
):
    heard = []
    masker = type(setup.masker).__call__
    monkeypatch.setattr(
        type(setup.masker), "__call__", lambda self, f, text: heard.append(text) or masker(self, f, text)
    )
    ask(questions[:1], setup, tmp_path)
    assert heard == ["What is the colour of the red box?"]
    assert {body["messages"][-1]["content"][-1]["text"] for body in fake_lmm.requests} == {questions[0].text}


def test_nothing_is_asked_twice(questions, setup, fake_lmm, tmp_path, colour_backend):
    ask(questions[:4], setup, tmp_path)
    assert len(fake_lmm.requests) == 12
    encoded = len(colour_backend.encoded)
    assert size_of_job(questions, setup, tmp_path) == (12, 18)
    ask(questions, setup, tmp_path)
    assert len(fake_lmm.requests) == 18
    assert len(colour_backend.encoded) == encoded + 2  # what was answered is not masked again, either
    ask(questions, setup, tmp_path)
    assert len(fake_lmm.requests) == 18
    more = Setup(setup.lmm, setup.masker, (*MODES, "blur"))
    ask(questions, more, tmp_path)
    assert len(fake_lmm.requests) == 24  # the new mode alone
    other = Setup(fake_lmm.client(options={"temperature": 1}), setup.masker, MODES)
    ask(questions[:1], other, tmp_path)
    assert len(fake_lmm.requests) == 27  # another question to the server
    assert {one.state for one in outcomes(questions, setup, tmp_path)} == {"answered"}


def test_a_picture_that_masking_leaves_whole_is_asked_about_once(tmp_path, vstar, fake_lmm, colour_masker):
    line = {"image": "direct_attributes/sa_0.jpg", "question": "What is on it?", "answer": "blue"}
    (vstar / "questions.jsonl").write_text(json.dumps(line))
    questions = read_questions("own", vstar)
    setup = Setup(fake_lmm.client(), colour_masker, MODES)
    ask(questions, setup, tmp_path, parallel=3)
    assert len(fake_lmm.requests) == 1
    off, *masked = outcomes(questions, setup, tmp_path)
    assert off.score == 1.0
    for one in masked:
        assert one.score == 1.0
        assert one.line["kept_whole"]
        assert one.line["same_as"] == off.line["key"]
        assert "usage" not in one.line


def test_the_same_question_in_two_files_is_paid_once(pope, fake_lmm, colour_masker, tmp_path):
    questions = read_questions("pope", pope)
    setup = Setup(fake_lmm.client(), colour_masker, ("overlay",))
    ask(questions, setup, tmp_path, parallel=2)
    found = outcomes(questions, setup, tmp_path)
    assert {one.score for one in found} == {1.0}
    # 2 pictures: 1 thing there, asked for with masking off and on; 2 absent, whose picture stays whole.
    assert len(fake_lmm.requests) == 2 * (2 + 2)


def test_pictures_are_encoded_once_for_their_questions(pope, setup, fake_lmm, tmp_path, colour_backend):
    questions = [q for q in read_questions("pope", pope) if q.kind == "random"]
    ask(questions, setup, tmp_path)
    assert len(colour_backend.encoded) == 2


def test_errors_are_no_wrong_answers_and_are_asked_again(questions, setup, fake_lmm, tmp_path):
    fake_lmm.failures = [None, None, None, 400, httpx.ReadTimeout("slow"), None]
    ask(questions, setup, tmp_path)
    found = outcomes(questions, setup, tmp_path)
    wrong = [one for one in found if one.state == "error"]
    assert [(one.question.id, one.condition) for one in wrong] == [("vstar/1", OFF), ("vstar/1", "overlay")]
    assert "400" in wrong[0].error
    assert "does not answer" in wrong[1].error
    assert len(fake_lmm.requests) == 18
    ask(questions, setup, tmp_path)
    assert {one.state for one in outcomes(questions, setup, tmp_path)} == {"answered"}
    assert len(fake_lmm.requests) == 20


def test_an_instruction_that_the_masker_refuses_is_an_error_of_its_masked_conditions(
    questions, setup, fake_lmm, tmp_path, monkeypatch
):
    masker = type(setup.masker).__call__

    def short(self, features, text):
        if text == questions[1].instruction:
            raise InstructionError("at most 3 tokens for this model")
        return masker(self, features, text)

    monkeypatch.setattr(type(setup.masker), "__call__", short)
    ask(questions, setup, tmp_path)
    found = outcomes(questions, setup, tmp_path)
    refused = {(one.question.id, one.condition): one.error for one in found if one.state == "error"}
    same = [question.id for question in questions if question.instruction == questions[1].instruction]
    assert refused == {(id_, mode): "at most 3 tokens for this model" for id_ in same for mode in MODES}
    assert sum(one.state == "answered" for one in found) == 18 - len(refused) > 6


def test_answers_about_the_masks_of_another_model_by_the_same_name_do_not_count(
    questions, setup, fake_lmm, tmp_path, monkeypatch
):
    ask(questions, setup, tmp_path)
    monkeypatch.setattr(setup.masker, "fingerprint", "trained further")
    assert size_of_job(questions, setup, tmp_path) == (6, 18)  # the whole pictures are as they were
    ask(questions, setup, tmp_path)
    assert size_of_job(questions, setup, tmp_path) == (18, 18)
    assert len(fake_lmm.requests) == 18  # its masks are the same here: the same request is paid once


def test_a_missing_or_damaged_picture_is_an_error_of_its_questions(questions, setup, fake_lmm, tmp_path):
    questions[0].image.unlink()
    questions[1].image.write_bytes(b"no picture")
    ask(questions, setup, tmp_path)
    found = outcomes(questions, setup, tmp_path)
    assert {one.question.id for one in found if one.state == "error"} == {"vstar/0", "vstar/1"}
    assert len(fake_lmm.requests) == 12
    seen, requests = look(questions, setup, tmp_path)
    assert sum(one.state == "error" for one in seen) == 6
    assert requests == 0


def test_a_picture_that_is_too_large_to_be_sent_is_an_error_of_its_questions(
    questions, fake_lmm, colour_masker, tmp_path
):
    Image.new("RGB", (70_000, 2)).save(questions[0].image.with_suffix(".png"))
    wide = replace(questions[0], image=questions[0].image.with_suffix(".png"))
    setup = Setup(fake_lmm.client(), colour_masker, ("overlay",), longest=0)
    ask([wide, questions[1]], setup, tmp_path)
    found = outcomes([wide, questions[1]], setup, tmp_path)
    assert [one.state for one in found] == ["error", "error", "answered", "answered"]
    assert "70000" in found[0].error
    assert len(look([wide, questions[1]], setup, tmp_path)[0]) == 4


def test_a_dead_server_ends_the_run_and_what_was_answered_stays(questions, setup, fake_lmm, tmp_path):
    fake_lmm.failures = [None, None, *[503] * 20]
    with pytest.raises(LMMError, match=r"in a row.*503"):
        ask(questions, setup, tmp_path)
    assert sum(one.state == "answered" for one in outcomes(questions, setup, tmp_path)) == 2
    fake_lmm.failures = []
    ask(questions, setup, tmp_path)
    assert {one.state for one in outcomes(questions, setup, tmp_path)} == {"answered"}


def test_look_masks_all_and_asks_nobody(questions, setup, fake_lmm, tmp_path):
    folder = tmp_path / "none"
    steps = []
    seen, requests = look(questions, setup, folder, steps.append)
    assert fake_lmm.requests == []
    assert not folder.exists()
    assert requests == 18
    assert len(seen) == steps[-1] == 18
    assert all(one.state == "unasked" for one in seen)
    assert all(one.line["target_kept"] > 0.9 for one in seen if one.condition != OFF)
    ask(questions[:2], setup, folder)
    assert look(questions, setup, folder)[1] == 12


def test_both_pictures_are_sent_where_that_is_asked(questions, fake_lmm, colour_masker, tmp_path):
    setup = Setup(fake_lmm.client(), colour_masker, ("overlay",), show="both", longest=80)
    ask(questions[:1], setup, tmp_path)
    counts = [
        sum(part["type"] == "image_url" for part in body["messages"][-1]["content"])
        for body in fake_lmm.requests
    ]
    assert counts == [1, 2]


def test_judged_answers_are_rated_once(egothink, fake_lmm, colour_masker, tmp_path):
    questions = read_questions("egothink", egothink)
    setup = Setup(fake_lmm.client(), colour_masker, ("overlay",))
    ask(questions, setup, tmp_path)
    assert {one.state for one in outcomes(questions, setup, tmp_path)} == {"unjudged"}
    asked = len(fake_lmm.requests)
    by = fake_lmm.client(options={"temperature": 0})
    steps = []
    judge(questions, setup, tmp_path, by, progress=steps.append)
    # Masked and whole, the fake LMM says the same: three different answers to rate.
    assert len(fake_lmm.requests) == asked + 3
    found = outcomes(questions, setup, tmp_path, by)
    assert scores(found, OFF) == {"Activity/1": 1.0, "Activity/2": 0.0, "Object/attribute/1": 1.0}
    cost = summarise(found)["cost"]
    assert (cost["judge"]["requests"], cost["judge"]["tokens_sent"]) == (3, 300)
    judge(questions, setup, tmp_path, by)
    assert len(fake_lmm.requests) == asked + 3
    assert len((tmp_path / JUDGEMENTS).read_text().splitlines()) == len(steps)
    # In other words, it is another judge.
    other = Judge("other", "", "{question} {ref_answer_1} {answer}\nReference: a\nAnswer to judge: a")
    assert {one.state for one in outcomes(questions, setup, tmp_path, by, other)} == {"unjudged"}


def test_a_judge_without_a_rating_is_an_error_not_a_wrong_answer(egothink, fake_lmm, colour_masker, tmp_path):
    questions = read_questions("egothink", egothink)[:1]
    setup = Setup(fake_lmm.client(), colour_masker, ())
    ask(questions, setup, tmp_path)
    fake_lmm.answer = lambda body: "I would rather not say."
    judge(questions, setup, tmp_path, fake_lmm.client())
    (one,) = outcomes(questions, setup, tmp_path, fake_lmm.client())
    assert one.state == "error"
    assert "rather not say" in one.error
    record = tmp_path / JUDGEMENTS  # what the error says is the way out
    assert f"whose key is {json.loads(record.read_text())['key']}, in {JUDGEMENTS}" in one.error
    fake_lmm.failures = [500]
    by = fake_lmm.client(options={"seed": 1})
    judge(questions, setup, tmp_path, by)
    (one,) = outcomes(questions, setup, tmp_path, by)
    assert one.state == "unjudged"
    assert "500" in one.error


def test_wrong_options_are_refused(fake_lmm, colour_masker):
    client = fake_lmm.client()
    with pytest.raises(OptionError, match="mode must be one of"):
        Setup(client, colour_masker, ("overlie",))
    with pytest.raises(OptionError, match="masked or both"):
        Setup(client, colour_masker, show="whole")
    with pytest.raises(OptionError, match="longest"):
        Setup(client, colour_masker, longest=3)
    with pytest.raises(OptionError, match="threshold"):
        Setup(client, colour_masker, threshold=2)
    assert Setup(client, colour_masker, ("blur", "blur")).conditions == (OFF, "blur")
    assert OWN_JUDGE.name == "ivm"


def test_the_record_holds_no_key_and_no_picture(questions, fake_lmm, colour_masker, tmp_path):
    setup = Setup(fake_lmm.client(api_key="secret"), colour_masker)
    ask(questions, setup, tmp_path)
    text = (tmp_path / ANSWERS).read_text()
    assert "secret" not in text
    assert "base64" not in text
