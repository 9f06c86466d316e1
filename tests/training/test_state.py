import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from accelerate import Accelerator  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from ivm.errors import TrainingError  # noqa: E402
from ivm.training.recipe import train  # noqa: E402
from ivm.training.state import keep_what_is_trained  # noqa: E402


class KillError(Exception):
    pass


def quiet(line):
    pass


@pytest.fixture
def kill(configure):
    """kill("section.option=value", ..., folder=NAME): a run that dies after its checkpoint of step 3."""

    def die(line):
        if line.startswith("step 4/"):
            raise KillError

    def make(*options, folder):
        config = configure("generator", *options, "save_every=3", folder=folder)
        with pytest.raises(KillError):
            train(config, die)
        assert json.loads(Path(config.folder, "state.json").read_text())["step"] == 3
        return config

    return make


def test_resumed_with_other_accumulation_it_is_the_same_run(configure, kill):
    """From an odd step, which is a whole one, however many parts it was computed in."""
    whole = configure(folder="whole")
    train(whole, quiet)
    for before, after in ((1, 2), (4, 1)):
        folder = f"from-{before}-to-{after}"
        kill(f"optimise.accumulate={before}", folder=folder)
        resumed = configure("generator", f"optimise.accumulate={after}", folder=folder)
        train(resumed, quiet)
        a, b = (load_file(f"{config.folder}/last.safetensors") for config in (whole, resumed))
        for name in a:
            torch.testing.assert_close(a[name], b[name], atol=2e-5, rtol=1e-3)


def test_what_several_processes_wrote_one_goes_on_from(kill):
    """DDP calls every tensor module.NAME: one process took none of them, without a word."""
    ours = kill(folder="ours")
    theirs = Path(ours.folder).with_name("theirs")
    shutil.copytree(ours.folder, theirs)
    file = theirs / "step-000003" / "model.safetensors"
    save_file({f"module.{name}": value for name, value in load_file(file).items()}, file)
    for folder in (ours.folder, str(theirs)):
        train(replace(ours, folder=folder), quiet)
    a, b = (load_file(Path(folder) / "last.safetensors") for folder in (ours.folder, theirs))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_checkpoint_that_lacks_a_tensor_is_told(kill):
    config = kill(folder="run")
    file = Path(config.folder, "step-000003", "model.safetensors")
    state = load_file(file)
    del state["conv2.weight"]
    save_file(state, file)
    with pytest.raises(
        TrainingError, match=r"cannot be gone on from: .* lacks 1 tensors, conv2\.weight first"
    ):
        train(config, quiet)


def test_a_checkpoint_holds_what_is_trained_and_no_other_adapter():
    module = torch.nn.ModuleDict({name: torch.nn.Linear(2, 2) for name in ("head", "lora_A", "lmm")})
    names = {"head.weight", "head.bias"}
    module["lmm"].requires_grad_(False)
    module["other_lora_A"] = torch.nn.Linear(2, 2).requires_grad_(
        False
    )  # as a discriminator's in the same LMM
    accelerator = Accelerator(cpu=True)
    keep_what_is_trained(accelerator, module, names)
    weights = [{f"module.{name}": value for name, value in module.state_dict().items()}]
    (hook,) = accelerator._save_model_state_pre_hook.values()
    hook([module], weights, "")
    assert set(weights[0]) == names | {"lora_A.weight", "lora_A.bias"}


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.bin", "random_states_0.pkl"])
def test_a_damaged_checkpoint_is_told_with_the_way_out(configure, name):
    config = configure("generator", "optimise.steps=4")
    train(config, quiet)
    file = Path(config.folder, "step-000004", name)
    file.write_bytes(file.read_bytes()[:100])
    more = replace(config, optimise=replace(config.optimise, steps=8))
    with pytest.raises(
        TrainingError, match=r"cannot be gone on from.*give last\.safetensors of that run as init"
    ):
        train(more, quiet)
    anew = replace(more, folder=config.folder + "-anew", init=f"{config.folder}/last.safetensors")
    assert train(anew, quiet).finished
