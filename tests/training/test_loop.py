import copy
import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from ivm.data.packs import read_pack  # noqa: E402
from ivm.errors import CheckpointError, OptionError, TrainingError  # noqa: E402
from ivm.models.compact import CompactConfig, CompactModel  # noqa: E402
from ivm.models.efficientnet_lite import EfficientNetLite  # noqa: E402
from ivm.training.checkpoints import read_header  # noqa: E402
from ivm.training.loop import LoopConfig, collate, learning_rate, train, train_step  # noqa: E402
from ivm.training.photos import PhotoQuestions  # noqa: E402

CONFIG = LoopConfig(
    steps=6, batch_size=2, warmup=2, decay=2, save_every=3, workers=0, precision="fp32", learning_rate=1e-3
)


@pytest.fixture
def pictures(pack_folder):
    return PhotoQuestions([(read_pack(pack_folder), 1.0)], size=64)


def test_interrupted_and_resumed_equals_uninterrupted(tiny_compact, tiny_tokenizer, pictures, tmp_path):
    start = {key: value.clone() for key, value in tiny_compact.state_dict().items()}
    whole = train(tiny_compact, tiny_tokenizer, pictures, tmp_path / "whole", CONFIG, report=lambda _: None)
    tiny_compact.load_state_dict(start)

    class StopError(Exception):
        pass

    def stop_after_first_checkpoint(_):
        raise StopError

    with pytest.raises(StopError):
        train(
            tiny_compact, tiny_tokenizer, pictures, tmp_path / "parts", CONFIG,
            evaluate=stop_after_first_checkpoint, report=lambda _: None,
        )  # fmt: skip
    torch.manual_seed(99)
    for parameter in tiny_compact.parameters():  # what is in memory must not matter
        parameter.data.normal_()
    parts = train(tiny_compact, tiny_tokenizer, pictures, tmp_path / "parts", CONFIG, report=lambda _: None)
    a, b = load_file(whole), load_file(parts)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert sorted(p.name for p in (tmp_path / "parts").glob("*.safetensors")) == [
        "average-6.safetensors", "last-6.safetensors",
    ]  # fmt: skip


def test_a_few_steps_learn_one_picture(tiny_compact, tiny_tokenizer, pictures):
    batch = collate([pictures[0], pictures[1]], tiny_tokenizer)
    optimizer = torch.optim.AdamW(tiny_compact.parameters(), lr=3e-3)
    losses = [train_step(tiny_compact, batch, [optimizer], CONFIG)["loss"] for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_teacher_is_followed_and_stays_as_it_was(tiny_compact, tiny_tokenizer, pictures, tmp_path):
    """One that learnt the opposite of the annotations: its student comes to say the opposite, too."""
    batch = collate([pictures[0], pictures[1]], tiny_tokenizer)
    teacher, student = copy.deepcopy(tiny_compact), tiny_compact
    lie = replace(batch, targets=1.0 - batch.targets)
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=3e-3)
    for _ in range(60):
        train_step(teacher, lie, [optimizer], CONFIG)
    kept = {key: value.clone() for key, value in teacher.state_dict().items()}
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    alone = replace(CONFIG, teacher_share=1.0)
    told = [train_step(student, batch, [optimizer], alone, teacher=teacher) for _ in range(60)]
    assert told[-1]["teacher"] < told[0]["teacher"] - 0.1
    assert told[-1]["mask"] > told[0]["mask"] + 0.1  # farther from the annotations
    torch.testing.assert_close(dict(teacher.state_dict()), kept)
    assert "teacher" not in train_step(student, batch, [optimizer], CONFIG)
    train(student, tiny_tokenizer, pictures, tmp_path / "a", CONFIG, report=lambda _: None, teacher=teacher)
    assert not any(value.requires_grad for value in teacher.parameters())
    teacher.config = replace(teacher.config, max_tokens=7)
    with pytest.raises(OptionError, match=r"must have the max_tokens of the model, \d+, but has 7"):
        train(student, tiny_tokenizer, pictures, tmp_path / "b", CONFIG, teacher=teacher)
    with pytest.raises(OptionError, match="teacher_share must be above 0 and at most 1, but got 0"):
        LoopConfig(teacher_share=0)


def test_weights_say_what_they_are_of(tiny_compact, tiny_tokenizer, pictures, tmp_path):
    file = train(tiny_compact, tiny_tokenizer, pictures, tmp_path, CONFIG, report=lambda _: None)
    header = read_header(file)
    assert (header["kind"], header["stage"]) == ("compact", "generator")
    assert CompactConfig(**header["model"]["sizes"]) == replace(
        tiny_compact.config, image_size=192, threshold=0.5, found_threshold=0.5
    )


def test_names_teach_beside_the_questions(tiny_compact, tiny_tokenizer, pictures, tmp_path):
    config = LoopConfig(**{**vars(CONFIG), "names_weight": 0.5})
    batch = collate([pictures[0], pictures[1]], tiny_tokenizer, names=True)
    assert batch.names.targets.shape == (2, len(batch.names.ids), 16)
    assert batch.names.targets.any()
    assert batch.to("meta").names.targets.device.type == "meta"
    optimizer = torch.optim.AdamW(tiny_compact.parameters(), lr=3e-3)
    told = [train_step(tiny_compact, batch, [optimizer], config) for _ in range(40)]
    assert told[-1]["names"] < 0.5 * told[0]["names"]
    assert told[0]["loss"] > told[0]["names"] * 0.5
    plain = collate([pictures[0], pictures[1]], tiny_tokenizer)
    assert plain.names is None
    assert plain.to("cpu").names is None
    assert train_step(tiny_compact, plain, [optimizer], config)["names"] == 0.0
    train(tiny_compact, tiny_tokenizer, pictures, tmp_path, config, report=lambda _: None)
    assert (tmp_path / "average-6.safetensors").exists()


def test_weight_zero_removes_a_question_and_weight_one_is_the_plain_loss(
    tiny_compact, tiny_tokenizer, pictures
):
    batch = collate([pictures[0], pictures[1]], tiny_tokenizer)
    count = len(batch.found)

    def gradient(part, w):
        still = torch.optim.SGD(tiny_compact.parameters(), lr=0.0)
        train_step(tiny_compact, part, [still], LoopConfig(precision="fp32", clip=1e9), w)
        return torch.cat([p.grad.flatten() for p in tiny_compact.parameters()])

    torch.testing.assert_close(gradient(batch, None), gradient(batch, torch.ones(count)))
    only_first = torch.zeros(count)
    only_first[0] = 1.0
    alone = type(batch)(
        batch.images,
        batch.ids[:1],
        batch.mask[:1],
        batch.picture[:1],
        batch.targets[:1],
        batch.found[:1],
        batch.human[:1],
    )
    torch.testing.assert_close(
        gradient(batch, only_first) * count, gradient(alone, None), atol=2e-5, rtol=1e-3
    )


def test_the_learning_rate_rises_stays_and_falls():
    config = LoopConfig(steps=100, warmup=10, decay=20, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert rates[-1] == pytest.approx(0.05)


def test_the_log_has_losses_and_figures(tiny_compact, tiny_tokenizer, pictures, tmp_path):
    train(
        tiny_compact, tiny_tokenizer, pictures, tmp_path, CONFIG,
        evaluate=lambda model: {"figure": float(not model.training)}, report=lambda _: None,
    )  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line for line in lines if "figure" in line] == [
        {"step": 3, "figure": 1.0}, {"step": 6, "figure": 1.0},
    ]  # fmt: skip


def test_weights_may_grow_a_backbone_which_begins_with_no_say(
    tiny_compact, tiny_tokenizer, pictures, tmp_path
):
    before = tmp_path / "before.safetensors"
    save_file(tiny_compact.state_dict(), before)
    parts = (tiny_compact.text_encoder, 16, EfficientNetLite())
    grown = CompactModel(replace(tiny_compact.config, backbone="efficientnet-lite0"), *parts)
    config = replace(CONFIG, steps=1, save_every=1, learning_rate=0.0)  # as it begins
    train(grown, tiny_tokenizer, pictures, tmp_path / "a", config, init=before)
    batch = collate([pictures[0]], tiny_tokenizer)
    with torch.no_grad():
        inputs = (batch.images, batch.ids, batch.mask, batch.picture)
        ours, theirs = grown.eval()(*inputs)[0], tiny_compact.eval()(*inputs)[0]
    torch.testing.assert_close(ours, theirs)
    state = load_file(before)
    del state["hyper.0.weight"]
    save_file(state, before)
    with pytest.raises(CheckpointError, match=r"hyper\.0\.weight"):
        train(grown, tiny_tokenizer, pictures, tmp_path / "c", config, init=before)


def test_a_pretrained_backbone_learns_at_a_rate_of_its_own(tiny_compact, tiny_tokenizer, pictures, tmp_path):
    parts = (tiny_compact.text_encoder, 16, EfficientNetLite())
    model = CompactModel(replace(tiny_compact.config, backbone="efficientnet-lite0"), *parts)
    begun = {key: value.clone() for key, value in model.state_dict().items()}
    config = replace(CONFIG, steps=1, save_every=1, learning_rate=1e-3, warmup=0, decay=1)

    def moved(rate):
        model.load_state_dict(begun)
        once = replace(config, backbone_rate=rate)
        file = train(model, tiny_tokenizer, pictures, tmp_path / str(rate), once)
        last = load_file(file.with_name("last-1.safetensors"))
        return [
            (last[key] - begun[key]).abs().max().item()
            for key in ("deep.2.3.project.weight", "seen16.weight")
        ]

    # AdamW's first step is the rate itself (and a little of the decay of what is not pretrained).
    assert moved(0.5) == pytest.approx([0.5e-3, 1e-3], rel=0.05)
    assert moved(0) == pytest.approx([0.0, 1e-3], rel=0.01)


def test_weights_of_before_the_backbone_was_trained_take_it_as_it_came(
    tiny_compact, tiny_tokenizer, pictures, tmp_path
):
    parts = (tiny_compact.text_encoder, 16, EfficientNetLite())
    model = CompactModel(replace(tiny_compact.config, backbone="efficientnet-lite0"), *parts)
    begun = {key: value.clone() for key, value in model.state_dict().items()}
    before = tmp_path / "before.safetensors"
    save_file({key: value for key, value in begun.items() if not key.startswith("deep.")}, before)
    config = replace(CONFIG, steps=1, save_every=1, learning_rate=0.0)
    file = train(model, tiny_tokenizer, pictures, tmp_path / "a", config, init=before)
    torch.testing.assert_close(load_file(file), begun)


def test_bad_starts_are_refused(tiny_compact, tiny_tokenizer, pictures, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"bad\.safetensors"):
        train(
            tiny_compact, tiny_tokenizer, pictures, tmp_path / "a", CONFIG, init=tmp_path / "bad.safetensors"
        )
    with pytest.raises(OptionError, match="precision"):
        LoopConfig(precision="fp8")
    with pytest.raises(OptionError, match="names_weight"):
        LoopConfig(names_weight=-0.1)
    with pytest.raises(OptionError, match="backbone_rate must be at least 0, but got -1"):
        LoopConfig(backbone_rate=-1)
    batch = collate([pictures[0]], tiny_tokenizer)
    with torch.no_grad():
        tiny_compact.mask_token.fill_(float("nan"))
    optimizer = torch.optim.AdamW(tiny_compact.parameters())
    with pytest.raises(TrainingError, match="not finite"):
        train_step(tiny_compact, batch, [optimizer], CONFIG)
