import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
accelerate = pytest.importorskip("accelerate")

from ivm.errors import DataError  # noqa: E402
from ivm.training.recipe import assemble, train  # noqa: E402
from ivm.training.validation import SCORE, Validation  # noqa: E402
from training.conftest import boxes, write_store  # noqa: E402


@pytest.fixture
def accelerator():
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()
    return accelerate.Accelerator(mixed_precision="no")


def keep(folder):
    return f"data.validation=['{folder}']"


def test_perfect_answers_have_perfect_figures(configure, stores, accelerator):
    config = configure("generator", keep(stores["val"]))
    trainee = assemble(config)[0]
    validation = Validation(config, trainee, accelerator)
    collate = trainee.collate

    class Right(torch.nn.Module):
        def forward(self, *inputs):
            return self.answer

    model = Right()

    def note(views):  # the model is told the answers
        batch = collate(views)
        model.answer = (batch.targets * 40 - 20, batch.found.float() * 40 - 20)
        return batch

    import dataclasses

    validation.trainee = dataclasses.replace(trainee, collate=note)
    figures = validation(model)
    assert figures["giou"] == figures["pointing"] == figures["found"] == 1.0

    class Wrong(torch.nn.Module):
        def forward(self, *inputs):
            return -model.answer[0], -model.answer[1]

    figures = validation(Wrong())
    assert figures["giou"] < 0.02
    assert figures["pointing"] == figures["found"] == 0.0


def test_figures_are_the_same_each_time_and_the_mode_is_restored(configure, stores, accelerator):
    config = configure("generator", keep(stores["val"]), "data.validation_samples=10")
    trainee = assemble(config)[0]
    validation = Validation(config, trainee, accelerator)
    assert len(validation.places) == 10
    module = trainee.module.train()
    state = torch.random.get_rng_state()
    assert validation(module) == validation(module)
    assert module.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert set(SCORE.values()) == {"giou", "auroc"}


def test_a_discriminator_is_measured_on_both_kinds(configure, stores, accelerator):
    config = configure("discriminator", keep(stores["val"]))
    trainee = assemble(config)[0]
    figures = Validation(config, trainee, accelerator)(trainee.module)
    assert 0 <= figures["auroc"] <= 1
    assert set(figures) == {"loss", "auroc", "human", "machine"}
    with pytest.raises(DataError, match="must hold human and machine annotations, but holds human alone"):
        Validation(configure("discriminator", keep(stores["human"])), trainee, accelerator)
    few = configure("discriminator", keep(stores["val"]), "data.validation_samples=1")
    with pytest.raises(
        DataError, match=r"but holds human alone in the 1 samples .* raise data\.validation_s"
    ):
        Validation(few, trainee, accelerator)


def test_absent_targets_alone_decide_nothing(configure, tmp_path, accelerator):
    absent = (sample for sample in boxes(4, True, 24) if sample.kind == "absent")
    config = configure("generator", keep(write_store(tmp_path / "absent", absent)))
    with pytest.raises(DataError, match="targets that are in the picture, but holds absent ones alone"):
        Validation(config, assemble(config).trainee, accelerator)


def test_a_shard_that_is_gone_is_told(configure, stores, accelerator):
    config = configure("generator", keep(stores["val"]))
    trainee = assemble(config)[0]
    validation = Validation(config, trainee, accelerator)
    for tar in stores["val"].glob("*.tar"):
        tar.unlink()
    with pytest.raises(DataError, match="cannot read"):
        validation(trainee.module)


def test_with_another_validation_the_best_starts_anew(configure, stores):
    def run(*options):
        said = []
        config = configure("generator", "optimise.schedule=flat", *options, folder="run")
        outcome = train(config, said.append)
        state = json.loads(Path(config.folder, "state.json").read_text())
        return outcome.weights.name, state["best"].get("step"), " ".join(said)

    first = f"data.validation=['{stores['human']}']"
    assert run(first, "optimise.steps=4")[:2] == ("best.safetensors", 4)
    name, best, said = run(f"data.validation=['{stores['machine']}']", "optimise.steps=8")
    assert (name, best) == ("best.safetensors", 8)
    assert "the best weights so far count no more and are removed" in said
    name, best, said = run("optimise.steps=8")  # without one, and without a further step
    assert (name, best) == ("last.safetensors", None)
    assert "exporting" in said
    assert "exporting" not in run("optimise.steps=8")[2]
