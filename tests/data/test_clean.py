from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from ivm.data.clean import RULES, Limits, clean, find_faults, read_scores, restore
from ivm.data.measure import measure
from ivm.data.stream import ShardReader, ShardSet
from ivm.errors import DataError, OptionError
from ivm.types import Sample

SHAPE = (100, 120)


def box(x0, y0, x1, y1):
    mask = np.zeros(SHAPE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def samples(scenery):
    frame = np.ones(SHAPE, bool)
    frame[2:-2, 2:-2] = False
    middle, other = box(20, 20, 60, 60), box(70, 60, 110, 95)

    def one(uuid, mask, photo=None, texts=("the cup",), **more):
        seed = sum(map(ord, photo or uuid))
        return Sample(uuid, scenery(seed, *SHAPE), texts, mask, "x", image_id=photo or uuid, **more)

    return [
        one("good-1", middle),
        one("whole", box(0, 0, 120, 99)),
        one("nothing", box(0, 0, 0, 0)),
        one("absent", box(0, 0, 0, 0), kind="absent"),
        one("dot", box(5, 5, 6, 6)),
        one("frame", frame),
        one("noise", middle, texts=("?!", "12")),
        one("good-2", other, texts=("where is it?",)),
        Sample("twin", scenery(sum(map(ord, "good-1")), *SHAPE), ("The cup.",), middle, "x"),
        Sample("cousin", scenery(sum(map(ord, "good-1")), *SHAPE), ("the table",), other, "x"),
        one("said-1", middle, photo="photo", texts=("the dog",)),
        one("said-2", other, photo="photo", texts=("the dog",), human=False),
        one("said-3", middle, photo="photo2", texts=("the dog",), human=False),
        one("said-4", box(21, 20, 60, 60), photo="photo2", texts=("the dog",), human=False),
        one("unmarked", None),
    ]


DROPPED = {
    "whole": "nearly-whole-image",
    "nothing": "empty",
    "dot": "speck",
    "frame": "border-only",
    "noise": "no-letters",
    "twin": "near-duplicate",
    "said-2": "disagreement",
}


def digests(folder, pattern="*.tar"):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob(pattern))}


def test_each_rule_drops_its_own_and_nothing_else(make_store, samples, tmp_path):
    source = make_store(samples, samples_per_shard=4)
    before = digests(source, "*")
    kept, counts = clean(source, tmp_path / "clean", limits=Limits(people=True), workers=2)
    assert digests(source, "*") == before
    assert {s.uuid for s in ShardSet(tmp_path / "clean")} == {s.uuid for s in samples} - set(DROPPED)
    assert counts == dict.fromkeys(DROPPED.values(), 1)
    assert kept.samples == len(samples) - len(DROPPED)
    lines = [json.loads(line) for line in (tmp_path / "clean" / "dropped.jsonl").read_text().splitlines()]
    assert {line["uuid"]: line["rule"] for line in lines} == DROPPED
    assert next(line["detail"] for line in lines if line["uuid"] == "whole") == "kept area 0.9900"
    assert {s.uuid for s in ShardSet(tmp_path / "clean" / "dropped")} == set(DROPPED)


def test_cleaning_is_undone_byte_for_byte(make_store, samples, tmp_path):
    source = make_store(samples, samples_per_shard=4)
    clean(source, tmp_path / "clean", limits=Limits(people=True))
    restore(tmp_path / "clean", tmp_path / "back")
    assert digests(tmp_path / "back") == digests(source)
    restore(tmp_path / "clean", tmp_path / "some", rules=["empty", "speck"])
    uuids = [s.uuid for s in ShardSet(tmp_path / "some")]
    assert uuids == [s.uuid for s in samples if DROPPED.get(s.uuid, "empty") in ("empty", "speck")]


def test_rules_and_limits_are_chosen(make_store, samples):
    measured = list(measure(ShardReader(make_store(samples))))
    found = find_faults(measured, ["nearly-whole-image"], Limits(whole=0.1, people=True))
    assert {one.rule for one in found} == {"nearly-whole-image"}
    assert {"good-1", "whole"} <= {one.uuid for one in found}
    assert not find_faults(measured, ["nearly-whole-image"], Limits(whole=1.0, people=True))
    assert not find_faults(measured, [])
    with pytest.raises(OptionError, match="rules must be among size-mismatch"):
        find_faults(measured, ["whole"])


def test_areas_that_people_marked_are_trusted_unless_asked(make_store, samples):
    measured = list(measure(ShardReader(make_store(samples))))
    trusted = {one.rule for one in find_faults(measured)}
    assert trusted == {"empty", "no-letters", "near-duplicate", "disagreement"}
    machine = [replace(one, human=False) for one in measured]
    assert {"nearly-whole-image", "speck", "border-only"} <= {one.rule for one in find_faults(machine)}


def test_sizes_that_differ_are_seen(make_store, samples):
    store = make_store(samples[:1])
    (one,) = measure(ShardReader(store))
    bad = replace(one, fault="the heatmap is 1x1, the image 120x100")
    assert [f.rule for f in find_faults([bad])] == ["size-mismatch"]


def test_people_who_disagree_are_all_dropped(make_store, scenery):
    masks = [box(20, 20, 60, 60), box(70, 60, 110, 95)]
    two = [Sample(str(k), scenery(1, *SHAPE), ("dog",), m, "x", image_id="p") for k, m in enumerate(masks)]
    found = find_faults(measure(ShardReader(make_store(two))))
    assert [(f.uuid, f.rule) for f in found] == [("0", "disagreement"), ("1", "disagreement")]


def test_a_killed_cleaning_goes_on(make_store, samples, tmp_path):
    source = make_store(samples, samples_per_shard=4)
    clean(source, tmp_path / "clean", limits=Limits(people=True))
    whole = digests(tmp_path / "clean", "**/*.tar")
    (tmp_path / "clean" / "index.json").unlink()
    (tmp_path / "clean" / "shard-000001.json").unlink()
    clean(source, tmp_path / "clean", limits=Limits(people=True))
    assert digests(tmp_path / "clean", "**/*.tar") == whole


def test_the_source_is_never_written_to(make_store, samples):
    source = make_store(samples)
    with pytest.raises(OptionError, match="must not lie in the source"):
        clean(source, source / "clean")


def test_what_is_no_cleaned_store_cannot_be_restored(make_store, samples, tmp_path):
    with pytest.raises(DataError, match="that ivm data clean wrote"):
        restore(make_store(samples), tmp_path / "back")


@pytest.mark.parametrize("wrong", [{"whole": 1.5}, {"speck": -1}, {"near_bits": 65}])
def test_limits_are_checked(wrong):
    with pytest.raises(OptionError):
        Limits(**wrong)


def test_every_rule_says_what_it_drops():
    assert all(text for text in RULES.values())


def test_frames_of_an_episode_are_no_repeated_annotations(make_store, episode, tmp_path):
    frames = episode(0)
    again = replace(frames[1], uuid="again", heatmap=frames[3].heatmap)  # one frame, annotated twice
    kept, counts = clean(make_store(frames), tmp_path / "frames")
    assert (kept.samples, counts.total()) == (4, 0)
    found = find_faults(measure(ShardReader(make_store([*frames, again], "more"))))
    assert [(one.uuid, one.rule) for one in found] == [("0-1", "disagreement"), ("again", "disagreement")]


def test_every_frame_is_compared_with_every_other_episode(make_store, scenery):
    def frame(episode, number, seed):
        where = f"episode-{episode}"
        return Sample(f"{episode}-{number}", scenery(seed), ("pick",), None, "robot", image_id=where)

    first = [frame(0, k, k) for k in range(4)]
    second = [frame(1, 0, 0), frame(1, 1, 11), frame(1, 2, 3), frame(1, 3, 12)]
    found = find_faults(measure(ShardReader(make_store([*first, *second]))))
    assert [(one.uuid, one.rule, one.detail) for one in found] == [
        ("1-0", "near-duplicate", "like 0-0"), ("1-2", "near-duplicate", "like 0-3"),
    ]  # fmt: skip


def test_scores_are_asked_for_where_the_rule_needs_them(make_store, samples):
    measured = list(measure(ShardReader(make_store(samples))))
    machine = {one.uuid for one in measured if not one.human}
    assert find_faults(measured, ["low-score"], scores=dict.fromkeys(machine, 0.5)) == []
    assert find_faults(measured, ["empty"], scores={})[0].uuid == "nothing"
    unknown = dict.fromkeys(machine, 0.05) | {"said-3": None}
    found = find_faults(measured, ["low-score"], scores=unknown)
    assert {one.uuid for one in found} == machine - {"said-3"}
    with pytest.raises(DataError, match="has no score: score this very store"):
        find_faults(measured, ["low-score"], scores={})
    with pytest.raises(DataError, match="has no score"):
        find_faults(measured, ["low-score"], Limits(people=True), dict.fromkeys(machine, 0.5))


def test_a_score_may_be_null_but_not_absent(tmp_path):
    (tmp_path / "s.jsonl").write_text('{"uuid": "a", "score": 1}\n{"uuid": "b", "score": null}\n')
    assert read_scores(tmp_path / "s.jsonl") == {"a": 1.0, "b": None}
    (tmp_path / "s.jsonl").write_text('{"uuid": "a"}\n')
    with pytest.raises(DataError, match=r"s\.jsonl:1: a record must have 'score'"):
        read_scores(tmp_path / "s.jsonl")


@pytest.mark.parametrize("kind", ["absent", "absent colour", "absent relation"])
def test_a_sample_that_says_that_its_target_is_absent_is_not_empty(make_store, samples, kind):
    nothing = next(one for one in samples if one.uuid == "nothing")
    measured = list(measure(ShardReader(make_store([nothing, replace(nothing, uuid="said", kind=kind)]))))
    assert [one.uuid for one in find_faults(measured, ["empty"])] == ["nothing"]
