from __future__ import annotations

import numpy as np
import pytest

from conftest import ColourBackend
from ivm.annotation.annotate import Annotator, annotate_entries
from ivm.annotation.experts import Expert, Panel
from ivm.annotation.report import summarise, write_reliability
from ivm.annotation.rules import compose, simplify
from ivm.annotation.sources import open_source
from ivm.data.clean import Limits, clean, read_scores
from ivm.data.records import Entry, Record, samples
from ivm.data.shards import write_shards
from ivm.data.stream import ShardSet
from ivm.errors import DataError
from ivm.masker import Masker
from ivm.types import Sample


@pytest.fixture
def store(pictures, tmp_path):
    (pictures / "d.png").write_bytes(b"broken")
    experts = [Expert("a", Masker(ColourBackend())), Expert("b", Masker(ColourBackend(side=64, least=9)))]
    texts = ["put the red box on the blue box", "describe the picture"]
    entries = annotate_entries(open_source(pictures, texts).entries, Annotator(Panel(experts), simplify))
    write_shards(entries, tmp_path / "store")
    return tmp_path / "store"


def test_what_is_there_and_what_is_not(store):
    found = summarise(store)
    assert found.samples == 2
    assert dict(found.reasons) == {"whole-instruction": 3, "not-found": 1, "unreadable": 1}
    assert dict(found.marked) == {"lack a phrase that was not found": 1}
    assert 0 < found.reliability < 1


def test_cleaning_goes_by_reliability(store, tmp_path):
    assert write_reliability(store, store / "reliability.jsonl") == 2
    scores = read_scores(store / "reliability.jsonl")
    assert set(scores) == {"pictures-a.png-1", "pictures-b.png-1"}
    assert scores["pictures-b.png-1"] < 0.6 < scores["pictures-a.png-1"]  # half of it was not found
    kept, dropped = clean(store, tmp_path / "clean", ("low-score",), Limits(min_score=0.6), 1, scores)
    assert (kept.samples, dropped["low-score"]) == (1, 1)


def test_composed_samples_have_no_reliability_and_pass(pictures, tmp_path):
    image = next(samples(open_source(pictures, ["x"]).entries)).image
    labelled = Sample("labelled", image, ("the box",), np.eye(*image.shape[:2]) > 0, "mine", human=False)
    entries = [*open_source(pictures, ["red"]).entries, Entry("list", 1, lambda: [Record(labelled)])]
    experts = [Expert("a", Masker(ColourBackend())), Expert("b", Masker(ColourBackend(side=64, least=9)))]
    annotator = Annotator(Panel(experts), simplify, compose)
    write_shards(annotate_entries(entries, annotator), tmp_path / "store")
    assert write_reliability(tmp_path / "store", tmp_path / "r.jsonl") == 2
    scores = read_scores(tmp_path / "r.jsonl")
    assert scores["labelled"] is None
    limits = Limits(min_score=1.0)
    kept, _ = clean(tmp_path / "store", tmp_path / "clean", ("low-score",), limits, 1, scores)
    assert "labelled" in {sample.uuid for sample in ShardSet(tmp_path / "clean")}
    assert kept.samples < 3


def test_a_damaged_report_is_told(store):
    (store / "report.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"report.jsonl:1"):
        summarise(store)
