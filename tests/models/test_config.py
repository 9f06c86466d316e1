from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest

from ivm.errors import MissingExtraError, ModelError, OptionError
from ivm.models import config
from ivm.models.config import DEVICES, KINDS, PRESETS, Preset, check_device, fetch, fetch_file, locate


def test_presets_are_complete() -> None:
    assert "compact" in PRESETS
    for name, preset in PRESETS.items():
        assert name == preset.name
        assert preset.kind in KINDS
        assert preset.summary
        assert preset.licence
        assert preset.megabytes > 0
        assert bool(preset.hub) == bool(preset.revision), "what is fetched names its revision"
        assert all(hub and revision for hub, revision in preset.parts)
        assert bool(preset.hub) <= bool(preset.extra)
    with pytest.raises(TypeError):
        PRESETS["mine"] = PRESETS["compact"]


def test_kinds_name_code_that_exists() -> None:
    for kind in KINDS.values():
        assert importlib.util.find_spec(kind.module) is not None
        assert not any(pattern.endswith((".bin", ".pt", ".pth", ".pkl", "*")) for pattern in kind.files)


def test_a_preset_that_ships_lies_in_the_package_and_nothing_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it fails
    kind, folder = locate("compact")
    assert kind == "compact"
    assert folder == Path(config.__file__).parents[1] / "weights" / "compact"


def test_a_folder_is_a_model_by_its_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"kind": "compact"}')
    assert locate(tmp_path) == ("compact", tmp_path)
    assert locate(str(tmp_path)) == ("compact", tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    assert locate(f"./{tmp_path.name}") == ("compact", Path(tmp_path.name))
    (tmp_path / "config.json").write_text('{"model_type": "clipseg"}')  # as transformers writes it
    assert locate(tmp_path)[0] == "clipseg"
    # A preset's name means the preset, even where a folder has it, too.
    (tmp_path / "compact").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate("compact")[1].is_absolute()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no model: cannot read its config.json"),
        ("{", 'must be a JSON object with a "kind"'),
        ("[1]", 'must be a JSON object with a "kind"'),
        ("{}", 'must be a JSON object with a "kind"'),
        ('{"kind": "large"}', "kind must be one of clipseg, compact, .*, but is 'large'"),
        ('{"model_type": "bert"}', "kind must be one of clipseg, compact, .*, but is 'bert'"),
    ],
)
def test_a_folder_that_is_no_model_says_why(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        locate(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Compact", "did you mean 'compact'"),
        ("compat", "did you mean 'compact'"),
        ("gpt", r"^no model is called 'gpt': There are clipseg, compact, .*; or give a folder"),
        ("no/such/folder", "no model is called 'no/such/folder'"),
        ("../up", r"no model is called '\.\./up'"),
    ],
)
def test_an_unknown_name_gets_the_nearest_and_the_list(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        locate(name)


def fake_hub(monkeypatch: pytest.MonkeyPatch, answer: object) -> list[tuple]:
    calls: list[tuple] = []

    def snapshot_download(
        repo_id: str, revision: str | None, allow_patterns: list[str], local_files_only: bool = False
    ) -> str:
        calls.append((repo_id, revision, tuple(allow_patterns), local_files_only))
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return calls


def test_a_hub_id_is_fetched_without_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"kind": "compact"}')
    calls = fake_hub(monkeypatch, tmp_path)
    assert locate("someone/their-masker") == ("compact", tmp_path)
    assert calls == [("someone/their-masker", None, ("*.json", "*.onnx", "*.safetensors", "*.txt"), False)]
    locate("someone/their-masker@v1.2")
    assert calls[1][:2] == ("someone/their-masker", "v1.2")
    assert fetch("someone/their-masker", local_files_only=True) == tmp_path
    assert calls[2][3]


def test_a_preset_on_a_hub_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = Preset("far", "compact", "far away", "MIT", 1, hub="someone/far", revision="a1b2")
    monkeypatch.setattr(config, "PRESETS", {"far": far})
    calls = fake_hub(monkeypatch, tmp_path)
    assert locate("far") == ("compact", tmp_path)
    assert calls[0][:2] == ("someone/far", "a1b2")


def test_a_hub_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, RuntimeError("401 Client Error.\nRepository Not Found"))
    with pytest.raises(
        ModelError,
        match=r"'a/b' is no folder here and could not be fetched .*: 401 Client Error.*"
        r"hf download a/b --local-dir FOLDER .*give that folder instead of the name$",
    ):
        locate("a/b")


def test_one_file_is_fetched_and_a_page_without_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_hub(monkeypatch, tmp_path)
    with pytest.raises(
        ModelError, match=r"neither its page nor the cache .*give that folder instead of the name$"
    ):
        fetch_file("a/b", "w.bin", "c0ffee")
    (tmp_path / "w.bin").write_text("")
    assert fetch_file("a/b", "w.bin") == tmp_path / "w.bin"
    assert [call[:3] for call in calls] == [("a/b", "c0ffee", ("w.bin",)), ("a/b", None, ("w.bin",))]


def test_a_folder_of_a_presets_name_is_not_taken_for_the_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ivm-v1").mkdir()
    (tmp_path / "ivm-v1" / "config.json").write_text('{"model_type": "ivm"}')
    monkeypatch.chdir(tmp_path)
    assert locate("ivm-v1") == ("ivm-v1", Path("ivm-v1"))
    assert locate("./ivm-v1") == ("ivm", tmp_path / "ivm-v1")


def test_the_published_checkpoint_is_known_by_its_page_and_by_its_file(tmp_path: Path) -> None:
    assert locate("2toINF/IVM") == ("ivm-v1", Path("ivm-v1"))
    (tmp_path / "IVM-V1.0.bin").write_text("")
    assert locate(tmp_path) == ("ivm-v1", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "ivm"}')
    assert locate(tmp_path) == ("ivm", tmp_path)


def test_a_hub_without_its_package_gives_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    for name in [name for name in sys.modules if name.split(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtraError, match=r"pip install 'ivm\[full\]'"):
        locate("someone/their-masker")


class Absent:
    """Makes huggingface_hub look not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == "huggingface_hub":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_the_page_on_models_agrees_with_the_presets() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `") and " MB |" in row}
    assert list(rows) == list(PRESETS)  # in the order of `ivm models`
    for name, preset in PRESETS.items():
        assert f"| {preset.megabytes:,.0f} MB |" in rows[name]
        assert preset.licence.split(", consent")[0] in rows[name]
        assert ("untrained" in preset.summary) == ("untrained" in rows[name])


def test_devices() -> None:
    assert [check_device(device) for device in DEVICES] == ["auto", "cpu", "cuda"]
    with pytest.raises(OptionError, match="device must be one of auto, cpu, cuda, but got 'mps'"):
        check_device("mps")
