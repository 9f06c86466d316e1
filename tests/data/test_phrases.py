import numpy as np
import pytest

from ivm.data.phrases import absent_question, attribute_questions, category_questions


@pytest.fixture
def scene():
    """A large red cup left, a small blue cup right, one dog below: names, masks, instance, image."""
    image = np.full((60, 90, 3), 128, np.uint8)
    masks = np.zeros((3, 60, 90), bool)
    for i, (colour, (x0, y0, x1, y1)) in enumerate(
        [
            ((205, 35, 35), (5, 5, 35, 30)),
            ((35, 70, 200), (65, 10, 78, 24)),
            ((40, 150, 50), (30, 40, 60, 58)),
        ]
    ):
        image[y0:y1, x0:x1] = colour
        masks[i, y0:y1, x0:x1] = True
    return ["cup", "cup", "dog"], masks, [True, True, True], image


def test_a_category_means_all_of_its_regions(scene):
    names, masks, _, _ = scene
    questions = category_questions(names, masks, np.random.default_rng(0))
    assert [q.targets for q in questions] == [("cup",), ("dog",)]
    np.testing.assert_array_equal(questions[0].mask, masks[0] | masks[1])


def test_attributes_single_out_one_region(scene):
    names, masks, instance, image = scene
    for seed in range(10):
        questions = attribute_questions(names, masks, instance, image, np.random.default_rng(seed))
        by_text = {q.text: q for q in questions}
        for q in questions:
            index = next(i for i in range(3) if (masks[i] == q.mask).all())
            if "cup" in q.text:
                left = any(word in q.text for word in ("red", "left", "largest", "biggest"))
                right = any(word in q.text for word in ("blue", "right", "smallest"))
                assert left != right, q.text
                assert index == (0 if left else 1), q.text
        assert {q.kind for q in questions} == {"colour", "described", "size", "position"}
        assert len(by_text) >= 5


def test_equal_regions_get_no_size_or_colour_question(scene):
    names, masks, instance, image = scene
    masks = masks.copy()
    masks[1] = np.roll(masks[0], 50, axis=1)
    image = np.full_like(image, 128)
    kinds = {q.kind for q in attribute_questions(names, masks, instance, image, np.random.default_rng(0))}
    assert "size" not in kinds
    assert "colour" not in kinds
    assert "position" in kinds


def test_absent_names_are_not_there_under_any_name(scene):
    names = scene[0]
    rng = np.random.default_rng(0)
    for _ in range(50):
        q = absent_question(["sofa", "brick wall"], ["sofa", "couch", "wall", "zebra"], (4, 5), rng)
        assert "zebra" in q.text
        assert not q.mask.any()
        assert q.targets == ()
    assert absent_question(names, ["cup", "dog"], (4, 5), rng) is None
