from __future__ import annotations

import json

import numpy as np
import pytest

from ivm.data.records import Entry, Problem, Record, Report, get, load, read_json, read_lines, samples
from ivm.errors import DataError, InputError
from ivm.types import Sample


def record(uuid="a"):
    return Record(Sample(uuid, np.zeros((2, 3, 3), np.uint8), ("the cup",), None, "made"))


def half_bad():
    yield record("a")
    yield DataError("no mask")
    yield record("b")
    raise InputError("no image")


def test_what_is_wrong_goes_to_the_report_and_the_rest_goes_on():
    report = Report()
    loaded = list(load(Entry("list.jsonl", 7, half_bad), report))
    assert [(number, r.sample.uuid) for number, r in loaded] == [(0, "a"), (2, "b")]
    assert [str(p) for p in report.problems] == ["list.jsonl:7: no mask", "list.jsonl:7: no image"]


def test_a_strict_report_stops_at_the_first_and_names_it():
    taken = load(Entry("a.json", "annotation 3", half_bad), Report(strict=True))
    assert next(taken)[1].sample.uuid == "a"
    with pytest.raises(DataError, match=r"^a\.json: annotation 3: no mask$"):
        next(taken)


def test_faults_of_the_program_are_not_held_back():
    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(load(Entry("x", 1, broken), Report()))


def test_samples_without_a_report_are_strict():
    entries = [Entry("x", 1, lambda: [record()]), Entry.bad("x", 2, "malformed")]
    assert len(list(samples(entries, report := Report()))) == 1
    assert report.problems == [Problem("x", 2, "malformed")]
    with pytest.raises(DataError, match="x:2: malformed"):
        list(samples(entries))


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ([], str, "must be a JSON object, but is list"),
        ({"b": 1}, str, "must have 'a', but has only b"),
        ({}, str, "has only nothing"),
        ({"a": 1}, str, "'a' must be text, but is int '1'"),
        ({"a": True}, int, "'a' must be a whole number, but is bool"),
        ({"a": float("nan")}, (int, float), "'a' must be a finite number, but is nan"),
        ({"a": "x"}, (list, dict), "'a' must be a list or an object"),
    ],
)
def test_fields_are_checked(given, kind, words):
    with pytest.raises(DataError, match=words):
        get(given, "a", kind)


def test_defaults_stand_for_absent_and_null():
    assert get({}, "a", str, "d") == get({"a": None}, "a", str, "d") == "d"
    assert get({"a": None}, "a", str, None) is None
    assert get({"a": 2}, "a", (int, float)) == 2


def test_lines_are_numbered_and_malformed_ones_are_told(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": \n"\xff"\n[2]')
    lines = dict(read_lines(path))
    assert lines[1] == {"a": 1}
    assert lines[5] == [2]
    assert isinstance(lines[3], DataError)
    assert isinstance(lines[4], DataError)
    assert 2 not in lines


def test_unreadable_files_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        list(read_lines(tmp_path / "none"))
    with pytest.raises(DataError, match="cannot read"):
        read_json(tmp_path / "none")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not JSON"):
        read_json(tmp_path / "deep.json")
    (tmp_path / "good.json").write_text(json.dumps({"a": "é"}))
    assert read_json(tmp_path / "good.json") == {"a": "é"}


def test_a_problem_is_text_whatever_the_record_held():
    problem = Problem("a.json", "item \ud83d", "no file has the name '\ud83d.png'")
    assert str(problem).encode() == b"a.json: item \\ud83d: no file has the name '\\ud83d.png'"
    assert Problem("a.json", 3, "x").place == 3
