"""The readers, on folders in the publishers' form; the right answer must survive the reading."""

from __future__ import annotations

import json
import re

import pytest

from ivm.errors import DataError, OptionError
from ivm.evaluation.questions import BENCHMARKS, RULES, choose, letter, read_questions


def options_of(question):
    return dict(re.findall(r"^\(([A-J])\) (.+)$", question.text, re.MULTILINE))


def target(question):
    return re.search(r"of the (\w+) box", question.text)[1]


def test_vstar_from_its_question_file(vstar):
    questions = read_questions("vstar", vstar)
    assert [q.id for q in questions] == [f"vstar/{n}" for n in range(6)]
    assert [q.kind for q in questions] == ["direct_attributes"] * 4 + ["relative_position"] * 2
    for q in questions:
        assert q.image.is_file()
        assert q.instruction == f"What is the colour of the {target(q)} box?"
        assert options_of(q)[q.answers[0]] == target(q)
        assert q.options == tuple(options_of(q).values())
        assert q.boxes == ((20.0, 60.0, 50.0, 90.0),)
    assert {q.answers[0] for q in questions} == set("ABCD")
    assert read_questions("vstar", vstar / "test_questions.jsonl") == questions


def test_vstar_from_its_annotations_where_the_first_option_is_right(vstar):
    (vstar / "test_questions.jsonl").unlink()
    questions = read_questions("vstar", vstar)
    assert len(questions) == 6
    assert questions[0].id == "vstar/direct_attributes/sa_0"
    for q in questions:
        assert options_of(q)[q.answers[0]] == target(q)
        assert q.image.is_file()
    assert len({q.answers[0] for q in questions}) > 1  # not always the first letter
    assert read_questions("vstar", vstar) == questions


def test_pope_has_a_kind_for_each_file(pope):
    questions = read_questions("pope", pope)
    assert len(questions) == 8
    assert {q.kind for q in questions} == {"random", "popular"}
    assert [q.answers[0] for q in questions[:4]] == ["yes", "no", "yes", "no"]
    assert len({q.image_id for q in questions}) == 2
    elsewhere = pope.parent / "photos"
    (pope / "val2014").rename(elsewhere)
    with pytest.raises(DataError, match="val2014"):
        read_questions("pope", pope)
    assert all(q.image.is_file() for q in read_questions("pope", pope, elsewhere))
    assert len(read_questions("pope", pope / "coco_pope_random.json", elsewhere)) == 4


def test_egothink_has_folders_of_one_and_two_levels(egothink):
    questions = read_questions("egothink", egothink)
    assert [(q.id, q.kind) for q in questions] == [
        ("Activity/1", "Activity"),
        ("Activity/2", "Activity"),
        ("Object/attribute/1", "Object/attribute"),
    ]
    assert {q.rule for q in questions} == {"judge"}
    assert all(q.image.is_file() for q in questions)
    assert questions[0].answers == ("red",)
    clone = egothink.parent / "clone"
    clone.mkdir()
    egothink.rename(clone / "EgoThink")
    assert [q.id for q in read_questions("egothink", clone)] == [f"EgoThink/{q.id}" for q in questions]


def test_your_own_questions(tmp_path):
    lines = [
        {
            "image": "a.jpg",
            "question": "Which?",
            "options": ["left", "right"],
            "answer": "right",
            "kind": "side",
        },
        {"image": "a.jpg", "question": "Which word?", "answer": ["stop", "halt"], "id": 7},
        {"image": "b.jpg", "question": "Is it?", "answer": "no", "scoring": "yes-no", "instruction": "it"},
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    first, second, third = read_questions("own", tmp_path)
    assert (first.answers, first.rule, first.kind, first.id) == (("B",), "choice", "side", "line 1")
    assert options_of(first) == {"A": "left", "B": "right"}
    assert (second.answers, second.rule, second.id) == (("stop", "halt"), "exact", "7")
    assert (third.instruction, third.text) == ("it", "Is it?")
    assert first.image_id == second.image_id != third.image_id
    assert {first.rule, second.rule, third.rule} <= set(RULES)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"image": "../a.jpg", "question": "q", "answer": "a"}, "must lie in"),
        ({"image": "a.jpg", "question": "q"}, "'answer'"),
        ({"image": "a.jpg", "question": " ", "answer": "a"}, "empty"),
        ({"image": "a.jpg", "question": "q", "answer": "c", "options": ["a", "b"]}, "one of the options"),
        ({"image": "a.jpg", "question": "q", "answer": "a", "options": ["a", "a"]}, "different"),
        ({"image": "a.jpg", "question": "q", "answer": "a", "scoring": "choice"}, "options"),
        ({"image": "a.jpg", "question": "q", "answer": "perhaps", "scoring": "yes-no"}, "yes or no"),
        ({"image": "a.jpg", "question": "q", "answer": []}, "empty"),
        ({"image": "a.jpg", "question": "q", "answer": "a", "kind": "all"}, "row of all kinds"),
        ([], "JSON object"),
    ],
)
def test_a_wrong_line_is_named_by_file_and_number(tmp_path, line, words):
    good = {"image": "a.jpg", "question": "q", "answer": "a"}
    (tmp_path / "questions.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(line)}\n")
    with pytest.raises(DataError, match=words) as caught:
        read_questions("own", tmp_path)
    assert "questions.jsonl:2:" in str(caught.value)


def test_what_is_missing_is_told_with_the_address(tmp_path, vstar):
    with pytest.raises(DataError, match="craigwu/vstar_bench"):
        read_questions("vstar", tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in ("vstar", "egothink"):
        with pytest.raises(DataError, match="has no question"):
            read_questions(name, empty)
    with pytest.raises(OptionError, match="did you mean 'vstar'"):
        read_questions("vstr", vstar)
    with pytest.raises(DataError, match="folder of the photos"):
        read_questions("vstar", vstar, tmp_path / "nowhere")
    line = {"image": "a.jpg", "question": "q", "answer": "a", "id": "x"}
    (empty / "questions.jsonl").write_text(f"{json.dumps(line)}\n" * 2)
    with pytest.raises(DataError, match="'x' comes twice"):
        read_questions("own", empty)
    (vstar / "test_questions.jsonl").write_text('{"image": "a.jpg", "text": "no options", "label": "A"}\n')
    with pytest.raises(DataError, match=r"\(A\), \(B\)"):
        read_questions("vstar", vstar)


@pytest.mark.parametrize("label", ["", "()", "AB", "E"])
def test_a_label_must_be_one_letter_of_the_options(vstar, label):
    file = vstar / "test_questions.jsonl"
    file.write_text(json.dumps(json.loads(file.read_text().splitlines()[0]) | {"label": label}))
    with pytest.raises(DataError, match="jsonl:1: 'label' must be the letter of one of 4 options"):
        read_questions("vstar", vstar)


def test_boxes_must_be_finite(vstar):
    (vstar / "direct_attributes" / "sa_0.json").write_text('{"bbox": [[NaN, 0, 3, 3]]}')
    with pytest.raises(DataError, match=r"sa_0\.json: 'bbox' must be of finite numbers"):
        read_questions("vstar", vstar)


def test_a_larger_limit_keeps_the_questions_of_a_smaller_one(vstar):
    questions = read_questions("vstar", vstar)
    before: set[str] = set()
    for limit in range(1, 7):
        drawn = choose(questions, limit=limit, seed=3)
        assert len(drawn) == limit
        assert [q.id for q in drawn] == sorted(q.id for q in drawn)
        assert before < {q.id for q in drawn}
        before = {q.id for q in drawn}
    assert choose(questions, limit=3, seed=3) != choose(questions, limit=3, seed=4)
    assert len(choose(questions, ["relative_position"])) == 2
    with pytest.raises(OptionError, match="direct_attributes"):
        choose(questions, ["relative"])


def test_every_benchmark_tells_address_files_and_scoring():
    for one in BENCHMARKS.values():
        assert one.title
        assert one.address
        assert one.tree
        assert one.scoring
    assert [letter(n) for n in range(3)] == ["A", "B", "C"]
