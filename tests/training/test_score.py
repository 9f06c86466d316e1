import json

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from ivm.data.clean import Limits, clean, read_scores  # noqa: E402
from ivm.data.stream import ShardSet  # noqa: E402
from ivm.errors import CheckpointError, DataError, ModelError, OptionError, OutputError  # noqa: E402
from ivm.training.recipe import train  # noqa: E402
from ivm.training.score import check_histogram, draw_scores, score_store  # noqa: E402


@pytest.fixture
def weights(configure):
    config = configure("discriminator", "optimise.steps=8")
    train(config, lambda line: None)
    return config.folder


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_sample_has_a_line_in_the_order_of_the_store(weights, stores, tmp_path):
    out = tmp_path / "scores.jsonl"
    assert score_store(weights, stores["mixed"], out) == 48
    rows = rows_of(out)
    assert [row["uuid"] for row in rows] == [sample.uuid for sample in ShardSet(stores["mixed"])]
    assert {row["human"] for row in rows} == {True, False}
    assert all(row["weight"] == pytest.approx(np.clip(row["score"], 0.1, 0.9), abs=1e-6) for row in rows)
    assert len({row["score"] for row in rows}) > 10
    assert not list(tmp_path.glob(".scores*"))


def test_the_score_is_d_of_the_annotation_averaged_over_instructions(weights, stores, tmp_path):
    from ivm.training.checkpoints import load_trainee
    from ivm.training.feed import Place, Viewer
    from ivm.training.trainee import View

    score_store(weights, stores["mixed"], tmp_path / "s.jsonl")
    trainee, model = load_trainee(weights, "discriminator")
    sample = ShardSet(stores["mixed"])[5]
    view = Viewer(model.image_size, None)(sample, Place(0, 0, 5, 0))
    batch = trainee.collate([View(view.sample, text, True) for text in sample.instructions])
    with torch.no_grad():
        expected = trainee.module.eval()(*batch.inputs).sigmoid().mean().item()
    assert rows_of(tmp_path / "s.jsonl")[5]["score"] == pytest.approx(expected, abs=1e-5)


def test_killed_it_goes_on_and_ends_the_same(weights, stores, tmp_path):
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    score_store(weights, stores["mixed"], whole, batch_size=8)

    def kill(done, total):
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_store(weights, stores["mixed"], parts, batch_size=8, progress=kill)
    assert not parts.exists()
    part = tmp_path / ".parts.jsonl.part"
    part.write_bytes(part.read_bytes()[:-7])  # a torn line
    seen = []
    score_store(weights, stores["mixed"], parts, batch_size=8, progress=lambda done, total: seen.append(done))
    assert seen[0] == 11 + 4
    assert [row["uuid"] for row in rows_of(parts)] == [row["uuid"] for row in rows_of(whole)]
    for a, b in zip(rows_of(parts), rows_of(whole), strict=True):
        assert a["score"] == pytest.approx(b["score"], abs=1e-5)


def test_interrupted_before_the_first_row_it_ends_the_same(weights, stores, tmp_path, monkeypatch):
    """Twice, for the first line must stand there once."""
    from ivm.training import score

    def interrupt(*arguments):
        raise KeyboardInterrupt

    score_store(weights, stores["human"], tmp_path / "whole.jsonl", batch_size=8)
    with monkeypatch.context() as patch:
        patch.setattr(score, "_scores", interrupt)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                score_store(weights, stores["human"], tmp_path / "parts.jsonl", batch_size=8)
    assert len((tmp_path / ".parts.jsonl.part").read_text().splitlines()) == 1
    score_store(weights, stores["human"], tmp_path / "parts.jsonl", batch_size=8)
    assert (tmp_path / "parts.jsonl").read_text() == (tmp_path / "whole.jsonl").read_text()


def test_an_unfinished_file_of_another_job_is_not_gone_on_with(weights, stores, tmp_path):
    part = tmp_path / ".s.jsonl.part"
    part.write_text('{"weights": "x"}\n{"uuid": "old"}\n')
    score_store(weights, stores["human"], tmp_path / "s.jsonl")
    assert len(rows_of(tmp_path / "s.jsonl")) == 24


def test_bad_input(weights, stores, configure, tmp_path):
    generator = configure("generator", "optimise.steps=2")
    train(generator, lambda line: None)
    with pytest.raises(CheckpointError, match="must hold a discriminator"):
        score_store(generator.folder, stores["human"], tmp_path / "s.jsonl")
    with pytest.raises(DataError, match="must hold shards"):
        score_store(weights, tmp_path / "nothing", tmp_path / "s.jsonl")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        score_store(weights, stores["human"], tmp_path / "file" / "s.jsonl")
    with pytest.raises(OptionError, match="device must be one of"):
        score_store(weights, stores["human"], tmp_path / "s.jsonl", "gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="device cuda needs a CUDA GPU"):
            score_store(weights, stores["human"], tmp_path / "s.jsonl", "cuda")


def test_a_histogram_that_could_not_be_drawn_is_refused_before_anything_is_scored(tmp_path):
    pytest.importorskip("matplotlib")
    check_histogram(tmp_path / "h.SVG", tmp_path / "s.jsonl")
    for name in ("h", "h.jsonl"):
        with pytest.raises(OptionError, match=rf"must end in one of .*\.png.* but is .*{name}$"):
            check_histogram(tmp_path / name, tmp_path / "s.jsonl")
    with pytest.raises(OptionError, match="must be two files, but both are"):
        check_histogram(tmp_path / "s.png", tmp_path / "s.png")


def test_the_histogram_has_a_panel_a_source(tmp_path):
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    rows = [{"source": "a", "human": True, "score": float(s)} for s in rng.beta(5, 2, 300)]
    draw_scores(rows, tmp_path / "new" / "one.png")
    rows += [{"source": "b", "human": False, "score": float(s)} for s in rng.beta(2, 5, 300)]
    draw_scores(rows, tmp_path / "two.png")
    with Image.open(tmp_path / "new" / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert two.height > one.height
    with pytest.raises(DataError, match="no scores"):
        draw_scores([], tmp_path / "none.png")


def test_cleaning_drops_machine_annotations_of_low_score(weights, stores, tmp_path):
    score_store(weights, stores["mixed"], tmp_path / "s.jsonl")
    scores = read_scores(tmp_path / "s.jsonl")
    machine = sorted(row["score"] for row in rows_of(tmp_path / "s.jsonl") if not row["human"])
    limit = (machine[5] + machine[6]) / 2
    kept, counts = clean(
        stores["mixed"], tmp_path / "kept", ("low-score",), Limits(min_score=limit), scores=scores
    )
    assert (kept.samples, counts["low-score"]) == (42, 6)
    kept, counts = clean(stores["mixed"], tmp_path / "all", scores=None)
    assert counts["low-score"] == 0
    del scores[next(row["uuid"] for row in rows_of(tmp_path / "s.jsonl") if not row["human"])]
    with pytest.raises(DataError, match="has no score"):
        clean(stores["mixed"], tmp_path / "x", ("low-score",), Limits(), scores=scores)
    (tmp_path / "bad.jsonl").write_text('{"uuid": "a", "score": "high"}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl:1: 'score' must be"):
        read_scores(tmp_path / "bad.jsonl")
