from __future__ import annotations

import json

import pytest

from ivm.errors import OutputError
from ivm.evaluation.reports import cell, write_json, write_lines


def test_json_is_written_whole_with_null_for_figures_that_do_not_exist(tmp_path):
    write_json({"a": [1.0, float("nan")], "b": (2, float("inf"))}, tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == {"a": [1.0, None], "b": [2, None]}
    write_lines([{"a": "é\ud800"}, {"b": float("nan")}], tmp_path / "r.jsonl")
    assert [json.loads(line) for line in (tmp_path / "r.jsonl").read_text("utf-8").splitlines()] == [
        {"a": "é\ud800"},
        {"b": None},
    ]
    assert len(list(tmp_path.iterdir())) == 2  # nothing temporary is left
    with pytest.raises(OutputError, match="cannot write"):
        write_json({}, tmp_path / "no" / "r.json")


def test_cells():
    assert cell([0.5, 0.4, 0.6]) == "0.50±.10"
    assert cell([0.5, 0.4, 0.6], interval=False) == "0.50"
    assert cell(None) == ""
