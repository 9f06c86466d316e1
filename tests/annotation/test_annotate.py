"""The whole way with a real, small expert of colours, and with the fakes of an LLM."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from conftest import ColourBackend
from ivm.annotation.annotate import KEEPABLE, REASONS, Annotator, annotate_entries, read_proposals
from ivm.annotation.experts import Expert, Panel
from ivm.annotation.fuse import fuse
from ivm.annotation.phrases import Composed, Simplified
from ivm.annotation.rules import compose, simplify
from ivm.annotation.sources import open_source
from ivm.data.records import Entry, Record, Report, load, samples
from ivm.data.shards import write_shards
from ivm.data.stream import ShardSet
from ivm.data.transforms import limit_sides
from ivm.errors import DataError, LMMError, OptionError
from ivm.masker import Masker
from ivm.types import Heatmap, Sample


class Everything:
    """A failed grounding."""

    def batch(self, images, instructions):
        return [Heatmap(np.ones(images[0].shape[:2], np.float32)) for _ in instructions]


def panel(*more):
    return Panel([Expert("colours", Masker(ColourBackend())), *more])


def annotated(entries, annotator, **options):
    report = Report()
    found = [r for e in annotate_entries(entries, annotator, **options) for _, r in load(e, report)]
    return found, [str(problem) for problem in report.problems]


def test_each_instruction_becomes_a_sample_or_a_reason(pictures):
    source = open_source(pictures, ["find the red box", "where is the blue box?", "describe the picture"])
    found, problems = annotated(source.entries, Annotator(panel(), simplify))
    by_uuid = {record.sample.uuid: record.sample for record in found}
    assert sorted(by_uuid) == ["pictures-a.png-1", "pictures-a.png-2", "pictures-b.png-1"]
    red, blue = by_uuid["pictures-a.png-1"], by_uuid["pictures-a.png-2"]
    assert (red.human, red.targets, red.instructions) == (False, ("red box",), ("find the red box",))
    assert red.heatmap.dtype == np.float32
    assert red.heatmap[48, 24] > 0.5 > red.heatmap[48, 96]
    assert blue.heatmap[48, 96] > 0.5 > blue.heatmap[48, 24]
    assert red.image_id == blue.image_id
    told = red.provenance["annotation"]
    assert (told["phrases"], told["by"], told["reliability"]) == (["red box"], "rules", None)
    assert red.provenance["from"]["image"] == "a.png"
    assert len(problems) == 6
    assert sum("not-found: " in problem for problem in problems) == 3
    assert sum("whole-instruction: " in problem for problem in problems) == 3
    assert any("pictures-b.png-2: 'where is the blue box?'" in problem for problem in problems)


def test_two_targets_are_united(pictures):
    source = open_source(pictures, ["put the red box on the blue box"])
    found, problems = annotated(source.entries, Annotator(panel(), simplify))
    both, one = (record.sample for record in found)
    assert both.uuid == "pictures-a.png"  # one instruction: the sample's own name
    assert both.targets == ("red box", "blue box")
    assert min(both.heatmap[48, 24], both.heatmap[48, 96]) > 0.5
    assert one.targets == ("red box",)
    assert one.provenance["annotation"]["missing"] == ["blue box"]
    assert len(problems) == 1


def test_failed_grounding_is_never_kept_silently(pictures):
    alone = Panel([Expert("everything", Everything())])
    found, problems = annotated(open_source(pictures, ["red box"]).entries, Annotator(alone, simplify))
    assert not found
    assert all("nearly-whole-image: " in problem for problem in problems)
    keep = Annotator(alone, simplify, keep=frozenset({"nearly-whole-image"}))
    found, problems = annotated(open_source(pictures, ["red box"]).entries, keep)
    assert not problems
    assert {r.sample.provenance["annotation"]["fault"] for r in found} == {"nearly-whole-image"}
    assert all((r.sample.heatmap > 0.5).mean() > 0.95 for r in found)  # told, not edited
    beside = Annotator(panel(Expert("everything", Everything())), simplify)
    found, _ = annotated(open_source(pictures, ["red box"]).entries, beside)
    for record in found:
        assert (record.sample.heatmap > 0.5).mean() < 0.2
        assert [p["failed"] for p in record.sample.provenance["annotation"]["proposals"]] == [False, True]
        assert record.sample.provenance["annotation"]["reliability"] < 0.2


def test_absent_targets_may_be_kept(pictures):
    keep = Annotator(panel(), simplify, keep=frozenset({"not-found"}))
    found, problems = annotated(open_source(pictures, ["green box"]).entries, keep)
    assert not problems
    assert [bool((r.sample.heatmap > 0.5).any()) for r in found] == [False, False, True]
    assert [r.sample.targets for r in found] == [(), (), ("green box",)]
    assert [r.sample.kind for r in found] == ["absent", "absent", ""]


def test_proposals_are_kept_and_give_the_same_again(pictures, tmp_path):
    annotator = Annotator(panel(Expert("everything", Everything(), 0.5)), simplify, proposal_side=64)
    entries = annotate_entries(open_source(pictures, ["the red box on the left"]).entries, annotator)
    write_shards(entries, tmp_path / "store")
    store = ShardSet(tmp_path / "store")
    sample = store[0]
    proposals = read_proposals(store.reader.members(0, 0), sample.provenance)
    assert [(p.expert, p.weight, p.heatmap.shape) for p in proposals] == [
        ("colours", 1.0, (48, 64)), ("everything", 0.5, (48, 64)),
    ]  # fmt: skip
    again = fuse(proposals)
    assert np.abs(again.heatmap.values - sample.heatmap[::2, ::2]).mean() < 0.02
    none = Annotator(panel(), simplify, proposal_side=0)
    found, _ = annotated(open_source(pictures, ["red box"]).entries, none)
    assert all(not record.more for record in found)
    assert read_proposals({}, found[0].sample.provenance) == []
    with pytest.raises(DataError, match="that of an annotation"):
        read_proposals({}, {})


def labelled(count=1):
    mask = np.zeros((20, 20), bool)
    mask[5:9, 5:9] = True
    image = np.zeros((20, 20, 3), np.uint8)
    return [
        Sample(f"s{n}", image, ("the red cup",), mask, "mine", provenance={"line": n}) for n in range(count)
    ]


def entries_of(found):
    return [Entry("list", n, lambda s=s: [Record(s)]) for n, s in enumerate(found)]


def test_labelled_samples_get_instructions_and_keep_their_mask():
    (sample,) = labelled()
    (record,), problems = annotated(
        entries_of([sample]), Annotator(panel(), simplify, compose, instructions=3)
    )
    made = record.sample
    assert not problems
    assert made.heatmap is sample.heatmap
    assert made.instructions[0] == "the red cup"
    assert len(made.instructions) == 4
    assert made.human is False
    assert made.provenance["from"] == {"line": 0, "uuid": "s0", "human": True}
    assert made.provenance["annotation"] == {"task": "compose", "by": "rules", "given": 1}


def test_labelled_samples_are_left_out_where_nothing_is_to_be_made():
    found, problems = annotated(entries_of(labelled()), Annotator(panel(), simplify))
    assert not found
    assert "annotated: " in problems[0]

    def refuse(phrase, count):
        raise DataError("no-answer: no")

    found, problems = annotated(entries_of(labelled()), Annotator(panel(), simplify, refuse))
    assert not found
    assert "no-answer: no (s0)" in problems[0]


def test_an_unreadable_picture_stops_nothing(pictures):
    (pictures / "b.png").write_bytes(b"no picture")
    found, problems = annotated(open_source(pictures, ["red box"]).entries, Annotator(panel(), simplify))
    assert [record.sample.uuid for record in found] == ["pictures-a.png"]
    assert any("the image b.png" in problem for problem in problems)


def test_a_server_that_is_down_stops_the_run(pictures, tmp_path):
    def down(text):
        raise LMMError("down")

    for ahead in (0, 4):
        entries = annotate_entries(open_source(pictures, ["red"]).entries, Annotator(panel(), down), ahead)
        with pytest.raises(LMMError):
            write_shards(entries, tmp_path / f"store{ahead}")
        assert not (tmp_path / f"store{ahead}" / "index.json").exists()


def test_a_run_goes_on_where_it_stopped_and_ends_in_the_same_bytes(pictures, tmp_path):
    texts = ["red box", "blue box", "green box"]
    asked = []

    def simplify_until(stop):
        def ask(text):
            if len(asked) == stop:
                raise KeyboardInterrupt
            asked.append(text)
            return simplify(text)

        return ask

    def run(folder, ask):
        annotator = Annotator(panel(), ask)
        return write_shards(
            annotate_entries(open_source(pictures, texts).entries, annotator), folder, samples_per_shard=1
        )

    whole = run(tmp_path / "whole", simplify_until(None))
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", simplify_until(5))
    asked.clear()
    again = run(tmp_path / "cut", simplify_until(None))
    assert len(asked) < 9
    assert [shard.sha256 for shard in again.shards] == [shard.sha256 for shard in whole.shards]
    for name in ("report.jsonl", "index.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_simplifying_ahead_gives_the_same_and_overlaps(pictures):
    lock, known = threading.Lock(), {}
    running = most = 0

    def slow(text):
        nonlocal running, most
        with lock:
            if text in known:
                return known[text]
            running += 1
            most = max(most, running)
        time.sleep(0.03)
        with lock:
            running -= 1
            known[text] = simplify(text)
        return known[text]

    found = [
        Sample(f"s{n}", np.full((8, 8, 3), n, np.uint8), (f"the red box {n}",), None, "mine")
        for n in range(12)
    ]
    keep = frozenset(KEEPABLE)
    plain, _ = annotated(entries_of(found), Annotator(panel(), simplify, keep=keep))
    ahead, _ = annotated(entries_of(found), Annotator(panel(), slow, keep=keep), ahead=4)
    assert [r.sample.uuid for r in ahead] == [r.sample.uuid for r in plain] == [f"s{n}" for n in range(12)]
    assert 2 <= most <= 5
    composed = Annotator(panel(), slow, lambda phrase, count: Composed((f"{phrase}?",), "x"))
    made, _ = annotated(entries_of(labelled(3)), composed, ahead=2)
    assert [r.sample.instructions[-1] for r in made] == ["the red cup?"] * 3


def test_settings_are_checked():
    for wrong in (
        {"keep": frozenset({"everything"})},
        {"instructions": 0},
        {"proposal_side": -1},
        {"whole": 2},
    ):
        with pytest.raises(OptionError):
            Annotator(panel(), simplify, **wrong)
    assert set(KEEPABLE) <= set(REASONS)


def test_a_note_reaches_the_provenance(pictures):
    def guess(text):
        return Simplified(("red box",), "me", note="guessed")

    found, _ = annotated(open_source(pictures, ["stop sign"]).entries, Annotator(panel(), guess))
    told = found[0].sample.provenance["annotation"]
    assert (told["by"], told["note"]) == ("me", "guessed")
    assert list(
        samples(annotate_entries(open_source(pictures, ["x"]).entries, Annotator(panel(), guess)), Report())
    )


def test_asking_ahead_decodes_nothing_where_listing_tells_the_instructions(pictures):
    loaded, told = [], set()

    def watched(entry):
        def read():
            loaded.append((entry.place, threading.current_thread() is threading.main_thread()))
            return entry.load()

        return Entry(entry.file, entry.place, read, entry.asks)

    def slow(text):
        told.add(threading.current_thread() is threading.main_thread())
        return simplify(text)

    source = limit_sides(open_source(pictures, ["find the red box"]).entries, 4000)
    found, _ = annotated(map(watched, source), Annotator(panel(), slow), ahead=2)
    assert len(found) == 2
    assert len(loaded) == 3
    assert all(main for _, main in loaded)
    assert False in told
