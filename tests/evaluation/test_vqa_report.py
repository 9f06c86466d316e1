"""Figures against the definitions, on answers made by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ivm import metrics
from ivm.evaluation.questions import Question
from ivm.evaluation.scoring import OWN_JUDGE
from ivm.evaluation.vqa import OFF, Outcome, Setup
from ivm.evaluation.vqa_report import TOTAL, make_report, print_looks, print_report, save_report, summarise

MODE = "overlay"


def outcome(number, condition, score, state="answered", kind="a", rule="choice", right="A", read="A", **line):
    question = Question(f"q{number}", Path("a.jpg"), f"image {number // 2}", "?", "?", (right,), rule, kind)
    facts = {
        "text": "A",
        "usage": {"prompt_tokens": 100, "completion_tokens": 10},
        "seconds": 1.0 + number,
        "finish_reason": "stop",
        "served_by": "fake-1",
    }
    if condition != OFF:
        facts |= {
            "found": True,
            "kept_area": 0.25,
            "kept_whole": False,
            "target_kept": 0.5,
            "masking_seconds": 0.1,
        }
    if state != "answered":
        facts = {}
    error = "status 500" if state == "error" else ""
    return Outcome(question, condition, state, score, read, error=error, line=facts | line)


def pairs(off, masked, **more):
    return [outcome(n, OFF, s, **more) for n, s in enumerate(off)] + [
        outcome(n, MODE, s, **more) for n, s in enumerate(masked)
    ]


OFFS, MASKED = [0, 0, 0, 1, 1, 0, 1, 0], [1, 1, 0, 1, 0, 1, 1, 1]


def test_differences_are_paired_and_clustered_by_picture():
    figures = summarise(pairs(OFFS, MASKED))
    row = figures["differences"][MODE][TOTAL]
    changes = np.array(MASKED) - np.array(OFFS)
    low, high = metrics.clustered_interval(changes, np.array([f"image {n // 2}" for n in range(8)]))
    assert row["difference"] == [pytest.approx(changes.mean()), low, high]
    assert (row["better"], row["worse"], row["questions"]) == (4, 1, 8)
    assert row["p"] == metrics.mcnemar(4, 1) == pytest.approx(0.375)
    assert figures["scores"][OFF][TOTAL]["score"][0] == pytest.approx(3 / 8)
    assert figures["scores"][MODE][TOTAL]["score"][0] == pytest.approx(6 / 8)


def test_errors_are_in_no_mean_and_break_their_pair_only():
    found = pairs(OFFS, MASKED)
    found[0] = outcome(0, OFF, 0, state="error")
    found[9] = outcome(1, MODE, 0, state="unasked")
    figures = summarise(found)
    off, masked = figures["scores"][OFF][TOTAL], figures["scores"][MODE][TOTAL]
    assert (off["questions"], off["answered"], off["errors"]) == (8, 7, 1)
    assert off["score"][0] == pytest.approx(3 / 7)
    assert (masked["answered"], masked["unasked"]) == (7, 1)
    row = figures["differences"][MODE][TOTAL]
    assert row["questions"] == 6
    assert (row["better"], row["worse"]) == (2, 1)
    assert row["off"] == pytest.approx(3 / 6)  # of the same questions
    assert row["difference"][0] == pytest.approx(row["masked"] - row["off"])


def test_kinds_stand_beside_all_of_them():
    found = pairs([0, 1], [1, 1], kind="near") + pairs([0, 0, 0], [0, 0, 1], kind="far")
    found = [outcome(n, one.condition, one.score, kind=one.question.kind) for n, one in enumerate(found)]
    figures = summarise(found)
    assert list(figures["scores"][OFF]) == [TOTAL, "near", "far"]
    assert figures["scores"][OFF]["near"]["score"][0] == 0.5
    assert figures["scores"][MODE]["far"]["questions"] == 3
    assert figures["scores"][MODE][TOTAL]["mean_of_kinds"] == pytest.approx((1 + 1 / 3) / 2)


def test_yes_and_no_as_pope_counts_them():
    rights = ["yes", "yes", "yes", "no", "no", "no"]
    heard = ["yes", "yes", "no", "yes", "no", "no"]
    found = [
        outcome(n, OFF, float(r == h), rule="yes-no", right=r, read=h)
        for n, (r, h) in enumerate(zip(rights, heard, strict=True))
    ]
    row = summarise(found)["yes_no"][OFF][TOTAL]
    assert row == {
        "accuracy": pytest.approx(4 / 6),
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
        "yes": 0.5,
    }
    never = summarise([outcome(0, OFF, 1.0, rule="yes-no", right="no", read="no")])["yes_no"][OFF][TOTAL]
    assert np.isnan(never["precision"])
    assert np.isnan(never["f1"])


def test_cost_counts_what_was_sent_and_nothing_twice():
    found = pairs([1, 1], [1, 1])
    found[3] = outcome(1, MODE, 1, same_as="off of it")
    cost = summarise(found, prices=(2.0, 10.0))["cost"]
    assert (cost[OFF]["requests"], cost[OFF]["reused"]) == (2, 0)
    assert (cost[MODE]["requests"], cost[MODE]["reused"]) == (1, 1)
    assert (cost[OFF]["tokens_sent"], cost[OFF]["tokens_received"]) == (200, 20)
    assert cost[OFF]["price"] == pytest.approx((200 * 2 + 20 * 10) / 1e6)
    assert cost[OFF]["seconds"]["median"] == 1.5
    found[0] = outcome(0, OFF, 1, usage={})  # the server does not tell: no price is better than a wrong one
    assert np.isnan(summarise(found, prices=(2.0, 10.0))["cost"][OFF]["price"])
    assert np.isnan(summarise(found)["cost"][MODE]["price"])


def test_half_points_take_part_in_differences():
    row = summarise(pairs([0, 0.5, 1], [0.5, 0.5, 0.5]))["differences"][MODE][TOTAL]
    assert (row["better"], row["worse"]) == (1, 1)
    assert row["difference"][0] == 0.0


@pytest.fixture
def setup(fake_lmm, colour_masker):
    return Setup(fake_lmm.client(), colour_masker, (MODE,))


SETTINGS = {"benchmark": "vstar", "source": "vstar_bench", "prices": (1.0, 2.0)}


def printed(report):
    out = io.StringIO()
    print_report(report, Console(file=out, width=80))
    return out.getvalue()


def test_the_report_is_printed_in_80_columns_and_saved(setup, tmp_path):
    found = pairs(OFFS, MASKED)
    found[2] = outcome(2, OFF, 0, state="error")
    found[3] = outcome(3, OFF, 1, finish_reason="length")
    report = make_report(found, setup, None, SETTINGS)
    text = printed(report)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for words in ("V*Bench: 8 questions, 4 pictures", "asked of fake", "partial", "better", "0.43±", "(7)"):
        assert words in text
    for words in (
        "off 1: got no answer",
        "off 1: were cut off",
        "q2 (off): status 500",
        "target kept",
        "700",
    ):
        assert words in text
    save_report(report, found, tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["figures"]["differences"][MODE][TOTAL]["better"] == 4
    assert content["served_by"] == ["fake-1"]
    assert content["judge"] is None
    assert not content["complete"]
    lines = [json.loads(line) for line in (tmp_path / "side-by-side.jsonl").read_text().splitlines()]
    assert len(lines) == 8
    assert lines[0][OFF] == {"state": "answered", "score": 0, "read": "A", "answer": "A"}
    assert lines[2][OFF] == {"state": "error", "error": "status 500"}
    assert lines[2][MODE]["score"] == 0


def test_no_figure_is_cut_where_there_are_many_columns_and_names_stay_as_they_are(setup):
    modes = [f"mode {n}" for n in range(9)]
    found = [outcome(0, mode, 1, kind=kind) for mode in modes for kind in ("[/a]", "b")]
    report = make_report(found, setup, None, SETTINGS) | {"lmm": "[my] lmm"}
    report["figures"]["differences"] = {}
    text = printed(report)
    assert "…" not in text
    assert text.count("1.00±.00") == 2 * 27  # of scores and of what was found
    assert "[/a]" in text
    assert "asked of [my] lmm" in " ".join(text.split())


def test_a_report_of_nothing_answered_can_be_printed(setup, fake_lmm):
    found = pairs([0, 0], [0, 0], state="error")
    report = make_report(found, setup, (fake_lmm.client(), OWN_JUDGE), SETTINGS)
    assert report["judge"] == {"llm": "fake", "words": "ivm"}
    assert "off 2, overlay 2: got no answer" in printed(report)
    assert len(report["errors"]) == 4


def test_what_masks_keep_needs_no_answer():
    facts = {"kept_area": 0.2, "masking_seconds": 0.01}
    found = [
        outcome(
            n, MODE, 0, "unasked", **facts, found=n > 0, kept_whole=n == 0, target_kept=[0.5, None][n == 2]
        )
        for n in range(4)
    ]
    figures = summarise(found)
    row = figures["masks"][MODE][TOTAL]
    assert row["kept"][0] == pytest.approx(0.2)
    assert row["found"][0] == 0.75
    assert row["target_kept"][0] == 0.5
    assert row["kept_whole"] == 1
    out = io.StringIO()
    print_looks(figures, Console(file=out, width=80))
    assert "0.20±.00" in out.getvalue()
