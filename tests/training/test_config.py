from dataclasses import replace

import pytest

pytest.importorskip("torch")  # what losses and weights there are is told by modules of torch

from ivm.errors import OptionError
from ivm.training.config import (
    ARCHITECTURES,
    Data,
    DiscriminatorLoss,
    GeneratorLoss,
    Lora,
    Optimise,
    TrainConfig,
    nearest,
    report,
    sections_of,
)

GOOD = TrainConfig(data=Data(stores=("a",)), loss=GeneratorLoss("equal"))


def test_defaults_are_sensible_but_ask_for_what_nobody_can_guess():
    with pytest.raises(OptionError) as caught:
        TrainConfig()
    assert "data.stores must name a store" in str(caught.value)
    assert "needs loss.discriminator" in str(caught.value)
    assert GOOD.optimise.precision == "auto"
    assert GOOD.data.human_share == 0.5


@pytest.mark.parametrize(
    ("section", "faults"),
    [
        (lambda: Optimise(steps=0, clip=0.0, schedule="cosinus"), ("steps", "clip", "did you mean cosine?")),
        (lambda: Optimise(betas=(0.9, 1.0)), ("betas must be at least 0",)),
        (lambda: Optimise(learning_rate=float("nan")), ("learning_rate must be a number",)),
        (lambda: Optimise(steps=True), ("steps must be a whole number, but is True",)),
        (
            lambda: Data(stores="a", human_share=2),
            ("stores must be a list", "human_share must be at least 0"),
        ),
        (lambda: GeneratorLoss(weights="dwsll"), ("did you mean dwsl?",)),
        (lambda: DiscriminatorLoss(eta=0), ("eta must be above 0",)),
        (lambda: Lora(rank=-1, targets=(1,)), ("rank", "targets must be a list of texts")),
    ],
)
def test_a_section_tells_all_its_faults(section, faults):
    with pytest.raises(OptionError) as caught:
        section()
    for fault in faults:
        assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"optimise": Optimise(batch_size=6, accumulate=4)}, "split into 4 equal"),
        ({"optimise": Optimise(batch_size=5)}, "split into 1 equal"),
        ({"optimise": Optimise(steps=100)}, "warmup and decay must fit into the 100 steps"),
        ({"loss": GeneratorLoss("equal", clip=(0.5, 0.5))}, "loss.clip must rise"),
        ({"loss": GeneratorLoss("equal", discriminator="d")}, "not used by weights 'equal'"),
        (
            {"loss": GeneratorLoss("human"), "data": Data(("a",), human_share=0)},
            "loss.weights 'human' gives every sample the weight 0 where data.human_share is 0",
        ),
        (
            {"loss": GeneratorLoss("machine"), "data": Data(("a",), human_share=1.0)},
            "loss.weights 'machine' gives every sample the weight 0 where data.human_share is 1",
        ),
        (
            {"loss": GeneratorLoss("dwsl", discriminator="d", teacher="t", teacher_share=1.0)},
            "loss.weights 'dwsl' weighs annotations, which loss.teacher_share = 1 leaves out",
        ),
        ({"loss": DiscriminatorLoss()}, "loss must be that of a generator"),
        ({"seed": 2**32}, "seed must be at least 0 and at most 4294967295, but is 4294967296"),
        ({"stage": "discriminator"}, "loss must be that of a discriminator"),
        ({"stage": "critics"}, "stage must be one of"),
        ({"lora": Lora(rank=4)}, "lora.rank and lora.targets belong together"),
        ({"track": ("tensorbord",)}, "did you mean tensorboard?"),
    ],
)
def test_options_must_fit_together(changes, fault):
    with pytest.raises(OptionError, match=fault.replace("(", r"\(").replace(".", r"\.").replace("?", r"\?")):
        replace(GOOD, **changes)


def test_a_discriminator_needs_both_kinds():
    with pytest.raises(OptionError, match="needs human and machine annotations"):
        TrainConfig(stage="discriminator", data=Data(("a",), human_share=1), loss=DiscriminatorLoss())


def test_it_becomes_plain_values():
    plain = GOOD.to_dict()
    assert plain["data"]["stores"] == ["a"]
    assert plain["loss"]["clip"] == [0.1, 0.9]
    assert "compact" in ARCHITECTURES


def test_nearest_looks_at_the_whole_name_and_then_at_its_end():
    assert nearest("optimise.step", ["optimise.steps", "seed"]) == ": did you mean optimise.steps?"
    assert nearest("learning_rat", ["optimise.learning_rate"]) == ": did you mean optimise.learning_rate?"
    assert nearest("qqq", ["seed"]) == ""


def test_one_fault_is_a_sentence_and_several_are_a_list():
    assert report("it", ["is wrong"]) == "it: is wrong"
    assert report("it", ["a", "b"]).count("\n") == 2
    assert sections_of("discriminator")["loss"] is DiscriminatorLoss
