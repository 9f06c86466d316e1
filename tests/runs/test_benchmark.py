"""The benchmark's own arithmetic; what it measures is for `make bench`."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "runs" / "benchmark.py"
    spec = importlib.util.spec_from_file_location("benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_core_is_counted_with_what_it_needs_and_without_extras(benchmark: ModuleType) -> None:
    total, names = benchmark.installed_bytes("ivm")
    assert {"ivm", "numpy", "onnxruntime", "opencv-python-headless", "rich", "mdurl"} <= names
    assert not names & {"torch", "transformers", "mujoco", "pytest"}
    alone = {name: benchmark.installed_bytes(name)[0] for name in ("numpy", "onnxruntime")}
    assert total > alone["numpy"] + alone["onnxruntime"] - 1
    assert alone["numpy"] > 10e6


@pytest.mark.parametrize(("value", "limit", "kept"), [(1, None, True), (2, 2, True), (2.01, 2, False)])
def test_limits(benchmark: ModuleType, value: float, limit: float | None, kept: bool) -> None:
    assert benchmark.Figure("name", value, "ms", limit).kept is kept


def test_a_missed_limit_fails_the_check(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "figures.json"
    monkeypatch.setattr(benchmark, "busy_share", lambda: 0.5)
    command = ["benchmark.py", "--only", "size", "--check", "--json", str(report)]
    for megabytes, code in ((400.0, 0), (500.0, 1)):
        monkeypatch.setattr(benchmark, "installed_bytes", lambda _, size=megabytes: (size * 1e6, {"ivm"}))
        monkeypatch.setattr(sys, "argv", command)
        assert benchmark.main() == code
        assert ("MISSED" in capsys.readouterr().out) == bool(code)
        written = json.loads(report.read_text())
        assert written["figures"][0]["value"] == megabytes
        assert written["busy_before"].startswith("50%")


def test_the_machine_is_told_by_class_and_not_by_name(benchmark: ModuleType) -> None:
    assert "cores" in benchmark.machine()
    assert not platform.node() or platform.node() not in benchmark.machine()


def test_the_pause_between_calls_is_not_counted(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def wait(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(benchmark.time, "sleep", wait)
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])
    assert benchmark.timed(lambda: wait(0.25), 2) == pytest.approx([250, 250])


def test_a_share_is_a_share(benchmark: ModuleType) -> None:
    assert 0 <= benchmark.busy_share(0.05) <= 1
