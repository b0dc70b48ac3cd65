"""Views of stored pictures as a source of examples."""

import numpy as np
import pytest
import torch
from patchwork.data import sources, store
from patchwork.stimuli import Batch, LabelAttributes, views

N_PICTURES, HELD_OUT = 40, 8


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Pictures that tell their number beside their class."""
    path = tmp_path_factory.mktemp("stored") / "pictures.h5"
    numbers = np.arange(N_PICTURES)
    images = np.random.Generator(np.random.Philox(1)).integers(
        0, 256, (N_PICTURES, 26, 26, 3), dtype=np.uint8
    )
    batch = Batch(images, {"class": numbers % 3, "number": numbers})
    store.write(
        path, [batch], n=N_PICTURES,
        attributes={"seed": 0, "settings": {}, "first_index": 0, "code": "test"},
        label_attributes={
            "class": LabelAttributes("index", 0, 2, ("a", "b", "c")),
            "number": LabelAttributes("index", 0, N_PICTURES - 1),
        },
    )  # fmt: skip
    return path, images


def seen_by(stored, n, seed=1, validation=False, **changes):
    settings = {"image_px": 16, "magnification": 1.0, **changes}
    return sources.Views(
        stored[0], settings, seed=seed, n=n, held_out=HELD_OUT, validation=validation
    )


def test_training_and_validation_never_share_a_picture(stored):
    kept = {
        seed: set(seen_by(stored, 8, seed, validation=True).labels["number"]) for seed in (1, 2)
    }
    assert kept[1] == kept[2]  # the same for every seed: no condition is judged on what another saw
    assert len(kept[1]) == HELD_OUT
    for seed in (1, 2, 3):
        shown = set(seen_by(stored, 200, seed).labels["number"])
        assert shown == set(range(N_PICTURES)) - kept[1]


def test_a_pass_shows_every_picture_once_in_a_new_order(stored):
    size = N_PICTURES - HELD_OUT
    numbers = seen_by(stored, 3 * size).labels["number"].reshape(3, size)
    assert all(len(set(one)) == size for one in numbers)
    assert not np.array_equal(numbers[0], numbers[1])
    assert not np.array_equal(numbers[1], numbers[2])
    other = seen_by(stored, size, seed=2).labels["number"]
    assert not np.array_equal(other, numbers[0])
    assert np.array_equal(seen_by(stored, 5).labels["number"], numbers[0, :5])


@pytest.mark.parametrize("validation", [False, True])
def test_labels_and_pixels_are_those_of_the_picture(stored, validation):
    source = seen_by(stored, 50, validation=validation, rotation_deg=45)
    assert len(source) == 50
    order = np.array([49, 3, 17, 3, 40])
    numbers, classes = source.labels["number"], source.labels["class"]
    assert np.array_equal(classes, numbers % 3)
    settings = views.parse_settings({"image_px": 16, "magnification": 1.0, "rotation_deg": 45})
    expected = views.view(stored[1][numbers[order]], settings, seed=1, indices=order)
    for size in (1, 2, 5):
        batches = list(source.batches(order, size))
        assert [len(images) for images, _ in batches] == [size] * (5 // size) + [5 % size] * (
            5 % size > 0
        )
        assert np.array_equal(np.concatenate([images for images, _ in batches]), expected)
        for name, column in source.labels.items():
            read = np.concatenate([labels[name] for _, labels in batches])
            assert np.array_equal(read, column[order])


def test_arms_of_one_seed_share_pictures_in_their_order(stored):
    rearing_conditions = ({}, {"rotation_deg": 45}, {"isotropic": True}, {"colour": "blue_poor"})
    upright, *others = (seen_by(stored, 90, **changes) for changes in rearing_conditions)
    for other in others:
        assert np.array_equal(other.labels["number"], upright.labels["number"])


def test_too_many_held_out_are_named(stored):
    with pytest.raises(
        ValueError, match=r"pictures.h5: holds 40 pictures; allowed is more than 40"
    ):
        sources.Views(
            stored[0], {"image_px": 16, "magnification": 1.0}, seed=1, n=4, held_out=N_PICTURES
        )
    with pytest.raises(ValueError, match="side of 26 px; allowed is at least 30"):
        next(seen_by(stored, 4, magnification=0.5).batches(np.arange(4), 2))


@pytest.mark.parametrize("workers", [1, 3])
def test_processes_read_the_same_batches_in_the_same_order(stored, workers):
    path, _ = stored
    alone, shared = sources.Stored(path), sources.Stored(path, workers)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(N_PICTURES)
        if seed == 1:  # an epoch that is left early must not leak into the next one
            next(iter(shared.batches(order, 8)))
            continue
        pairs = list(zip(alone.batches(order, 7), shared.batches(order, 7), strict=True))
        assert len(pairs) == 6
        for (images, labels), (others, same) in pairs:
            assert torch.equal(images, others)
            assert all(np.array_equal(labels[name], same[name]) for name in labels)
    with pytest.raises(ValueError, match="allowed is 0 to 39") as error:
        list(shared.batches(np.array([N_PICTURES]), 8))
    assert "\n" not in str(error.value)
