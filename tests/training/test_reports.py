import json
from dataclasses import replace

import pytest

pytest.importorskip("torch")

from ivm.errors import MissingExtraError, TrainingError
from ivm.training.config import Data, GeneratorLoss, Optimise, TrainConfig
from ivm.training.reports import Reporter, check_trackers, wandb_options


class Alone:
    """Stands for accelerate in one process."""

    is_main_process = True

    def __init__(self):
        self.logged = []

    def init_trackers(self, name, init_kwargs):
        self.kwargs = init_kwargs

    def log(self, figures, step):
        self.logged.append((step, figures))

    def end_training(self):
        self.ended = True


@pytest.fixture
def config(tmp_path):
    optimise = Optimise(steps=1000, batch_size=10)
    loss, data = GeneratorLoss("equal"), Data(("a",))
    return TrainConfig(folder=str(tmp_path), track=(), data=data, loss=loss, optimise=optimise)


def test_lines_have_figures_throughput_and_the_time_left(config, tmp_path):
    said = []
    with Reporter(config, 0, said.append, Alone()) as reporter:
        reporter.report(10, 10, {"loss": 1.25, "rate": 0.1})
        reporter.validated(10, {"giou": 0.5}, best=True)
    assert said[0].startswith("step 10/1000  loss 1.25  ")
    assert "samples/s" in said[0]
    assert said[0].endswith(" left")
    assert said[1] == "step 10: validation  giou 0.5000  (best so far)"
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] == 1.25
    assert lines[0]["samples_per_s"] > 0
    assert lines[1] == {"step": 10, "validation_giou": 0.5}


def test_going_on_drops_what_comes_again_and_half_lines(config, tmp_path):
    rows = "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (2, 4, 6))
    (tmp_path / "log.jsonl").write_text(rows + '{"step": 8, "lo')
    with Reporter(config, 4, print, Alone()) as reporter:
        reporter.record(6, {"loss": 2.0})
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == [{"step": 2, "loss": 1.0}, {"step": 4, "loss": 1.0}, {"step": 6, "loss": 2.0}]


def test_trackers_get_the_figures_and_forget_later_steps(config):
    pytest.importorskip("tensorboard")
    alone = Alone()
    with Reporter(replace(config, track=("tensorboard",)), 4, print, alone) as reporter:
        reporter.record(6, {"loss": 2.0})
    assert alone.kwargs["tensorboard"] == {"purge_step": 5}
    assert alone.logged == [(6, {"loss": 2.0})]
    assert alone.ended


def test_only_the_main_process_speaks_and_writes(config, tmp_path):
    other = Alone()
    other.is_main_process = False
    with Reporter(config, 0, lambda line: pytest.fail(line), other) as reporter:
        reporter.report(10, 10, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_is_absent_names_the_command(config, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ivm\[wandb\]'"):
        check_trackers(replace(config, track=("wandb",)))


def test_a_log_that_cannot_be_written_is_told(config, tmp_path):
    with Reporter(replace(config, folder=str(tmp_path / "gone")), 0, print, Alone()) as reporter:
        with pytest.raises(TrainingError, match="cannot write"):
            reporter.record(1, {"loss": 1.0})


def test_weights_and_biases_gets_one_run_a_folder(tmp_path):
    first, again, other = (wandb_options(tmp_path / name) for name in ("one", "one", "two"))
    assert first == again
    assert first["id"] != other["id"]
    assert (first["dir"], first["name"], first["resume"]) == (str(tmp_path / "one"), "one", "allow")
