import json
import pickle
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("accelerate")

from safetensors.torch import load_file  # noqa: E402

import ivm  # noqa: E402
from ivm.blending import blend  # noqa: E402
from ivm.data.stream import ShardSet  # noqa: E402
from ivm.errors import CheckpointError, OptionError  # noqa: E402
from ivm.models.tiny import write_tiny  # noqa: E402
from ivm.training import recipe  # noqa: E402
from ivm.training.config import Model  # noqa: E402
from ivm.training.config_file import read_config  # noqa: E402
from ivm.training.feed import Place, Viewer  # noqa: E402
from ivm.training.full import check, discriminator, generator, sizes  # noqa: E402
from ivm.training.recipe import train  # noqa: E402


def quiet(line):
    pass


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """Folder with the config.json of a tiny full-size model."""
    folder = tmp_path_factory.mktemp("full")
    write_tiny(folder).save_pretrained(folder / "preset")
    return folder / "preset"


@pytest.fixture
def views(stores):
    samples = ShardSet(stores["mixed"])
    return [Viewer(64, None)(samples[k], Place(0, 0, k, 0)) for k in (0, 7, 30)]


@pytest.fixture
def configure_full(stores, preset, tmp_path):
    """configure_full(stage, "section.option=value", ...) -> TrainConfig of a run of seconds."""

    def make(stage="generator", *overrides, folder=None):
        lines = [
            f'folder = "{folder or stage}-run"', "save_every = 4", "report_every = 2", "track = []",
            "[model]", 'kind = "full"', "image_size = 64",
            "[model.sizes]", f'preset = "{preset}"',
            "[data]", f'stores = ["{stores["human"]}", "{stores["machine"]}"]', "workers = 0",
            "[optimise]", "steps = 4", "batch_size = 4", "warmup = 1", 'precision = "fp32"', "decay = 1",
            "learning_rate = 0.003",
        ]  # fmt: skip
        if stage == "generator" and not any("loss." in one for one in overrides):
            lines += ["[loss]", 'weights = "equal"']
        path = tmp_path / f"{stage}.toml"
        path.write_text("\n".join(lines))
        return read_config(path, stage, overrides)

    return make


def model(preset, **more):
    return Model(kind="full", image_size=64, sizes={"preset": str(preset), **more})


def test_a_generator_answers_at_the_size_of_its_targets(preset, views):
    trainee = generator(model(preset))
    batch = trainee.collate(views)
    logits, found = trainee.module(*batch.inputs)
    assert logits.shape == batch.targets.shape == (3, 16, 16)
    assert found.shape == batch.found.shape == (3,)
    assert batch.found.tolist() == [True, False, True]
    assert batch.targets[0].mean() == pytest.approx(views[0].sample.heatmap.mean(), abs=1e-3)
    pickle.loads(pickle.dumps(trainee.collate))  # loaders' processes are given it


def test_a_discriminator_sees_the_image_as_its_annotation_masks_it(preset, views):
    trainee = discriminator(model(preset))
    batch = trainee.collate(views)
    sample = views[0].sample
    assert np.array_equal(batch.inputs[0][0].permute(1, 2, 0).numpy(), blend(sample.image, sample.heatmap))
    assert (batch.inputs[0][1] == 255).all()  # nothing is relevant there
    assert trainee.module(*batch.inputs).shape == (3,)
    assert trainee.export is None


def test_one_sample_does_not_change_the_answer_about_another(preset, views):
    trainee = generator(model(preset))
    module = trainee.module.eval()
    with torch.no_grad():
        together, _ = module(*trainee.collate(views).inputs)
        alone, _ = module(*trainee.collate(views[1:2]).inputs)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


def test_only_the_published_parts_are_trained_and_in_float32(preset):
    module = generator(model(preset, dtype="bfloat16")).module
    trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
    positions = "mask_decoder.pe_layer.positional_encoding_gaussian_matrix"
    assert set(trained) == set(module.trained_names()) - {positions}
    assert {value.dtype for value in trained.values()} == {torch.float32}
    assert next(module.image_encoder.parameters()).dtype == torch.bfloat16


def test_both_train_through_the_recipe_on_one_lmm_and_the_result_loads(configure_full, views, preset):
    asked = configure_full("discriminator")
    train(asked, quiet)
    weights = load_file(Path(asked.folder) / "last.safetensors")
    assert all(name.startswith(("adapter.", "head.")) for name in weights)
    assert any(value.abs().max() > 0 for name, value in weights.items() if "lora_B" in name)  # it learnt

    config = configure_full("generator", "loss.weights=dwsl", f"loss.discriminator={asked.folder}")
    outcome = train(config, quiet)
    assert outcome.finished
    rows = [json.loads(line) for line in Path(config.folder, "log.jsonl").read_text().splitlines()]
    assert 0.1 < rows[-1]["weight"] < 0.9  # of the discriminator, which is neither blind nor sure
    kept = load_file(Path(config.folder) / "last.safetensors")
    assert not any(".discriminator." in name or ".base_layer." in name for name in kept)
    assert not any("embed_tokens" in name for name in kept)

    masker = ivm.load(outcome.model, device="cpu")
    module = masker.backend.model
    state = module.state_dict()
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    heatmap = masker(views[0].sample.image, views[0].instruction)
    assert heatmap.values.shape == views[0].sample.image.shape[:2]


def test_base_models_can_be_given_beside_the_preset(preset, tmp_path):
    write_tiny(tmp_path, seed=5)
    given = {"lmm": str(tmp_path / "lmm"), "image": str(tmp_path / "image")}
    module = generator(model(preset, **given)).module
    assert (module.config.lmm_base, module.config.image_base) == (given["lmm"], given["image"])
    other = generator(model(preset)).module
    for name in ("image_encoder.backbone.pos_embed", "image_encoder.backbone.patch_embed.projection.weight"):
        mine, theirs = module.state_dict()[name], other.state_dict()[name]
        assert mine.shape == theirs.shape
    assert not torch.equal(mine, theirs)


def test_a_generator_and_its_discriminator_share_the_lmm(preset, tmp_path):
    first = generator(model(preset))
    judge = discriminator(model(preset))
    backbone = first.module.instruction_encoder.backbone
    assert judge.hidden == (backbone,)
    judge.module.eval().requires_grad_(False)  # as the recipe does with a judge
    assert any(value.requires_grad for name, value in backbone.named_parameters() if ".generator." in name)
    assert not any(
        value.requires_grad for name, value in backbone.named_parameters() if ".discriminator." in name
    )
    how = {"dtype": "bfloat16", "attention": "eager", "gradient_checkpointing": True}
    assert discriminator(model(preset, **how)).hidden[0] is backbone  # they change no weight
    linked = tmp_path / "preset"
    linked.symlink_to(preset)
    assert discriminator(model(linked)).hidden[0] is backbone
    write_tiny(tmp_path, seed=5)
    assert discriminator(model(preset, lmm=str(tmp_path / "lmm"))).hidden[0] is not backbone


def test_a_discriminator_answers_without_dropout_while_its_generator_is_trained(preset, views):
    first = generator(model(preset, gradient_checkpointing=True))
    judge = discriminator(model(preset))
    judge.module.eval()
    with torch.no_grad():
        for name, value in judge.module.named_parameters():
            if "lora_B" in name:
                value.normal_()
    inputs = judge.collate(views).inputs
    for training in (True, False, True):
        first.module.train(training)
        with torch.no_grad():
            assert torch.equal(judge.module(*inputs), judge.module(*inputs))
    own = {
        name: part for name, part in first.module.named_modules() if name.endswith("lora_dropout.generator")
    }
    assert own
    assert all(part.training for part in own.values())
    assert first.module.instruction_encoder.backbone.language_model.layers[0].training  # it checkpoints
    judge.module.train()  # a discriminator that is itself trained has it
    assert not torch.equal(judge.module(*inputs), judge.module(*inputs))


def test_options_of_memory_may_change_when_a_run_goes_on(configure_full):
    config = configure_full(folder="run")
    train(config, quiet)
    more = ["model.sizes.gradient_checkpointing=true", "model.sizes.attention=eager", "optimise.steps=6"]
    assert train(configure_full("generator", *more, folder="run"), quiet).step == 6
    warm = configure_full("generator", f"init={config.folder}", *more[:1], folder="warm")
    assert train(warm, quiet).finished


def test_a_run_goes_on_with_a_discriminator_that_was_trained_further(configure_full, monkeypatch):
    """The discriminator's adapter lies in the generator's LMM, but not in its checkpoints."""
    asked = configure_full("discriminator")
    train(asked, quiet)
    weighted = ("loss.weights=dwsl", f"loss.discriminator={asked.folder}")
    train(configure_full("generator", *weighted), quiet)
    train(configure_full("discriminator", "optimise.steps=8"), quiet)
    new = load_file(Path(asked.folder) / "last.safetensors")

    def watch(config, fresh=True):
        made = assemble(config, fresh)
        judges.append(made[2].module)
        return made

    judges, assemble = [], recipe.assemble
    monkeypatch.setattr(recipe, "assemble", watch)
    config = configure_full("generator", *weighted, "optimise.steps=6")
    kept = Path(config.folder) / "step-000004" / "model.safetensors"
    assert not any("discriminator" in name for name in load_file(kept))
    assert train(config, quiet).step == 6
    assert all(torch.equal(value, new[name]) for name, value in judges[0].state_dict().items())


def test_interrupted_and_resumed_equals_uninterrupted(configure_full):
    whole, parts = configure_full(folder="whole"), configure_full(folder="parts")
    changed = configure_full("generator", "optimise.steps=4", "save_every=2", folder="parts")
    train(whole, quiet)

    class KillError(Exception):
        pass

    def kill(line):
        if line.startswith("step 4/"):
            raise KillError

    with pytest.raises(KillError):
        train(changed, kill)
    train(parts, quiet)
    a, b = (load_file(Path(one.folder) / "last.safetensors") for one in (whole, parts))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_gradient_checkpointing_is_passed_on(preset):
    module = generator(model(preset, gradient_checkpointing=True)).module
    assert module.instruction_encoder.backbone.language_model.layers[0].gradient_checkpointing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 192}, "image_size must be 64, which .* sees, but is 192"),
        ({"dtype": "int8"}, "sizes.dtype must be one of auto, .*, but is 'int8'"),
        ({"attention": "fast"}, "sizes.attention must be one of auto, .*, but is 'fast'"),
        ({"lmm": 3, "dtype": 1}, "sizes.lmm must be text, but is 3; sizes.dtype must be one of"),
        ({"gradient_checkpointing": 1}, "sizes.gradient_checkpointing must be true or false, but is 1"),
        ({"preset": "ivm-v2"}, "preset must be one of ivm-v1, .*, but is 'ivm-v2'"),
        ({"colour": "red"}, "the sizes of a full model are preset, .*, but there is colour"),
    ],
)
def test_options_that_do_not_fit_are_refused(preset, changes, message):
    size = changes.pop("image_size", 64)
    with pytest.raises(OptionError, match=message):
        check(Model(kind="full", image_size=size, sizes={"preset": str(preset), **changes}), "generator")


def test_presets_see_1024_pixels():
    for name in ("ivm-v1", sizes("generator")["preset"]):
        check(Model(kind="full", image_size=1024, sizes={"preset": name}), "generator")


def test_weights_of_another_stage_or_size_are_refused(configure_full):
    asked = configure_full("discriminator")
    train(asked, quiet)
    with pytest.raises(CheckpointError, match="stage is 'generator' but 'discriminator' there"):
        train(configure_full("generator", f"init={asked.folder}"), quiet)
