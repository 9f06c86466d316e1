"""The model card tells what the reports hold, and tells when it does not."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("model_card", ROOT / "runs" / "model_card.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("model-card.md", "reports/compact.json", "reports/compact-checks.json"):
        copy = tmp_path / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes((ROOT / "docs" / name).read_bytes())
    monkeypatch.setattr(module, "DOCS", tmp_path)
    monkeypatch.setattr("sys.argv", ["model_card.py", "--check"])
    return module


def test_the_card_has_the_figures_of_the_reports(script):
    with pytest.raises(SystemExit) as told:
        script.main()
    assert not told.value.code


def test_another_figure_is_noticed_and_put_in(script, tmp_path, monkeypatch):
    file = tmp_path / "reports" / "compact.json"
    report = json.loads(file.read_text(encoding="utf-8"))
    report["voc"]["tables"][report["voc"]["model"]]["category"]["giou"] = [0.123, 0.1, 0.15]
    file.write_text(json.dumps(report), encoding="utf-8")
    with pytest.raises(SystemExit, match="differ"):
        script.main()
    monkeypatch.setattr("sys.argv", ["model_card.py"])
    script.main()
    card = (tmp_path / "model-card.md").read_text(encoding="utf-8")
    assert "| 0.123 [0.10, 0.15] |" in card
    monkeypatch.setattr("sys.argv", ["model_card.py", "--check"])
    with pytest.raises(SystemExit) as told:
        script.main()
    assert not told.value.code


def test_a_card_without_its_marks_is_left_as_it_is(script, tmp_path, monkeypatch):
    card = tmp_path / "model-card.md"
    card.write_text("# Model card\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["model_card.py"])
    with pytest.raises(SystemExit, match="by kind"):
        script.main()
    assert card.read_text(encoding="utf-8") == "# Model card\n"
