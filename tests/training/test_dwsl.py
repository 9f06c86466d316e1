import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ivm.data.packs import read_pack  # noqa: E402
from ivm.errors import OptionError, TrainingError  # noqa: E402
from ivm.training.dwsl import (  # noqa: E402
    WEIGHTS,
    discriminator_scores,
    discriminator_step,
    generator_step,
    sample_weights,
)
from ivm.training.loop import LoopConfig, collate  # noqa: E402
from ivm.training.losses import discriminator_loss  # noqa: E402
from ivm.training.photos import PhotoQuestions  # noqa: E402

CONFIG = LoopConfig(precision="fp32", clip=1e9)


@pytest.fixture
def batch(pack_folder, tiny_tokenizer):
    pictures = PhotoQuestions([(read_pack(pack_folder), 1.0)], size=64)
    made = collate([pictures[0], dataclasses.replace(pictures[1], human=False)], tiny_tokenizer)
    assert made.human.tolist() == [True] * 3 + [False] * 3
    return made


def test_weights_are_what_their_names_say():
    scores = torch.tensor([0.0, 0.05, 0.3, 0.5, 0.95, 1.0])
    human = torch.tensor([True, False, True, False, True, False])
    torch.testing.assert_close(sample_weights(scores, human), torch.tensor([0.1, 0.1, 0.3, 0.5, 0.9, 0.9]))
    odds = sample_weights(scores, human, "odds")
    torch.testing.assert_close(odds, torch.tensor([1 / 9, 1 / 9, 3 / 7, 1.0, 9.0, 9.0]))
    assert sample_weights(scores, human, "equal").tolist() == [1.0] * 6
    assert sample_weights(scores, human, "human").tolist() == [1, 0, 1, 0, 1, 0]
    assert sample_weights(scores, human, "machine").tolist() == [0, 1, 0, 1, 0, 1]
    assert sample_weights(scores, human, "self-paced", progress=0.0).tolist() == [1, 0, 1, 0, 1, 1]
    assert sample_weights(scores, human, "self-paced", progress=0.5).tolist() == [1, 0, 1, 1, 1, 1]


def test_self_paced_only_ever_takes_more():
    scores, human = torch.rand(200), torch.rand(200) > 0.5
    taken = [sample_weights(scores, human, "self-paced", p).sum().item() for p in np.linspace(0, 1, 9)]
    assert taken == sorted(taken)
    assert taken[0] < taken[-1]


@pytest.mark.parametrize("method", WEIGHTS)
def test_no_gradient_flows_through_a_weight(method):
    scores = torch.rand(6, requires_grad=True)
    assert not sample_weights(scores, torch.rand(6) > 0.5, method).requires_grad


def test_wrong_options_are_refused():
    scores, human = torch.rand(2), torch.tensor([True, False])
    for wrong in ({"method": "paper"}, {"clip": (0.9, 0.1)}, {"clip": (0.1, 1.0)}, {"progress": 2.0}):
        with pytest.raises(OptionError):
            sample_weights(scores, human, **wrong)
    with pytest.raises(OptionError, match="must be one of"):
        discriminator_loss(scores, human, "gan")


def test_the_discriminators_losses_agree_with_their_formulas():
    torch.manual_seed(0)
    logits, human = torch.randn(12), torch.arange(12) % 3 == 0
    d = torch.sigmoid(logits.double())
    want = -d[human].log().mean() - (1 - d[~human]).log().mean()
    torch.testing.assert_close(discriminator_loss(logits, human).double(), want)
    c = d.clamp(0.1, 0.9)
    want = -c[human].log().mean() - (1 - c[~human]).log().mean() / 0.5 + (1 - c[human]).log().mean()
    got = discriminator_loss(logits, human, "positive-unlabelled", eta=0.5)
    torch.testing.assert_close(got.double(), want)
    extreme = torch.tensor([200.0, -200.0])
    for method in ("paper", "positive-unlabelled"):
        assert torch.isfinite(discriminator_loss(extreme, torch.tensor([False, True]), method))
    with pytest.raises(TrainingError, match="one kind"):
        discriminator_loss(logits, torch.ones(12, dtype=torch.bool))


def test_the_generator_leaves_the_discriminator_alone(batch, tiny_compact, tiny_discriminator):
    judge = tiny_discriminator(True)
    before = {key: value.clone() for key, value in judge.state_dict().items()}
    optimizer = torch.optim.AdamW(tiny_compact.parameters(), lr=1e-3)
    losses = generator_step(tiny_compact, judge, batch, optimizer, CONFIG)
    assert all(p.grad is None for p in judge.parameters())
    assert all(torch.equal(value, before[key]) for key, value in judge.state_dict().items())
    with torch.no_grad():
        scores = discriminator_scores(judge, batch)
    assert losses["weight"] == pytest.approx(scores.clamp(0.1, 0.9).mean().item(), rel=1e-4)


def test_human_only_has_the_gradient_of_the_human_samples(batch, tiny_compact):
    def gradient(part, method):
        still = torch.optim.SGD(tiny_compact.parameters(), lr=0.0)
        generator_step(tiny_compact, None, part, still, CONFIG, method)
        return torch.cat([p.grad.flatten() for p in tiny_compact.parameters()])

    changed = dataclasses.replace(batch, targets=batch.targets.clone())
    changed.targets[3:] = 1 - changed.targets[3:]  # what the machine says must not matter
    torch.testing.assert_close(gradient(batch, "human"), gradient(changed, "human"))
    assert not torch.allclose(gradient(batch, "equal"), gradient(changed, "equal"))
    with pytest.raises(OptionError, match="need a discriminator"):
        generator_step(tiny_compact, None, batch, torch.optim.SGD(tiny_compact.parameters()), CONFIG, "dwsl")


def test_a_discriminator_learns_to_tell_right_masks_from_empty_ones(batch, tiny_discriminator):
    judge = tiny_discriminator(True)
    targets = batch.targets.clone()
    targets[~batch.human] = 0.0  # the machine masks everything
    targets[batch.human] = torch.clamp(targets[batch.human] + 0.5, 0, 1)
    told = dataclasses.replace(batch, targets=targets)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3)
    for _ in range(45):
        figures = discriminator_step(judge, told, optimizer)
    assert figures["human"] > 0.8 > 0.2 > figures["machine"]


def test_both_stages_compute_the_scores_in_the_precision_that_is_asked_for(
    batch, tiny_compact, tiny_discriminator
):
    judge = tiny_discriminator(True)
    with torch.no_grad():
        full, half = (discriminator_scores(judge.eval(), batch, p) for p in ("fp32", "bf16"))
    assert not torch.equal(full, half)
    torch.testing.assert_close(full, half, atol=0.02, rtol=0.02)
    for precision, scores in (("fp32", full), ("bf16", half)):
        still = torch.optim.SGD(tiny_compact.parameters(), lr=0.0)
        config = dataclasses.replace(CONFIG, precision=precision)
        told = generator_step(tiny_compact, judge, batch, still, config)
        assert told["weight"] == pytest.approx(scores.clamp(0.1, 0.9).mean().item(), rel=1e-5)
        told = discriminator_step(
            judge.eval(), batch, torch.optim.SGD(judge.parameters(), lr=0.0), precision=precision
        )
        assert told["human"] == pytest.approx(scores[batch.human].mean().item(), rel=1e-5)
