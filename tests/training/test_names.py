import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ivm.data.scene import Scene, Thing  # noqa: E402
from ivm.training.names import CELL, collate_names, name_targets, named_things, names_loss  # noqa: E402


def scene(*things, size=64):
    made = []
    for name, (x0, y0, x1, y1), synonyms in things:
        mask = np.zeros((size, size), bool)
        mask[y0:y1, x0:x1] = True
        made.append(Thing(name, mask, synonyms=synonyms))
    return Scene(np.zeros((size, size, 3), np.uint8), tuple(made))


MUGS = scene(("mug", (0, 0, 16, 16), ("cup",)), ("mug", (32, 0, 40, 16), ("cup",)))
CUP = scene(("cup", (16, 16, 32, 32), ()))
BIRD = scene(("bird", (0, 0, 64, 32), ()))


def test_shares_are_of_cells_and_things_of_one_name_add_up():
    names, targets, known = name_targets([named_things(MUGS, None)])
    assert names == ["mug"]
    assert targets.shape == (1, 1, 64 // CELL, 64 // CELL)
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets[0, 0, 0], [1.0, 0.0, 0.5, 0.0])
    assert not targets[0, 0, 1:].any()
    assert known.all()


def test_every_name_is_asked_of_every_picture_by_every_noun_that_is_true_of_a_thing():
    names, targets, known = name_targets([named_things(one, None) for one in (MUGS, CUP)])
    assert names == ["cup", "mug"]
    assert targets[0, 0, 0, 0] == 1.0  # a mug is a cup
    assert known[0, 0]
    assert not targets[1, 1].any()
    assert not known[1, 1]  # and a cup may be a mug


def test_what_was_not_looked_for_and_what_is_doubtful_is_not_known():
    duck = scene(("duck", (0, 0, 16, 16), ("bird",)))
    pictures = [
        named_things(duck, frozenset({"duck", "cup"})),  # nobody looked for birds
        named_things(BIRD, None),  # the bird may be a duck
        named_things(CUP, frozenset({"cup"})),
    ]
    names, targets, known = name_targets(pictures)
    assert names == ["bird", "cup", "duck"]
    assert known.tolist() == [[False, True, True], [True, True, False], [False, True, False]]
    assert not targets[~known].any()


def test_pictures_without_things_have_no_names(tiny_tokenizer):
    empty = named_things(scene(), None)
    assert empty.shares.shape == (0, 4, 4)
    names, targets, known = name_targets([empty])
    assert (names, targets.shape, known.shape) == ([], (1, 0, 4, 4), (1, 0))
    assert collate_names([empty], tiny_tokenizer) is None
    names, targets, known = name_targets([empty, named_things(CUP, None)])
    assert names == ["cup"]
    assert known.all()
    assert not targets[0].any()


def test_the_loss_asks_what_is_known_alone_and_expects_one_name_a_cell():
    logits = torch.zeros(2, 5, 16, requires_grad=True)
    target = torch.zeros(2, 5, 16)
    known = torch.ones(2, 5, dtype=torch.bool)
    known[1, 3] = False
    target[1, 3] = 1.0
    loss = names_loss(logits, target, known)
    per_name = -np.log(1 - 1 / (1 + 5))  # sigmoid(-log 5) = 1/6
    assert loss.item() == pytest.approx(4.5 * per_name, rel=1e-5)
    (slope,) = torch.autograd.grad(loss, logits)
    assert (slope[1, 3] == 0).all()
    assert (slope[known] > 0).all()
    right = torch.full((2, 5, 16), -20.0)
    right[1, 3] = 20.0
    assert names_loss(right, target, torch.ones_like(known)).item() < 1e-3


def test_words_learn_looks_from_names_alone(tiny_compact, tiny_tokenizer):
    """Two coloured halves, two words: a few steps on what the words vote for tell which is which."""
    image = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    image[:, 0, :, :32], image[:, 2, :, 32:] = 220, 220
    encoded = tiny_tokenizer.encode_batch(["cup", "dog"])
    ids = torch.tensor([e.ids for e in encoded])
    mask = torch.tensor([e.attention_mask for e in encoded]).bool()
    target = torch.zeros(1, 2, 4, 4)
    target[0, 0, :, :2] = target[0, 1, :, 2:] = 1.0
    optimizer = torch.optim.AdamW(tiny_compact.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        tokens = tiny_compact.encode_image(image)[0]
        looks = tiny_compact.look(tokens, tiny_compact.encode_text(ids, mask), mask)
        assert looks.shape == (1, 2, 16)
        loss = names_loss(looks, target.flatten(2), torch.ones(1, 2, dtype=torch.bool))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(np.log(3) + np.log(1.5), rel=1e-4)  # before, no word means a look
    assert losses[-1] < 0.3 * losses[0]
