import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from ivm.errors import DataError, IVMError  # noqa: E402
from ivm.training.plan import make_plan  # noqa: E402
from ivm.training.recipe import assemble, train  # noqa: E402


def test_the_plan_counts_what_is_trained_and_frozen(configure):
    config = configure("generator", "optimise.freeze=['image_blocks.*']")
    plan = make_plan(config)
    trainee = assemble(config)[0]
    values = list(trainee.module.parameters())
    trained = sum(value.numel() for value in values if value.requires_grad)
    frozen = sum(value.numel() for value in values) - trained
    frozen += sum(value.numel() for value in trainee.hidden[0].parameters())
    assert f"trained   {trained:,} parameters" in plan
    assert f"frozen    {frozen:,} parameters" in plan
    assert "4 human and 4 machine annotations" in plan
    assert "each human one 1.3 times and machine one 1.3 times" in plan
    assert "weights   equal" in plan
    assert "without data.validation" in plan


def test_memory_grows_with_the_batch_and_shrinks_in_parts(configure):
    def activations(*more):
        plan = make_plan(configure("generator", "model.image_size=128", *more))
        line = next(line for line in plan.splitlines() if "activations" in line)
        return float(line.split()[1].replace(",", ""))

    one = activations("optimise.batch_size=64")
    assert one > 10
    assert activations("optimise.batch_size=128") == pytest.approx(2 * one, abs=2)
    assert activations("optimise.batch_size=64", "optimise.accumulate=4") == pytest.approx(one / 4, abs=2)
    alone = "data.human_share=1", "model.image_size=384", "optimise.batch_size="
    single, pair = (activations(*alone[:2], f"{alone[2]}{size}") for size in (1, 2))
    assert single == pytest.approx(pair / 2, abs=1)


def test_the_plan_warns_of_wasted_time_and_writes_nothing(configure, tmp_path):
    plan = make_plan(configure("generator", "loss.weights=human"))
    assert "4 of 8 samples a step have weight 0: data.human_share = 1" in plan
    assert not (tmp_path / "generator-run").exists()


def test_with_a_teacher_no_time_is_wasted_on_samples_of_weight_0(configure):
    base = configure("generator", "optimise.steps=2", folder="teacher")
    train(base, lambda line: None)
    plan = make_plan(configure("generator", "loss.weights=human", f"loss.teacher={base.folder}"))
    assert f"teacher   {base.folder}, 0.5 of the loss" in plan
    assert "weight 0" not in plan


def test_the_plan_of_a_run_begun_says_from_where(configure):
    config = configure("discriminator")
    train(config, lambda line: None)
    assert "going on from step 8" in make_plan(config)


def test_what_would_stop_the_run_stops_the_plan(configure, stores):
    with pytest.raises(DataError, match="human annotations is empty"):
        make_plan(configure("generator", f"data.stores=['{stores['machine']}']"))
    with pytest.raises(DataError, match=r"nowhere must hold shards"):
        make_plan(configure("generator", "data.validation=['nowhere']"))
    for tar in stores["human"].glob("*.tar"):
        tar.unlink()
    with pytest.raises(IVMError, match="cannot read"):
        make_plan(configure())
