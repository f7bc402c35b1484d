"""Concepts with few images get their share, and every image is used as often as its weight says."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_pivotal.core.config.schema import Concept, Subset, TrainConfig
from lib_pivotal.core.data.image_shares import share_images
from lib_pivotal.core.data.plan import Plan
from lib_pivotal.core.data.scan import DatasetImage

COUNTS = (6, 8, 10, 12, 15, 18, 20, 25, 30, 40, 50, 60, 80, 100, 150, 300)


def image(caption: str, repeats: float = 1.0, **subset) -> DatasetImage:
    return DatasetImage(Path("a.png"), caption, repeats, 64, 64, "a.png", subset=Subset(**subset))


def config(*names: str, **changes) -> TrainConfig:
    return TrainConfig(concepts=tuple(Concept(name) for name in names), **changes)


def weights(images: list[DatasetImage], settings: TrainConfig) -> list[float]:
    return list(share_images(images, settings).weights)


@pytest.fixture(scope="module")
def cast() -> tuple[tuple[str, ...], list[DatasetImage]]:
    """Sixteen concepts with 6 to 300 images of their own, and 90 images of two of them."""
    names = tuple(f"zog_{index}x" for index in range(len(COUNTS)))
    rng = random.Random(7)
    alone = [image(f"{name}, hat") for name, count in zip(names, COUNTS) for _ in range(count)]
    return names, alone + [image(", ".join(rng.sample(names, 2))) for _ in range(90)]


@pytest.mark.parametrize(
    ("balance", "cap", "least", "most", "ratio"),
    [(0.0, 4, 1.7, 28.4, 1), (0.5, 4, 3.6, 14.8, 9), (0.75, 4, 4.9, 9.8, 16), (1.0, 4, 4.4, 7.2, 16), (1.0, 10, 6.2, 6.3, 67)],
)  # fmt: skip
def test_shares_of_sixteen_uneven_concepts(cast, balance, cap, least, most, ratio):
    names, images = cast
    found = share_images(images, config(*names, balance=balance, balance_cap=cap))
    sizes = Counter()
    for shown, weight in zip(found.concepts, found.weights):
        sizes.update(dict.fromkeys(shown, weight))
    shares = [100 * sizes[name] / sizes.total() for name in names]
    assert min(shares) == pytest.approx(least, abs=1)
    assert max(shares) == pytest.approx(most, abs=1)
    assert max(found.weights) / min(found.weights) <= ratio * 1.01
    assert sum(found.weights) == pytest.approx(len(images), rel=1e-4)


def test_balance_needs_two_concepts(cast):
    _, images = cast
    assert set(weights(images, config("zog_3x"))) == {1.0}
    assert set(weights(images, config())) == {1.0}


def test_without_balance_only_the_repeats_count():
    images = [image("zog_x", 3.0), image("mib_y"), image("mib_y, zog_x"), image("nobody", 2.5)]
    names = ("zog_x", "mib_y")
    assert weights(images, config(*names, balance=0.0)) == [3.0, 1.0, 1.0, 2.5]
    assert list(share_images(images, config(*names), balances=False).weights) == [3.0, 1.0, 1.0, 2.5]


def test_concepts_that_are_balanced_by_repeats_stay_as_they_are():
    images = [image("zog_x", 3.0)] * 10 + [image("mib_y", 10.0)] * 3
    assert weights(images, config("zog_x", "mib_y", balance=1.0)) == [3.0] * 10 + [10.0] * 3


def test_images_without_a_concept_keep_their_share():
    images = [image("zog_x")] * 2 + [image("mib_y")] * 8 + [image("a hill")] * 5
    found = weights(images, config("zog_x", "mib_y", balance=1.0))
    assert found[10:] == [1.0] * 5
    assert sum(found[:2]) == pytest.approx(sum(found[2:10]))
    assert sum(found) == pytest.approx(15, rel=1e-4)


def test_a_concept_of_more_weight_gets_a_larger_share():
    images = [image("zog_x")] * 4 + [image("mib_y")] * 4
    heavy = TrainConfig(concepts=(Concept("zog_x", weight=3.0), Concept("mib_y")))
    found = weights(images, heavy)
    assert found[0] / found[-1] == pytest.approx(3, rel=1e-3)


def test_names_that_always_apply_and_aliases_count():
    names = TrainConfig(concepts=(Concept("zog_x", aliases=("teal robot",)), Concept("mib_y")))
    images = [image("a hill", always=("mib_y",)), image("teal robot, hat"), image("zog_x", always=("mib_y", "other"))]
    found = share_images(images, names).concepts
    assert found == (frozenset({"mib_y"}), frozenset({"zog_x"}), frozenset({"zog_x", "mib_y"}))


@pytest.mark.parametrize("kind", ["regularization", "validation"])
def test_images_that_are_not_learned_are_left_out(kind):
    images = [image("zog_x")] * 2 + [image("mib_y")] * 8 + [image("zog_x", 2.0, kind=kind)] * 30
    found = share_images(images, config("zog_x", "mib_y"))
    assert found.weights[:10] == share_images(images[:10], config("zog_x", "mib_y")).weights
    assert found.weights[10:] == (2.0,) * 30
    assert found.counts() == {"zog_x": 2, "mib_y": 8}
    assert found.image_count == 10


@pytest.mark.parametrize("items_per_step", [1, 2, 8])
def test_every_image_is_used_as_its_weight_says(cast, items_per_step):
    names, images = cast
    found = weights(images, config(*names))
    plan = Plan(["a"] * len(images), found, items_per_step, 3)
    seen = Counter()
    for number in range(1000):
        seen.update(plan.step(number))
        if number % 50 == 0 or number == 999:
            share = (number + 1) * items_per_step / sum(found)
            assert all(abs(seen[index] - share * weight) <= 2 for index, weight in enumerate(found))


@pytest.mark.parametrize("items_per_step", [1, 3, 4, 16])
def test_weights_of_a_few_images(items_per_step):
    found = [0.5, 1.0, 2.5, 3.49]
    plan = Plan(["a"] * 4, found, items_per_step, 1)
    seen = Counter(index for number in range(1000) for index in plan.step(number))
    for index, weight in enumerate(found):
        assert seen[index] == pytest.approx(1000 * items_per_step * weight / sum(found), abs=2)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 60)), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_one_bucket_per_step_in_proportion(images, items_per_step, seed):
    buckets, found = [bucket for bucket, _ in images], [weight / 7.5 + 0.01 for _, weight in images]
    plan = Plan(buckets, found, items_per_step, seed)
    steps = [plan.step(number) for number in range(60)]
    assert all(len(items) == items_per_step and len({buckets[item] for item in items}) == 1 for items in steps)
    seen = Counter(item for items in steps for item in items)
    for index, weight in enumerate(found):
        # A bucket is behind by at most one step of each bucket.
        slack = 3 + len(set(buckets)) * items_per_step
        assert abs(seen[index] - 60 * items_per_step * weight / sum(found)) <= slack


def test_no_image_twice_in_a_step_unless_its_share_is_larger():
    found = [random.Random(2).choice([0.25, 0.7, 1.0, 2.3]) for _ in range(40)]
    plan = Plan(["a"] * 40, found, 8, 1)
    assert all(len(set(plan.step(number))) == 8 for number in range(300))
    heavy = Plan(["a"] * 6, [0.5, 0.5, 0.5, 0.5, 0.5, 2.5], 4, 1)
    assert {count for number in range(200) for count in Counter(heavy.step(number)).values()} <= {1, 2}


def test_equal_weights_give_passes_in_new_random_orders():
    plan = Plan(["a"] * 10, [1.5] * 10, 5, 1)
    steps = [plan.step(number) for number in range(40)]
    assert all(sorted(first + second) == list(range(10)) for first, second in zip(steps[::2], steps[1::2]))
    assert len({frozenset(step) for step in steps}) > 20


def test_the_second_half_does_not_depend_on_the_first(cast):
    names, images = cast
    found = weights(images, config(*names))
    buckets = [index % 3 for index in range(len(images))]
    straight, resumed, other = (Plan(buckets, found, 4, seed) for seed in (1, 1, 2))
    order = [straight.step(number) for number in range(1000)]
    assert [resumed.step(number) for number in range(500, 1000)] == order[500:]
    assert [other.step(number) for number in range(1000)] != order
