import json
import subprocess
import sys
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from ivm.errors import CheckpointError, TrainingError  # noqa: E402
from ivm.training.checkpoints import (  # noqa: E402
    RunFolder,
    kept_names,
    load_trainee,
    load_weights,
    read_header,
    weights_file,
    write_text,
    write_weights,
)
from ivm.training.config import STAGES, Data, GeneratorLoss, Model, TrainConfig  # noqa: E402

CONFIG = TrainConfig(data=Data(stores=("a",)), loss=GeneratorLoss("equal"))


@pytest.fixture
def module():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 3))


def save(run, step, module, score=None, write=None):
    def state(folder):
        folder.mkdir(parents=True)
        (folder / "state").write_text(str(step))

    return run.save(step, CONFIG, write or state, module.state_dict, score, True, lambda: None)


def test_the_last_and_the_best_are_kept(module, tmp_path):
    run = RunFolder(tmp_path / "run")
    run.begin()
    assert [save(run, step, module, score) for step, score in ((1, 0.3), (2, 0.5), (3, 0.4))] == [
        True, True, False,
    ]  # fmt: skip
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == [".running", "best.safetensors", "last.safetensors", "state.json", "step-000003"]
    again = RunFolder(tmp_path / "run")
    assert (again.step, again.best["step"], again.checkpoint.name) == (3, 2, "step-000003")
    assert read_header(tmp_path / "run" / "best.safetensors")["step"] == 2
    assert weights_file(tmp_path / "run").name == "best.safetensors"


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")]
)
def test_what_cannot_be_written_leaves_the_last_one(module, tmp_path, error):
    run = RunFolder(tmp_path / "run")
    run.begin()

    def fail(folder):
        folder.mkdir(parents=True)
        (folder / "half").write_text("x")
        raise error

    with pytest.raises(TrainingError, match=r"of step 1 .*; there is none before it"):
        save(run, 1, module, write=fail)
    save(run, 2, module)
    with pytest.raises(TrainingError, match=r"(No space left|failed writing).*the one of step 2 is whole"):
        save(run, 3, module, 1.0, fail)
    assert RunFolder(tmp_path / "run").step == 2
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".running", "last.safetensors", "state.json", "step-000002",
    ]  # fmt: skip


def test_the_best_of_another_validation_is_forgotten(module, tmp_path):
    run = RunFolder(tmp_path / "run")
    assert not run.forget_best(CONFIG, True)
    run.begin()
    save(run, 1, module, 0.3)
    assert not run.forget_best(CONFIG, True)
    other = replace(CONFIG, data=replace(CONFIG.data, validation=("b",)))
    again = RunFolder(tmp_path / "run")
    assert again.forget_best(other, False)  # of another process: it touches no file
    assert weights_file(tmp_path / "run").name == "best.safetensors"
    assert run.forget_best(other, True)
    assert RunFolder(tmp_path / "run").best == {}
    assert weights_file(tmp_path / "run").name == "last.safetensors"
    assert save(run, 2, module, 0.1)


def test_only_what_decides_the_weights_must_stay(module, tmp_path):
    run = RunFolder(tmp_path / "run")
    run.begin()
    save(run, 1, module)
    run.check(replace(CONFIG, model=Model(sizes={"threshold": 0.4, "dim": 256})))
    with pytest.raises(TrainingError, match=r"another run: model\.sizes\.dim is 128 but was 256; choose"):
        run.check(replace(CONFIG, model=Model(sizes={"dim": 128})))
    with pytest.raises(TrainingError, match=r"another run: model\.image_size is 64 but was 192; choose"):
        run.check(replace(CONFIG, model=Model(image_size=64)))


def test_parts_that_are_frozen_stay_frozen(module, tmp_path):
    """The optimiser's moments go by position: those of one layer would be taken for another's."""
    run = RunFolder(tmp_path / "run")
    run.begin()
    save(run, 1, module)
    frozen = replace(CONFIG, optimise=replace(CONFIG.optimise, freeze=("hyper.*",)))
    with pytest.raises(TrainingError, match=r"optimise\.freeze is \['hyper\.\*'\] but was \[\]; choose"):
        run.check(frozen)


def test_a_checkpoint_that_does_not_count_is_cleared(module, tmp_path):
    """A run was killed between the state and the removal of the checkpoint before."""
    run = RunFolder(tmp_path / "run")
    run.begin()
    (tmp_path / "run" / "step-000001").mkdir()
    run.begin()
    assert (tmp_path / "run" / "step-000001").is_dir()  # without a state it may be all that there is
    save(run, 2, module)
    RunFolder(tmp_path / "run").begin()
    assert [path.name for path in (tmp_path / "run").glob("step-*")] == ["step-000002"]


def test_killed_while_it_forgets_the_best_it_forgets_it_again(module, tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run")
    run.begin()
    save(run, 1, module, 0.3)
    other = replace(CONFIG, data=replace(CONFIG.data, validation=("b",)))

    def die(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "_write_state", die)
    with pytest.raises(KeyboardInterrupt):
        run.forget_best(other, True)
    monkeypatch.undo()
    again = RunFolder(tmp_path / "run")
    assert again.forget_best(other, True)
    assert weights_file(tmp_path / "run").name == "last.safetensors"
    assert RunFolder(tmp_path / "run").best == {}


def test_a_folder_that_another_process_trains_in_is_left_alone(tmp_path):
    pytest.importorskip("fcntl")
    RunFolder(tmp_path).begin()
    (tmp_path / ".saving-step").mkdir()
    hold = (
        "import sys; from ivm.training.checkpoints import RunFolder; run = RunFolder(sys.argv[1]); "
        "run.begin(); print('there', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "there\n"
        (tmp_path / ".saving-step").mkdir()
        with pytest.raises(TrainingError, match=r"another process trains in .*: wait for it, stop it, or"):
            RunFolder(tmp_path).begin()
        assert (tmp_path / ".saving-step").exists()
        other.stdin.close()
    runs = [RunFolder(tmp_path), RunFolder(tmp_path)]
    for run in runs:  # in a notebook, after an error
        run.begin()
    assert not (tmp_path / ".saving-step").exists()


def test_what_a_killed_run_left_is_cleared(tmp_path):
    (tmp_path / ".saving").mkdir()
    (tmp_path / ".saving-last.safetensors").write_text("half")
    RunFolder(tmp_path).begin()
    assert [path.name for path in tmp_path.iterdir()] == [".running"]


def test_a_damaged_state_is_told(tmp_path):
    (tmp_path / "state.json").write_text('{"step": 3')
    with pytest.raises(TrainingError, match=r"state\.json cannot be read"):
        RunFolder(tmp_path)
    state = {"step": 3, "checkpoint": "step-000003", "best": {}, "config": CONFIG.to_dict()}
    for damage in (
        {"checkpoint": 3},
        {"config": {}},
        {"config": CONFIG.to_dict() | {"model": {"kind": "x"}}},
    ):
        (tmp_path / "state.json").write_text(json.dumps(state | damage))
        with pytest.raises(TrainingError, match=r"state\.json cannot be read: .* give last\.safetensors"):
            RunFolder(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot write"):
        RunFolder(tmp_path / "file" / "run").begin()


def test_weights_say_what_they_are_and_fit_or_not(module, tmp_path):
    file, model = tmp_path / "w.safetensors", Model(sizes={"dim": 8})
    header = {"kind": "compact", "stage": "generator", "model": {"sizes": {"dim": 8}}}
    write_weights(file, module.state_dict(), header)
    other = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 3))
    load_weights(other, file, kept_names(other), "generator", model)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), module.parameters(), strict=True))
    with pytest.raises(CheckpointError, match="is 'discriminator' but 'generator' there; dim is 4 but 8"):
        load_weights(other, file, kept_names(other), "discriminator", Model(sizes={"dim": 4}))
    write_weights(file, {"0.weight": torch.zeros(2, 4), "x": torch.zeros(1)}, {})
    with pytest.raises(CheckpointError) as caught:
        load_weights(other, file, kept_names(other), "generator", model)
    for part in ("lacks 0.bias", "and 2 more"):
        assert part in str(caught.value)
    (tmp_path / "no.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="is no weights file"):
        read_header(tmp_path / "no.safetensors")
    with pytest.raises(CheckpointError, match="is not there"):
        weights_file(tmp_path / "nothing")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("header", [[1], "x", {"kind": "compact"}, {"model": {}}])
def test_a_header_that_is_none_of_ours_is_told(module, tmp_path, header, stage):
    module.start_from = module.load_state_dict  # as a compact discriminator has it
    write_weights(tmp_path / "w.safetensors", module.state_dict(), header)
    with pytest.raises(CheckpointError, match="header"):
        load_weights(module, tmp_path / "w.safetensors", kept_names(module), stage, Model())
    with pytest.raises(CheckpointError, match="header"):
        load_trainee(tmp_path / "w.safetensors", stage)


def test_weights_from_when_the_backbone_stayed_as_it_is_still_load(module, tmp_path):
    """They lack it: then it was as it is built, which is what they were trained on."""
    file, header = tmp_path / "w.safetensors", {"kind": "compact", "stage": "generator", "model": {}}
    state = module.state_dict()
    write_weights(file, {name: state[name] for name in state if name.startswith("0.")}, header)
    new = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Linear(6, 3))
    built = new[1].weight.clone()
    load_weights(new, file, kept_names(new), "generator", Model(), "1.")
    assert torch.equal(new[0].weight, module[0].weight)
    assert torch.equal(new[1].weight, built)
    write_weights(file, {name: state[name] for name in ("0.weight", "0.bias", "1.bias")}, header)
    with pytest.raises(CheckpointError, match=r"lacks 1\.weight"):  # part of it is damage
        load_weights(new, file, kept_names(new), "generator", Model(), "1.")


def test_sizes_that_nobody_knows_are_told_with_the_file(module, tmp_path):
    header = {"kind": "compact", "stage": "generator", "model": {"sizes": {"later": 3}}}
    write_weights(tmp_path / "w.safetensors", module.state_dict(), header)
    with pytest.raises(CheckpointError, match=r"w\.safetensors has a damaged header: .* not later"):
        load_trainee(tmp_path / "w.safetensors", "generator")


def test_frozen_parameters_of_the_architecture_are_not_kept(module):
    module[0].requires_grad_(False)
    assert kept_names(module) == {"1.weight", "1.bias"}


def test_a_model_is_built_from_its_file_alone(small_text, tmp_path):
    from ivm.training.trainee import build

    model = Model(
        image_size=32,
        sizes={
            "dim": 32,
            "heads": 4,
            "stem": [8, 16, 24],
            "image_blocks": 1,
            "fusion_blocks": 1,
            "text_blocks": 1,
        },
    )
    module = build("discriminator", model).module
    plain = {"image_size": 32, "sizes": dict(model.sizes), "kind": "compact"}
    header = {"kind": "compact", "stage": "discriminator", "model": plain}
    write_weights(tmp_path / "d.safetensors", module.state_dict(), header)
    trainee, found = load_trainee(tmp_path / "d.safetensors", "discriminator")
    assert found == model
    assert all(torch.equal(value, module.state_dict()[k]) for k, value in trainee.module.state_dict().items())
    with pytest.raises(CheckpointError, match="must hold a generator"):
        load_trainee(tmp_path / "d.safetensors", "generator")
    write_weights(tmp_path / "d.safetensors", {"x": torch.zeros(1)}, {"stage": "discriminator"})
    with pytest.raises(CheckpointError, match="damaged header"):
        load_trainee(tmp_path / "d.safetensors", "discriminator")


def test_text_is_written_whole(tmp_path):
    write_text(tmp_path / "a.json", json.dumps([1]))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
