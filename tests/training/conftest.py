"""A tiny trainable world: stores of coloured boxes, and the compact model over a small frozen table."""

import json

import numpy as np
import pytest

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220)}
SIZES = {"dim": 32, "heads": 4, "stem": [8, 16, 24]}


def boxes(seed, human, count, source="boxes", wrong=False):
    """Samples with two boxes of different colours; `wrong` annotations mark the other one."""
    from ivm.types import Sample

    rng = np.random.default_rng(seed)
    for number in range(count):
        image = rng.integers(110, 150, (48, 64, 3)).astype(np.uint8)
        names = [str(name) for name in rng.permutation(list(COLOURS))[:2]]
        masks = []
        for name, x in zip(names, (4, 36), strict=True):
            x0, y0 = x + int(rng.integers(6)), int(rng.integers(4, 20))
            mask = np.zeros(image.shape[:2], bool)
            mask[y0 : y0 + 16, x0 : x0 + 18] = True
            image[mask] = COLOURS[name]
            masks.append(mask)
        absent = number % 8 == 7
        text = next(name for name in COLOURS if name not in names) if absent else names[0]
        mask = np.zeros_like(masks[0]) if absent else masks[1 if wrong else 0]
        yield Sample(
            f"{source}-{seed}-{number}", image, (f"the {text} cup", f"find the {text} one"), mask, source,
            human=human, kind="absent" if absent else "colour",
        )  # fmt: skip


def write_store(folder, *groups, per_shard=8):
    """A finished store of the samples of some generators."""
    from ivm.data.shards import ShardWriter

    with ShardWriter(folder, {"reader": "test"}, samples_per_shard=per_shard) as writer:
        for group in groups:
            for sample in group:
                writer.write(sample)
    return folder


@pytest.fixture
def stores(tmp_path):
    """Folders by name: "human" 24 right ones, "machine" 24 wrong ones, "mixed" both, "val" of both."""
    human, machine = boxes(0, True, 24), boxes(1, False, 24, "expert", wrong=True)
    mixed = (boxes(0, True, 24), boxes(1, False, 24, "expert", wrong=True))
    val = (boxes(2, True, 12), boxes(3, False, 12, "expert", wrong=True))
    return {
        "human": write_store(tmp_path / "human", human),
        "machine": write_store(tmp_path / "machine", machine),
        "mixed": write_store(tmp_path / "mixed", *mixed, per_shard=10),
        "val": write_store(tmp_path / "val", *val),
    }


@pytest.fixture
def small_text(monkeypatch, tiny_tokenizer):
    """The compact architecture with an embedding table in place of MiniLM: no download, no seconds."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("accelerate")
    from ivm.training import compact

    class Table(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(tiny_tokenizer.get_vocab_size(), 384)

        def forward(self, ids_BT, mask_BT):
            return self.words(ids_BT)

    def encoder(config):
        state = torch.random.get_rng_state()
        torch.manual_seed(5)  # frozen weights are the same whenever they are built, as MiniLM's are
        table = Table()
        torch.random.set_rng_state(state)
        return table.eval()

    monkeypatch.setattr("ivm.models.compact.minilm_text_encoder", encoder)
    monkeypatch.setattr(compact, "build_tokenizer", lambda config: tiny_tokenizer)

    def export(module, tokenizer, folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    # Exporting takes longer than all else: one test does it.
    monkeypatch.setattr(compact, "export_compact", export)


@pytest.fixture
def configure(stores, tmp_path, small_text):
    """configure(stage, "section.option=value", ...) -> TrainConfig of a run of seconds."""
    from ivm.training.config_file import read_config

    def make(stage="generator", *overrides, folder=None):
        blocks = {"image_blocks": 1, "fusion_blocks": 1, "text_blocks": 1, "max_tokens": 12, "backbone": ""}
        sizes = {**SIZES, **blocks}
        lines = [
            f'folder = "{folder or stage}-run"', "save_every = 4", "report_every = 2", "track = []",
            "[model]", "image_size = 32",
            "[model.sizes]", *(f"{name} = {json.dumps(value)}" for name, value in sizes.items()),
            "[data]", f'stores = ["{stores["human"]}", "{stores["machine"]}"]', "workers = 0",
            "[optimise]", "steps = 8", "batch_size = 8", "warmup = 2", 'precision = "fp32"', "decay = 2",
            "learning_rate = 0.003",
        ]  # fmt: skip
        if stage == "generator":
            lines += ["[loss]", 'weights = "equal"']
        path = tmp_path / f"{stage}.toml"
        path.write_text("\n".join(lines))
        return read_config(path, stage, overrides)

    return make
