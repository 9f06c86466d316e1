"""Whether an answer is right: letters of options, yes or no, accepted texts, a judging LLM's verdict.

Each rule is the publisher's where there is one: yes or no as POPE's evaluate.py reads it
(https://github.com/AoiDragon/POPE), the judge's scale and reading as EgoThink's gen_judgment.py and common.py
(https://github.com/AdaCheng/EgoThink). How a letter is found in an answer is ours: V*Bench publishes no rule
for answers in words. It is written to be strict: what names no option, or several, is unclear.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivm.annotation.answers import without_thoughts
from ivm.data.records import get, read_lines
from ivm.errors import DataError
from ivm.evaluation.questions import Question, letter

__all__ = ["OWN_JUDGE", "Judge", "Verdict", "find_letter", "read_judge", "read_rating", "score", "yes_or_no"]


@dataclass(frozen=True)
class Verdict:
    """What an answer is worth.

    Attributes:
        score: 0 to 1.
        read: what the answer was taken to say: a letter, "yes", "no", or the rating; empty if nothing.
        unclear: the answer could not be read. It scores 0, and is counted apart.
    """

    score: float
    read: str
    unclear: bool = False


def score(question: Question, text: str) -> Verdict | None:
    """The verdict on an answer; None where a judge has to give it.

    An empty answer is unclear under every rule. Thoughts (`without_thoughts`) are no part of an answer.
    """
    said = without_thoughts(text)
    if not said:
        return Verdict(0.0, "", unclear=True)
    if question.rule == "choice":
        chosen = find_letter(said, question.options)
        return Verdict(float(chosen == question.answers[0]), chosen, unclear=not chosen)
    if question.rule == "yes-no":
        heard = yes_or_no(said)
        return Verdict(float(heard == question.answers[0]), heard)
    if question.rule == "exact":
        plain = _plain(said)
        return Verdict(float(any(plain == _plain(answer) for answer in question.answers)), plain)
    return None


def yes_or_no(text: str) -> str:
    """ "no" if the first sentence has the word no, No or not, else "yes": POPE's evaluate.py, to the letter.

    So "NO" is a yes, and so is an answer that says neither: figures compare with published ones only if
    answers are read the same way.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(words) else "yes"


def find_letter(text: str, options: Sequence[str]) -> str:
    """The letter of the one option that an answer names; empty if it names none, or several.

    In this order: the answer is a letter; it says "answer is B" or "answer: B", of several the last; it
    begins with a letter and a sign ("(B) red", "B: red"), or says "option B" or "(B)", and no other letter in
    this way; it holds the words of one option. "Answer: A blue umbrella" is no A where an option reads so,
    and "A or B" names several.
    """
    last = letter(len(options) - 1)
    alone = rf"[*_`\s(\[]*([A-{last}a-{last.lower()}])[*_`\s)\].:,]*"
    if whole := re.fullmatch(alone, text):
        return whole[1].upper()
    one = rf"[*_`\s(\[]*([A-{last}])(?![\w'])"  # a letter by itself: not the article that opens a sentence
    said = list(re.finditer(rf"(?i:\banswer\b\W*(?:is\b\W*)?(?:option\b\W*)?){one}", text))
    if said and not _is_article(said[-1], text, options):
        return "" if _goes_on(said[-1], text, one) else str(said[-1][1])
    marked = list(re.finditer(rf"\(([A-{last}])\)", text))
    marked += re.finditer(rf"(?i:\b(?:option|choice)\b\W*?){one}", text)
    opening = rf"[*_`\s]*([A-{last}])[*_`)\].:,]"
    if re.match(opening, text):  # then later lines may be a repetition of the other options
        marked += re.finditer(f"^{opening}", text, re.MULTILINE)
    if marked:
        letters = {mark[1] for mark in marked}
        return letters.pop() if len(letters) == 1 and not _goes_on(marked[-1], text, one) else ""
    plain = f" {_plain(text)} "
    held = [
        words for words in (f" {_plain(option)} " for option in options) if words.strip() and words in plain
    ]
    # "right" lies within "bottom right": the longest option counts, if it holds the others.
    held = [words for words in held if not any(words != other and words in other for other in held)]
    places = [place for place, option in enumerate(options) if f" {_plain(option)} " in held]
    return letter(places[0]) if len(places) == 1 else ""


def _goes_on(letter_found: re.Match[str], text: str, one: str) -> bool:
    """Whether another letter stands beside a found one: "A, B", "A or B". "B, A is wrong" is no such list."""
    after = text[letter_found.end(1) :]
    return bool(re.match(rf"[*_`)\]\s]*(?:[,/&]|or\b|and\b){one}(?!\s+(?!or\b|and\b)[a-z])", after))


def _is_article(letter_found: re.Match[str], text: str, options: Sequence[str]) -> bool:
    """Whether an "A" opens the words of an option instead of naming the first."""
    after = text[letter_found.end() :]
    if letter_found[1] != "A" or not re.match(r"\s+\w", after):
        return False
    words = f"{_plain(after)} "
    return any(words.startswith(f"{_plain(option)} ") for option in options if _plain(option))


def _plain(text: str) -> str:
    """Lower case, single spaces, without punctuation and articles unless there is nothing else ("+", "A")."""
    lower = unicodedata.normalize("NFC", text).lower()
    words = "".join(" " if _is_punctuation(sign) else sign for sign in lower).split()
    return " ".join([word for word in words if word not in ("a", "an", "the")] or words or lower.split())


def _is_punctuation(sign: str) -> bool:
    return sign in string.punctuation or unicodedata.category(sign).startswith("P")  # of any language


@dataclass(frozen=True)
class Judge:
    """How a judging LLM is asked.

    Attributes:
        name: for reports.
        system: system message; empty for none.
        template: what it is asked, with {question}, {ref_answer_1} and {answer} in it.
    """

    name: str
    system: str
    template: str

    def messages(self, question: Question, answer: str) -> list[dict[str, Any]]:
        """The request for a verdict on an answer."""
        values = {
            "question": question.text,
            "ref_answer_1": " or ".join(question.answers),
            "answer": without_thoughts(answer),
        }
        # In one pass: an answer that holds "{question}" stays what it is.
        asked = re.sub(r"\{(question|ref_answer_1|answer)\}", lambda found: values[found[1]], self.template)
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": asked}]


OWN_JUDGE = Judge(
    "ivm",
    "You compare answers with references, and are fair and strict.",
    """\
A question about a picture was answered. You do not see the picture: judge only whether the answer says the
same as the reference. Wording and length do not count. An answer that says something else, or avoids the
question, is wrong.

Question: {question}
Reference: {ref_answer_1}
Answer to judge: {answer}

Give your reason in one sentence. Then give 1 if the answer says the same as the reference, 0.5 if it does so
in part, and 0 if it does not, in double square brackets, such as: Rating: [[0.5]]""",
)
"""Asks for the same scale as EgoThink's judge in our words: figures do not compare with published ones."""


def read_judge(path: Path, name: str = "single-math-v2") -> Judge:
    """The publisher's own words from EgoThink's judge_prompts.jsonl.

    Args:
        path: the file.
        name: which of its entries; the default is the one that gen_judgment.py uses for questions.

    Raises:
        DataError: the file or the entry is missing or malformed.
    """
    for number, item in read_lines(path):
        try:
            if isinstance(item, DataError):
                raise item
            if get(item, "name", str) != name:
                continue
            judge = Judge(
                f"{path.name}: {name}", get(item, "system_prompt", str, ""), get(item, "prompt_template", str)
            )
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from error
        if lacking := [
            part for part in ("{question}", "{ref_answer_1}", "{answer}") if part not in judge.template
        ]:
            raise DataError(f"{path}:{number}: 'prompt_template' must have {lacking[0]}")
        return judge
    raise DataError(f"{path} must have an entry {name!r}, but has none")


def read_rating(text: str) -> float | None:
    """The judge's rating, 0 to 1: the first number in double brackets, else in single ones; None without one.

    As EgoThink's common.py reads it, but for thoughts, which may hold other ratings; a number above 1 is no
    rating on its scale.
    """
    text = without_thoughts(text)
    found = re.search(r"\[\[(\d+\.?\d*)\]\]", text) or re.search(r"\[(\d+\.?\d*)\]", text)
    value = float(found[1]) if found else None
    return value if value is not None and value <= 1.0 else None
