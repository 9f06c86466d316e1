import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ivm.data.stream import ShardSet  # noqa: E402
from ivm.errors import OptionError  # noqa: E402
from ivm.training.compact import check, deciding, discriminator, generator, sizes  # noqa: E402
from ivm.training.config import Model  # noqa: E402
from ivm.training.feed import Place, Viewer  # noqa: E402

SMALL = {"dim": 32, "heads": 4, "stem": [8, 16, 24]}


@pytest.fixture
def views(stores):
    samples = ShardSet(stores["mixed"])
    return [Viewer(64, None)(samples[k], Place(0, 0, k, 0)) for k in (0, 7, 30)]


def test_a_generator_answers_at_the_size_of_its_targets(small_text, views):
    trainee = generator(Model(image_size=64, sizes={**SMALL, "image_blocks": 1}))
    batch = trainee.collate(views)
    logits, found = trainee.module(*batch.inputs)
    assert logits.shape == batch.targets.shape == (3, 16, 16)
    assert found.shape == batch.found.shape == (3,)
    assert batch.found.tolist() == [True, False, True]
    assert batch.human.tolist() == [True, True, False]
    relevant = views[0].sample.heatmap.mean()
    assert batch.targets[0].mean() == pytest.approx(relevant, abs=1e-3)
    assert trainee.export is not None


def test_one_sample_does_not_change_the_answer_about_another(small_text, views):
    """No BatchNorm, no padding that counts: else a batch could not be split over processes."""
    trainee = generator(Model(image_size=64, sizes={**SMALL, "image_blocks": 1}))
    module = trainee.module.eval()
    with torch.no_grad():
        together, _ = module(*trainee.collate(views).inputs)
        alone, _ = module(*trainee.collate(views[1:2]).inputs)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


def test_a_discriminator_sees_image_and_mask(small_text, views):
    trainee = discriminator(Model(image_size=64, sizes=SMALL))
    batch = trainee.collate(views)
    images, kept = batch.inputs[:2]
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), views[0].sample.image)
    assert kept.shape == (3, 16, 16)
    for one, view in zip(kept, views, strict=True):
        assert one.mean() == pytest.approx(view.sample.heatmap.mean(), abs=1e-3)
    assert not kept[1].any()  # nothing is relevant there
    assert trainee.module(*batch.inputs).shape == (3,)


def test_a_discriminator_of_another_size_takes_the_generators_views(small_text, views):
    batch = discriminator(Model(image_size=32, sizes=SMALL)).collate(views)
    assert batch.inputs[0].shape == (3, 3, 32, 32)


def test_sizes_are_known_and_checked():
    assert "image_blocks" in sizes("generator")
    assert "context" in sizes("discriminator")
    assert "context" not in sizes("generator")
    check(Model(), "generator")
    with pytest.raises(OptionError, match="multiple of heads"):
        check(Model(sizes={"dim": 30, "heads": 4}), "discriminator")
    with pytest.raises(OptionError, match="multiple of 16"):
        check(Model(image_size=40), "discriminator")
    with pytest.raises(OptionError, match="context must be true or false, but is 1"):
        check(Model(sizes={"context": 1}), "discriminator")


def test_thresholds_decide_no_weight():
    plain = deciding(Model(), "generator")
    assert plain == deciding(Model(sizes={"threshold": 0.3, "dim": 256}), "generator")
    assert plain != deciding(Model(sizes={"dim": 128}), "generator")
    assert deciding(Model(), "discriminator")["context"] is True
