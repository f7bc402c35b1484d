"""How many steps a run has: from the settings, from the concepts and images, or as it began."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib_pivotal.core.config.schema import Concept, Subset, TrainConfig
from lib_pivotal.core.data.image_shares import share_images
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.train.resumed import Resumed
from lib_pivotal.core.train.step_count import total_steps


def images(*groups: tuple[str, int], **subset) -> list[DatasetImage]:
    return [
        DatasetImage(Path("a.png"), caption, 1.0, 64, 64, "a.png", subset=Subset(**subset))
        for caption, count in groups
        for _ in range(count)
    ]


def steps(data: list[DatasetImage], family: str = "sd1", *, resumed=None, processes: int = 1, **changes) -> int:
    names = sorted({name for image in data for name in (image.caption or "").split(", ")} - {""})
    values = {"concepts": tuple(Concept(name) for name in names), "batch_size": 4, **changes}
    config = TrainConfig(**values)
    return total_steps(config, share_images(data, config), family, processes=processes, resumed=resumed)


CAST = images(*((f"zog_{index}", 20 + index) for index in range(16)))


def test_samples_per_concept_and_family():
    assert steps(images(("zog", 30))) == 600
    assert steps(images(("zog", 30)), "sd2") == 600
    assert steps(images(("zog", 30)), "sdxl") == 300
    assert steps(CAST, "sdxl") == 4800
    assert steps(CAST, "sd1") == 9600
    assert steps(CAST, "") == 9600


def test_small_and_large_sets_are_limited_by_views_per_image():
    assert steps(images(("zog", 8))) == 400
    assert steps(images(("zog", 500))) == 2500


def test_images_of_two_concepts_count_for_both():
    assert steps(images(("zog", 10), ("mib", 10), ("zog, mib", 20)), balance=0.0) == 800
    assert steps(images(("zog", 20), ("mib", 20))) == 1200
    # Images without a name do not make a run longer.
    assert steps(images(("zog", 20), ("mib", 20), ("", 50))) == 1200


def test_a_class_that_says_style_gets_twice_as_many():
    data = images(("zog", 30))
    assert steps(data, concepts=(Concept("zog", class_noun="anime style"),)) == 1200
    assert steps(data, concepts=(Concept("zog", class_noun="stylish robot"),)) == 600


def test_batches_and_processes_share_the_samples():
    data = images(("zog", 30))
    assert steps(data, batch_size=1, accumulation=2) == 1200
    assert steps(data, batch_size=1, processes=2) == 1200


def test_limits():
    assert steps(images(("zog", 3)), batch_size=16) == 300
    assert steps(images(("zog", 6000)), batch_size=1) == 100_000


def test_without_concepts_the_images_count():
    assert steps(images(("", 40))) == 600
    assert steps(images(("", 5))) == 300


def test_the_setting_wins():
    assert steps(CAST, steps=7) == 7
    assert steps(CAST, steps=7, resumed=Resumed(500, balances=True)) == 7


def test_a_resumed_run_keeps_its_length():
    assert steps(CAST, resumed=Resumed(1234, balances=True)) == 1234


@pytest.mark.parametrize(("count", "expected"), [(1, 600), (31, 620), (50, 1000), (900, 1500)])
def test_states_of_earlier_releases_have_the_length_of_their_rule(count, expected):
    assert steps(images(("zog", count)), resumed=Resumed(0, balances=False)) == expected


def test_regularization_images_do_not_make_a_run_longer():
    data = images(("zog", 30))
    assert steps(data + images(("zog", 500), kind="regularization")) == steps(data)
