import pytest
from typer.testing import CliRunner

from ivm.cli import app

uvicorn = pytest.importorskip("uvicorn")
run = CliRunner().invoke
pytestmark = pytest.mark.weights


@pytest.fixture
def served(monkeypatch):
    """What would have been served, instead of serving it."""
    calls = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: calls.append((app, options)))
    for name in ("IVM_LMM_KEY", "IVM_SERVER_TOKEN", "IVM_LMM_URL"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_it_listens_on_this_machine_unless_told_otherwise(served):
    result = run(app, ["serve", "--port", "9999"])
    assert result.exit_code == 0, result.output
    ((_, options),) = served
    assert (options["host"], options["port"]) == ("127.0.0.1", 9999)
    assert "http://127.0.0.1:9999/" in result.output


def test_a_key_is_not_lent_to_the_world(served, monkeypatch):
    monkeypatch.setenv("IVM_LMM_KEY", "secret")
    arguments = ["serve", "--host", "0.0.0.0", "--upstream", "https://example.org/v1"]
    result = run(app, arguments)
    assert result.exit_code == 2
    assert "IVM_SERVER_TOKEN" in result.output
    assert "secret" not in result.output
    monkeypatch.setenv("IVM_SERVER_TOKEN", "gate")
    assert run(app, arguments).exit_code == 0
    result = run(app, ["serve", "--upstream", "http://example.org/v1"])
    assert "unencrypted" in result.output
    assert len(served) == 1


def test_wrong_modes_are_refused_before_the_model_is_loaded(served, monkeypatch):
    monkeypatch.setattr("ivm.server_cli.open_masker", lambda *_: pytest.fail("the model was loaded"))
    result = run(app, ["serve", "--mode", "overlai"])
    assert result.exit_code == 2
    assert "mode must be" in result.output
    assert not served
