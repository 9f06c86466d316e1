from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from ivm.errors import CheckpointError, TrainingError  # noqa: E402
from ivm.training.checkpoints import kept_names  # noqa: E402
from ivm.training.config import Data, GeneratorLoss, Lora, Optimise, TrainConfig  # noqa: E402
from ivm.training.parts import (  # noqa: E402
    Average,
    Frozen,
    choose_parameters,
    groups,
    learning_rate,
    plain_weights,
)


@pytest.fixture
def module():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.LayerNorm(6), torch.nn.Linear(6, 3))


GOOD = TrainConfig(data=Data(stores=("a",)), loss=GeneratorLoss("equal"))


def test_the_rate_rises_and_falls_as_a_cosine():
    optimise = Optimise(steps=100, warmup=10, learning_rate=2.0)
    rates = [learning_rate(step, optimise) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[10] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.002


def test_the_rate_stays_flat_and_falls_at_the_end():
    optimise = Optimise(steps=100, warmup=10, decay=20, schedule="flat", learning_rate=1.0)
    rates = [learning_rate(step, optimise) for step in range(100)]
    assert rates[10:80] == [1.0] * 70
    assert rates[-1] == pytest.approx(0.05)


def test_matrices_decay_and_nothing_else(module):
    module[0].weight.requires_grad_(False)
    decayed, plain = groups(module, Optimise(weight_decay=0.1))
    assert [tuple(value.shape) for value in decayed["params"]] == [(3, 6)]
    assert len(plain["params"]) == 4
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert decayed["rate"] == plain["rate"] == 1.0


def test_what_is_pretrained_has_a_rate_of_its_own_and_does_not_decay(module):
    rest, plain, before = groups(module, Optimise(pretrained_rate=0.25), "2.")
    assert [id(value) for value in before["params"]] == [id(value) for value in module[2].parameters()]
    assert (before["rate"], before["weight_decay"]) == (0.25, 0.0)
    assert sum(len(one["params"]) for one in (rest, plain, before)) == len(list(module.parameters()))


def test_the_average_follows_and_is_shown_for_a_while(module):
    average = Average(module, 0.9)
    with torch.no_grad():
        for value in module.parameters():
            value.fill_(1.0)
    for step in range(1, 400):
        average.update(step)
    with torch.no_grad():
        module[0].weight.fill_(5.0)
    with average.shown():
        assert torch.allclose(module[0].weight, torch.ones(6, 4))
    assert torch.equal(module[0].weight, torch.full((6, 4), 5.0))


def test_the_average_is_kept_and_refuses_that_of_other_parameters(module, tmp_path):
    average = Average(module, 0.9)
    average.save(tmp_path)
    with torch.no_grad():
        module[0].weight.add_(1.0)
    other = Average(module, 0.9)
    other.load(tmp_path)
    with other.shown():
        kept = module[0].weight.detach().clone()
    with average.shown():
        assert torch.equal(kept, module[0].weight)
    with pytest.raises(CheckpointError, match="other parameters"):
        Average(module[0], 0.9).load(tmp_path)


def test_the_average_goes_on_with_another_number_of_processes(module, tmp_path):
    """The recipe averages what DDP wraps, whose names are the same without it."""
    wrapped = torch.nn.Module()
    wrapped.module = module  # as DDP does
    Average(wrapped.module, 0.9).save(tmp_path)
    Average(module, 0.9).load(tmp_path)
    with pytest.raises(CheckpointError, match="other parameters"):
        Average(wrapped, 0.9).load(tmp_path)


def test_a_changed_frozen_parameter_is_seen(module):
    module[0].requires_grad_(False)
    frozen = Frozen([module])
    frozen.check()
    with torch.no_grad():
        module[2].weight.add_(1.0)  # trained: may change
    frozen.check()
    with torch.no_grad():
        module[0].weight[3, 2] += 1e-6
    with pytest.raises(TrainingError, match=r"frozen parameter 0\.weight of Sequential has changed"):
        frozen.check()


def test_frozen_models_of_one_kind_are_all_watched(module):
    """A teacher has the names of what it teaches."""
    other = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)))
    for one in (module, other):
        frozen = Frozen([module.requires_grad_(False), other.requires_grad_(False)])
        with torch.no_grad():
            one[0].weight.add_(1.0)
        with pytest.raises(TrainingError, match=r"frozen parameter 0\.weight of Sequential has changed"):
            frozen.check()


def test_swapped_values_and_half_precision_are_seen(module):
    half = module[0].to(torch.bfloat16).requires_grad_(False)
    frozen = Frozen([half])
    with torch.no_grad():
        half.weight.copy_(half.weight.flip(0))
    with pytest.raises(TrainingError, match="has changed"):
        frozen.check()


def test_lora_merges_into_the_weights_that_it_was_put_on(module):
    pytest.importorskip("peft")
    names = kept_names(module)
    choose_parameters(module, replace(GOOD, lora=Lora(rank=2, targets=("0",), also=("1.*",), dropout=0.0)))
    trained = {name for name, value in module.named_parameters() if value.requires_grad}
    assert trained == {"0.lora_A.default.weight", "0.lora_B.default.weight", "1.weight", "1.bias"}
    with torch.no_grad():
        module[0].lora_B["default"].weight.normal_()
    plain = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.LayerNorm(6), torch.nn.Linear(6, 3))
    plain.load_state_dict(plain_weights(module, names))
    x = torch.randn(5, 4)
    torch.testing.assert_close(plain(x), module(x))
