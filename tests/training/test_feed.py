import itertools
import pickle
from collections import Counter

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ivm.data.shards import ShardWriter  # noqa: E402
from ivm.data.stream import ShardSet  # noqa: E402
from ivm.errors import DataError, OptionError  # noqa: E402
from ivm.training.config import Augmentation, Data  # noqa: E402
from ivm.training.feed import Failure, Feed, Place, Viewer, open_feed, validation_places  # noqa: E402


@pytest.fixture
def feed(stores):
    return open_feed(Data((str(stores["human"]), str(stores["mixed"])), window=10), seed=3)


def is_human(feed, place):
    return ShardSet(feed.folders[place.store]).get(place.shard, place.number).human


def test_kinds_are_told_apart_within_a_store(feed):
    assert feed.sizes() == (48, 24)
    assert all(not is_human(feed, place) for place in itertools.islice(feed.order(False), 24))


def test_every_batch_has_its_share_of_both(feed):
    for batch in itertools.islice(feed.batches(8, 0.25), 5):
        assert Counter(is_human(feed, place) for place in batch) == {True: 2, False: 6}


def test_each_sample_comes_once_an_epoch_and_epochs_differ(feed):
    places = list(itertools.islice(feed.order(True), 96))
    first, second = places[:48], places[48:]
    assert len({place[:3] for place in first}) == len({place[:3] for place in second}) == 48
    assert {place.epoch for place in second} == {1}
    assert [place[:3] for place in first] != [place[:3] for place in second]
    assert [place[:3] for place in first] != sorted(place[:3] for place in first)


def test_the_position_is_the_step(feed):
    whole = list(itertools.islice(feed.batches(6, 0.5), 40))  # more than an epoch of both kinds
    assert list(itertools.islice(feed.batches(6, 0.5, step=23), 17)) == whole[23:]


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_make_up_the_batch_evenly(feed, parts):
    whole = list(itertools.islice(feed.batches(8, 0.5), 6))
    split = [list(itertools.islice(feed.batches(8, 0.5, 0, parts, (part,)), 6)) for part in range(parts)]
    for step, batch in enumerate(whole):
        together = [place for part in split for place in part[step]]
        assert sorted(together) == sorted(batch)
        for part in split:
            assert Counter(is_human(feed, place) for place in part[step])[True] == 4 // parts
    both = list(itertools.islice(feed.batches(8, 0.5, 0, parts, (0, 1)), 2))
    assert both == [split[0][0], split[1][0]]


def test_a_batch_that_does_not_split_is_refused(feed):
    with pytest.raises(OptionError, match="3 human and 3 machine annotations does not split into 2"):
        next(feed.batches(6, 0.5, parts=2))


def test_an_empty_kind_is_told(stores):
    with pytest.raises(
        DataError, match=r"human annotations is empty: none of the 24 samples .*human_share = 0"
    ):
        open_feed(Data((str(stores["machine"]),)), 0)
    with pytest.raises(DataError, match="machine annotations is empty"):
        open_feed(Data((str(stores["human"]),)), 0)
    assert open_feed(Data((str(stores["human"]),), human_share=1), 0).sizes() == (24, 0)


def texts(views):
    return [(view.sample.uuid, view.instruction, view.found, view.sample.image.sum()) for view in views]


@pytest.mark.parametrize("workers", [0, 2])
def test_views_are_the_same_for_any_number_of_workers(feed, workers):
    batches = list(itertools.islice(feed.batches(6, 0.5), 4))
    viewer = Viewer(32, Augmentation(), seed=1)
    loaded = list(feed.loader(batches, texts, viewer, workers))
    sets = [ShardSet(folder) for folder in feed.folders]
    assert loaded == [
        texts([viewer(sets[place.store].get(place.shard, place.number), place) for place in batch])
        for batch in batches
    ]


def test_workers_start_where_opencv_has_threads(feed):
    """A forked copy of this process would wait for ever for threads that were not copied."""
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        cv2.GaussianBlur(np.zeros((2000, 2000), np.uint8), (0, 0), 9)
        batches = list(itertools.islice(feed.batches(6, 0.5), 2))
        loaded = list(feed.loader(batches, texts, Viewer(32, None), 1))
    finally:
        cv2.setNumThreads(before)
    assert len(loaded) == 2


def test_making_a_loader_leaves_the_random_state_alone(feed):
    before = torch.random.get_rng_state()
    next(feed.loader(feed.batches(2, 0.5), texts, Viewer(32, None), 0))
    assert torch.equal(before, torch.random.get_rng_state())


def test_views_are_square_and_know_whether_the_target_is_there(stores):
    samples = ShardSet(stores["human"])
    for number in range(8):
        place = Place(0, 0, number, 0)
        view = Viewer(32, None)(samples[number], place)
        assert view.sample.image.shape == (32, 32, 3)
        assert view.sample.heatmap.dtype == np.float32
        assert view.found == (samples[number].kind != "absent")
        assert view.instruction == samples[number].instructions[0]
    shown = {Viewer(32, Augmentation())(samples[0], Place(0, 0, 0, epoch)).instruction for epoch in range(12)}
    assert len(shown) == 2


def test_a_sample_without_a_heatmap_is_told(stores, tmp_path):
    from dataclasses import replace

    sample = replace(ShardSet(stores["human"])[0], heatmap=None)
    with ShardWriter(tmp_path / "bare") as writer:
        writer.write(sample)
    feed = open_feed(Data((str(tmp_path / "bare"),), human_share=1), 0)
    failure = next(feed.loader(feed.batches(2, 1.0), texts, Viewer(32, None), 0))
    assert isinstance(failure, Failure)
    assert "has no heatmap" in str(failure.error)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_is_gone_is_told_and_not_passed_over(feed, stores, workers):
    for tar in stores["mixed"].glob("*.tar"):
        tar.unlink()
    loaded = feed.loader(feed.batches(8, 0.5), texts, Viewer(32, None), workers)
    failure = next(loaded)
    assert isinstance(failure, Failure)
    assert "cannot read" in str(failure.error)
    assert ".tar" in str(failure.error)


def test_validation_is_spread_over_the_stores(stores):
    places = validation_places([str(stores["human"]), str(stores["machine"])], 7)
    assert len(places) == 7
    assert {place.store for place in places} == {0, 1}
    assert len(validation_places([str(stores["human"])], 1000)) == 24
    with ShardWriter(stores["human"].parent / "none"):
        pass
    with pytest.raises(DataError, match="holds no samples"):
        validation_places([str(stores["human"].parent / "none")], 5)


def test_it_travels_to_a_worker(feed):
    assert isinstance(pickle.loads(pickle.dumps(feed)), Feed)
    viewer = pickle.loads(pickle.dumps(Viewer(32, Augmentation(), 2)))
    assert viewer.augment == Viewer(32, Augmentation(), 2).augment
