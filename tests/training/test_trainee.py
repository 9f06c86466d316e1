import sys
import types

import pytest

torch = pytest.importorskip("torch")

from ivm.training.config import ARCHITECTURES, Model  # noqa: E402
from ivm.training.recipe import train  # noqa: E402
from ivm.training.trainee import Trainee, TrainingBatch, View, build, deciding  # noqa: E402


class Colours(torch.nn.Module):
    """The smallest generator: a 1x1 convolution over colours, an embedding of the instruction's hash."""

    def __init__(self, side):
        super().__init__()
        self.side = side
        self.mix = torch.nn.Linear(3, 8)
        self.words = torch.nn.Embedding(64, 8)

    def forward(self, images, ids):
        pixels = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, self.side)
        scores = torch.einsum("bdhw,bd->bhw", self.mix(pixels.movedim(1, -1)).movedim(-1, 1), self.words(ids))
        return scores, scores.flatten(1).amax(1)


def collate(views):
    images = torch.stack([torch.from_numpy(view.sample.image.copy()).permute(2, 0, 1) for view in views])
    ids = torch.tensor([sum(map(ord, view.instruction)) % 64 for view in views])
    targets = torch.stack([torch.from_numpy(view.sample.heatmap.copy()) for view in views])
    pooled = torch.nn.functional.adaptive_avg_pool2d(targets[:, None], 8)[:, 0]
    found = torch.tensor([view.found for view in views])
    human = torch.tensor([view.sample.human for view in views])
    return TrainingBatch((images, ids), pooled, found, human)


def export(module, folder):
    folder.mkdir(exist_ok=True)
    return "as it is"


@pytest.fixture
def another(monkeypatch):
    """An architecture that the package does not know, with a frozen part of its own."""
    module = types.ModuleType("another_architecture")

    def generator(model):
        made = Colours(8)
        made.mix.bias.requires_grad_(False)
        return Trainee(made, collate, export=export)

    module.generator, module.sizes, module.check = generator, lambda stage: {}, lambda model, stage: None
    module.deciding = lambda model, stage: {"side": model.image_size}
    monkeypatch.setitem(sys.modules, "another_architecture", module)
    monkeypatch.setitem(ARCHITECTURES, "another", "another_architecture")


def test_another_architecture_trains_through_the_same_recipe(another, stores, tmp_path):
    from safetensors.torch import load_file

    from ivm.training.config_file import read_config

    path = tmp_path / "c.toml"
    path.write_text(
        f'track = []\nsave_every = 20\n[model]\nkind = "another"\nimage_size = 32\n'
        f'[data]\nstores = ["{stores["human"]}"]\nhuman_share = 1\nworkers = 0\n'
        '[optimise]\nsteps = 40\nwarmup = 2\nbatch_size = 8\nlearning_rate = 0.05\nprecision = "fp32"\n'
        '[loss]\nweights = "equal"\n'
    )
    said = []
    outcome = train(read_config(path, "generator"), said.append)
    assert outcome.model.is_dir()
    losses = [float(line.split("loss ")[1].split()[0]) for line in said if "loss" in line]
    assert losses[-1] < losses[0]
    # What the architecture itself freezes is in no weights file.
    assert set(load_file(outcome.weights)) == {"mix.weight", "words.weight"}
    state = outcome.weights.parent / "step-000040"
    assert set(load_file(state / "model.safetensors")) == {"mix.weight", "words.weight"}
    assert train(read_config(path, "generator", ["optimise.steps=44"]), said.append).finished
    assert "going on from step 40" in said


def test_build_gives_what_the_name_says(small_text):
    made = build(
        "discriminator",
        Model(image_size=32, sizes={"dim": 32, "heads": 4, "stem": [8, 16, 24], "image_blocks": 1}),
    )
    assert type(made.module).__name__ == "CompactDiscriminator"
    assert View._fields == ("sample", "instruction", "found")


def test_the_sizes_that_decide_the_weights_are_plain_and_complete():
    given = deciding("generator", Model(sizes={"stem": (8, 16, 24)}))
    assert given["stem"] == [8, 16, 24]
    assert given["dim"] == 256
