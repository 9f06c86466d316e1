from __future__ import annotations

import json
from pathlib import Path

import pytest

from ivm.errors import DataError
from ivm.evaluation.questions import Question
from ivm.evaluation.scoring import OWN_JUDGE, find_letter, read_judge, read_rating, score, yes_or_no

COLOURS = ("rubber", "cotton", "kevlar", "leather")
SIDES = ("The dog is on the left side of the cat", "The dog is on the right side of the cat")


def question(rule, *answers, options=()):
    return Question("q", Path("a.jpg"), "a", "what?", "what?", answers, rule, "kind", options)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("B", "B"),
        ("b.", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B. cotton", "B"),
        ("(B) cotton", "B"),
        ("B: it looks like cotton", "B"),
        ("The answer is B.", "B"),
        ("The correct answer is (B).", "B"),
        ("Answer: B", "B"),
        ("It might be option A, but the answer is C", "C"),
        ("I think it is (D), because it shines.", "D"),
        ("The glove is made of cotton.", "B"),
        ("Cotton", "B"),
        ("A glove of some material", ""),  # the article is no letter
        ("cotton or leather", ""),
        ("(A) or (B)", ""),
        ("A: no. B: perhaps. The answer is (B), for option C is wrong.", "B"),
        ("Option B it is; option C is not.", ""),
        ("**Answer:** B", "B"),
        ("The answer is **(B) cotton**", "B"),
        ("the answer is a glove of cotton", "B"),
        ("E", ""),
        ("I cannot see a glove.", ""),
        ("the answer is not visible", ""),
        ("A, B", ""),
        ("A, B and C", ""),
        ("The answer is A or B", ""),
        ("Answer: A and C.", ""),
        ("option A or B", ""),
        ("A. rubber\nB. cotton\nC. kevlar\nD. leather", ""),  # says the options again, and no more
        ("B, A is wrong", "B"),
        ("B. cotton\n\nIt is soft.", "B"),
    ],
)
def test_letters_are_found_and_doubtful_ones_are_not(text, right):
    assert find_letter(text, COLOURS) == right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Answer: A blue umbrella.", "B"),
        ("The answer is A blue umbrella on the sand", "B"),
        ("Answer: A red kite", "A"),
        ("The answer is A because it flies.", "A"),
        ("Answer: A", "A"),
        ("Answer: A. Blue umbrella", "A"),  # a sign after it: a letter
    ],
)
def test_an_article_is_no_letter_where_an_option_follows(text, right):
    assert find_letter(text, ("red kite", "blue umbrella", "dog")) == right


def test_options_that_are_sentences():
    assert find_letter("The dog is on the left side of the cat.", SIDES) == "A"
    assert find_letter("on the left", SIDES) == ""
    assert find_letter("right", ("right", "bottom right")) == "A"
    assert find_letter("It is at the bottom right.", ("right", "bottom right")) == "B"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", "yes"),
        ("No, there is no dog.", "no"),
        ("There is not a dog in the image", "no"),
        ("Yes. There is no cat, though", "yes"),  # only the first sentence counts
        ("no", "no"),
        ("NO", "yes"),  # as the publisher's script has it
        ("I see a knot", "yes"),
    ],
)
def test_yes_and_no_are_read_as_popes_script_reads_them(text, said):
    assert yes_or_no(text) == said


def test_scores_by_rule():
    right = question("choice", "B", options=COLOURS)
    assert score(right, "B").score == 1.0
    assert score(right, "(C)").score == 0.0
    assert not score(right, "(C)").unclear
    assert score(right, "no idea").unclear
    assert score(right, "no idea").score == 0.0
    assert score(question("yes-no", "no"), "No.").score == 1.0
    exact = question("exact", "The STOP sign!", "halt")
    assert score(exact, "a stop sign").score == 1.0
    assert score(exact, "stop").score == 0.0
    assert score(question("judge", "red"), "red") is None


def test_an_empty_answer_is_unclear_whatever_the_rule():
    for rule in ("yes-no", "exact", "judge"):
        verdict = score(question(rule, "yes"), "  <think>Yes, I see it")
        assert verdict.unclear
        assert verdict.score == 0.0
    assert score(question("choice", "A", options=COLOURS), "<think>B? (B)</think>\nA").read == "A"


def test_thoughts_whose_first_mark_the_server_wrote_are_no_answer():
    assert score(question("yes-no", "yes"), "Is it there? No wait.\n</think>\n\nYes").read == "yes"
    assert score(question("yes-no", "yes"), "the end </think>").unclear


@pytest.mark.parametrize(
    ("right", "said", "worth"),
    [
        ("+", "-", 0.0),  # nothing but punctuation
        ("+", "+", 1.0),
        ("A", "a.", 1.0),  # nothing but an article
        ("A", "The.", 0.0),
        ("红色", "红色。", 1.0),
        ("stop", "“Stop”", 1.0),
        ("caf\u00e9", "cafe\u0301", 1.0),
    ],
)
def test_texts_of_signs_alone_and_of_other_scripts_are_compared_as_they_read(right, said, worth):
    assert score(question("exact", right), said).score == worth


def test_the_judge_gets_every_reference():
    text = OWN_JUDGE.messages(question("judge", "wood", "timber"), "oak")[-1]["content"]
    assert "Reference: wood or timber" in text


def test_the_judge_gets_question_reference_and_answer_untouched():
    asked = question("judge", "a {question} mark")
    text = OWN_JUDGE.messages(asked, "I say {ref_answer_1}")[-1]["content"]
    assert "Reference: a {question} mark" in text
    assert "judge: I say {ref_answer_1}" in text
    assert "Question: what?" in text


def test_the_publishers_words_are_read_from_their_file(tmp_path):
    template = "Q {question} R {ref_answer_1} A {answer}: [[rating]]"
    entries = [
        {"name": "other", "system_prompt": "", "prompt_template": "x"},
        {"name": "single-math-v2", "system_prompt": "Help.", "prompt_template": template},
    ]
    path = tmp_path / "judge_prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, entries)))
    messages = read_judge(path).messages(question("judge", "red"), "blue")
    assert messages == [
        {"role": "system", "content": "Help."},
        {"role": "user", "content": "Q what? R red A blue: [[rating]]"},
    ]
    with pytest.raises(DataError, match=r"jsonl:1: .*\{question\}"):
        read_judge(path, "other")
    with pytest.raises(DataError, match="an entry 'none'"):
        read_judge(path, "none")
    with pytest.raises(DataError, match="cannot read"):
        read_judge(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Rating: [[0.5]]", 0.5),
        ("[[1]] as it says", 1.0),
        ("Rating: [0]", 0.0),
        ("see [3], so [[1.0]]", 1.0),
        ("Rating: 1", None),
        ("Rating: [[7]]", None),
        ("<think>perhaps [[0]]?</think> Rating: [[1]]", 1.0),
    ],
)
def test_ratings(text, rating):
    assert read_rating(text) == rating
