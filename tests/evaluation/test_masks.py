import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from ivm.data.packs import data_folder, read_pack
from ivm.errors import DataError, InstructionError, OptionError, OutputError
from ivm.evaluation.masks import (
    KINDS,
    Answer,
    answers,
    evaluate_masks,
    pack_questions,
    print_report,
    summarise,
)
from ivm.types import Heatmap


class Oracle:
    """Knows every target; counts how often it is called."""

    def __init__(self, samples, shift=0):
        self.targets = {(id(s.image), s.instructions[0]): s.heatmap for s in samples}
        self.calls, self.shift = 0, shift

    def batch(self, images, instructions):
        self.calls += 1
        masks = [np.roll(self.targets[id(images[0]), text], self.shift, axis=1) for text in instructions]
        return [Heatmap.from_mask(mask) for mask in masks]


@pytest.fixture
def samples(pack_folder):
    return list(pack_questions(read_pack(pack_folder), "all", absent=2))


def test_questions_are_the_same_every_time_and_true(pack_folder, samples):
    again = list(pack_questions(read_pack(pack_folder), "all", absent=2))
    assert [s.instructions for s in again] == [s.instructions for s in samples]
    assert {s.kind for s in samples} >= {"category", "colour", "superlative", "side", "place", "absent"}
    assert {s.kind for s in samples} <= set(KINDS)
    for sample in samples:
        assert bool(sample.targets) == bool(sample.heatmap.any()) == (sample.kind != "absent")
        assert sample.kind == "absent" or "zebra" not in sample.instructions[0].lower()
    some = list(pack_questions(read_pack(pack_folder), "all", kinds=["superlative"], limit=3))
    assert {s.kind for s in some} == {"superlative"}
    assert 2 <= len({s.image_id for s in some}) <= 3


def test_the_oracle_is_perfect_and_images_are_given_once(samples):
    oracle = Oracle(samples)
    report = evaluate_masks(samples, oracle, model="oracle", data="shapes", baselines=False)
    row = report.tables["oracle"]["all present"]
    for metric in ("giou", "ciou", "pointing", "p_at_50", "box_p_at_50", "found_accuracy"):
        assert row[metric] == [1.0, 1.0, 1.0]
    assert row["mae"][0] == 0.0
    assert report.tables["oracle"]["absent"]["found_accuracy"][0] == 1.0
    assert report.detection["oracle"] == {"auroc": 1.0, "absent_at_5": 1.0, "giou_of_found": 1.0}
    assert oracle.calls == report.images == 40
    assert report.complete


def test_figures_by_kind_agree_with_the_definition(samples):
    given = list(answers(samples, Oracle(samples, shift=5)))
    table, _ = summarise(given)
    sizes = [s for s in samples if s.kind == "superlative"]
    ious = []
    for s in sizes:
        shifted = np.roll(s.heatmap, 5, axis=1)
        ious.append((shifted & s.heatmap).sum() / (shifted | s.heatmap).sum())
    assert table["superlative"]["giou"][0] == pytest.approx(np.mean(ious))
    assert table["superlative"]["n"] == len(sizes)
    assert 0 < table["all present"]["giou"][0] < 1


def test_baselines_stand_beside_the_model(samples):
    report = evaluate_masks(samples, Oracle(samples), model="oracle", data="shapes")
    assert list(report.tables) == ["oracle", "whole image", "centre ellipse", "colour words"]
    whole = report.tables["whole image"]["category"]
    assert whole["giou"][0] == pytest.approx(whole["kept"][0] * np.mean(
        [s.heatmap.mean() for s in samples if s.kind == "category"]
    ))  # fmt: skip
    colour = report.tables["colour words"]["colour"]["pointing"][0]
    assert colour > report.tables["centre ellipse"]["colour"]["pointing"][0]
    counts = {table["all present"]["n"] for table in report.tables.values()}
    assert len(counts) == 1


def test_the_report_is_printed_and_saved(samples, tmp_path):
    report = evaluate_masks(samples, Oracle(samples), model="oracle", data="shapes", left_out=["a.jpg: bad"])
    out = io.StringIO()
    print_report(report, Console(file=out, width=80))
    assert "…" not in out.getvalue()
    for words in ("oracle on shapes", "1.00±.00", "whole image", "best baseline", "recognised", "a.jpg: bad"):
        assert words in out.getvalue()
    report.save(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["tables"]["oracle"]["all present"]["giou"] == [1.0, 1.0, 1.0]
    assert content["questions"] == len(samples)
    with pytest.raises(OutputError, match="cannot write"):
        report.save(tmp_path / "nowhere" / "report.json")


def test_a_figure_that_does_not_exist_is_null_not_nan(samples, tmp_path):
    present = [s for s in samples if s.targets]
    report = evaluate_masks(present, Oracle(present), model="m", data="shapes", baselines=False)
    report.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text())["detection"]["m"]["auroc"] is None


def test_ctrl_c_gives_what_there_is_marked_partial(samples):
    class Impatient(Oracle):
        def batch(self, images, instructions):
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().batch(images, instructions)

    report = evaluate_masks(samples, Impatient(samples), model="m", data="shapes", baselines=False)
    assert not report.complete
    assert report.images == 3


def test_ctrl_c_before_the_first_answer_is_no_lack_of_questions(samples):
    class Stopped:
        def batch(self, images, instructions):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_masks(samples, Stopped(), model="m", data="shapes")


def test_names_with_brackets_are_printed_as_they_are(samples):
    odd = [replace(sample, kind="[/odd]") for sample in samples if sample.targets]
    report = evaluate_masks(odd, Oracle(odd), model="[my] model", data="photos [old]", left_out=["[/a].jpg"])
    out = io.StringIO()
    print_report(report, Console(file=out, width=40))
    for words in ("[my] model on", "photos [old]", "[/odd]", "[/a].jpg", "1.00±.00 1.00±.00"):
        assert words in out.getvalue()
    assert "…" not in out.getvalue()


def test_damaged_photos_are_left_out_and_named_or_stop(pack_folder):
    pack = read_pack(pack_folder)
    pack.photos[1].path.write_bytes(b"no picture")
    left_out: list[str] = []
    samples = list(pack_questions(pack, "all", left_out=left_out))
    assert len({s.image_id for s in samples}) == 39
    assert len(left_out) == 1
    assert "0002.png" in left_out[0]
    with pytest.raises(DataError, match=r"0002\.png"):
        list(pack_questions(pack, "all", strict=True))
    with pytest.raises(OptionError, match="split"):
        list(pack_questions(pack, "everything"))
    with pytest.raises(OptionError, match="kinds must be among"):
        list(pack_questions(pack, "all", kinds=["colours"]))
    with pytest.raises(DataError, match="no question"):
        evaluate_masks([], Oracle([]), model="m", data="nothing")
    with pytest.raises(DataError, match=r"1 were left out, the first: a\.jpg is missing"):
        evaluate_masks([], Oracle([]), model="m", data="nothing", left_out=["a.jpg is missing"])


def test_an_answer_with_nothing_kept_for_nothing_relevant_is_right():
    answer = Answer("a", "i", "absent", False, 0, 0, False, 0.0, 0.0, False, 0.1)
    assert answer.iou == 1.0


def test_an_instruction_that_a_model_refuses_is_left_out_for_all_and_told(samples):
    class Short(Oracle):
        def batch(self, images, instructions):
            if refused.instructions[0] in instructions:
                raise InstructionError("at most 3 tokens for this model")
            return super().batch(images, instructions)

    refused = samples[1]
    left = [s for s in samples if (s.image_id, s.instructions) != (refused.image_id, refused.instructions)]
    report = evaluate_masks(samples, Short(samples), model="short", data="shapes", left_out=["a.jpg: torn"])
    others = [one for one in samples if one.instructions == refused.instructions]
    assert report.left_out == ["a.jpg: torn", *(f"{s.uuid}: at most 3 tokens for this model" for s in others)]
    assert report.questions == len(samples) - len(others) <= len(left)
    assert len({t["all present"]["n"] for t in report.tables.values()}) == 1


def test_what_is_not_found_counts_as_an_empty_mask_for_absent_targets():
    def answer(present, found, both, either):
        return Answer(
            "a", "i", "k" if present else "absent", present, both, either, True, 0.0, 0.1, found, 0.5
        )

    given = [
        answer(True, True, 3, 4),
        answer(True, False, 3, 4),
        answer(False, False, 0, 9),
        answer(False, True, 0, 9),
    ]
    assert summarise(given)[1]["giou_of_found"] == pytest.approx((0.75 + 0 + 1 + 0) / 4)


@pytest.mark.skipif(data_folder() is None, reason="the packs of IVM_DATA are not here")
def test_questions_on_real_photos():
    pack = read_pack(data_folder() / "coco")
    samples = list(pack_questions(pack, "test", limit=3))
    assert {s.split("#")[0] for s in (x.uuid for x in samples)} == {s.image_id for s in samples}
    assert "category" in {s.kind for s in samples}
    assert isinstance(samples[0].image, np.ndarray)
    assert Image.fromarray(samples[0].image).size == samples[0].heatmap.shape[::-1]
