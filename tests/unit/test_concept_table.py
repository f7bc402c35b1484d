"""What each concept gets, as Check, the command line, the API and the tab show it before a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib_pivotal.core.config.schema import Concept, Subset, TrainConfig
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.train.checks import check
from lib_pivotal.core.train.concept_table import concept_table, table_problems
from lib_pivotal.core.train.resumed import Resumed
from tests.unit.toy import toy_config, write_images


def images(*groups: tuple[str, int], **subset) -> list[DatasetImage]:
    return [
        DatasetImage(Path("a.png"), caption, 1.0, 64, 64, "a.png", subset=Subset(**subset))
        for caption, count in groups
        for _ in range(count)
    ]


def config(**changes) -> TrainConfig:
    values = {"concepts": (Concept("zog_x"), Concept("mib_y")), "steps": 1000, "batch_size": 2, "balance": 0.0}
    return TrainConfig(**{**values, **changes})


def test_rows_count_images_and_samples():
    table = concept_table(config(), images(("zog_x", 10), ("mib_y", 5), ("zog_x, mib_y", 5), ("a hill", 20)), "sd1")
    assert (table.steps, table.samples, table.images) == (1000, 2000, 40)
    zog, mib, rest = table.rows
    assert (zog.name, zog.images, zog.alone, zog.with_others) == ("zog_x", 15, 10, 5)
    assert (zog.share, zog.samples, zog.fewest_views, zog.most_views) == (0.375, 750, 50, 50)
    assert (mib.name, mib.images, mib.alone, mib.with_others, mib.samples) == ("mib_y", 10, 5, 5, 500)
    assert (rest.name, rest.images, rest.samples) == ("", 20, 1000)
    assert json.loads(json.dumps(table.as_dict()))["rows"][0]["name"] == "zog_x"


def test_a_balanced_image_of_a_small_concept_is_seen_more_often():
    table = concept_table(config(balance=0.75), images(("zog_x", 40), ("mib_y", 10)))
    zog, mib = table.rows
    assert zog.fewest_views < 40 < mib.fewest_views
    assert zog.samples + mib.samples == pytest.approx(2000, abs=1)
    kept = concept_table(config(balance=0.75), images(("zog_x", 40), ("mib_y", 10)), resumed=Resumed(0, balances=False))
    assert {row.most_views for row in kept.rows} == {40}


def test_images_seen_too_often_are_a_finding():
    table = concept_table(config(), images(("zog_x", 8), ("mib_y", 1)))
    (problem,) = table_problems(table)
    assert [row.remark for row in table.rows] == ["many", "many"]
    assert (problem.severity, problem.field) == ("warning", "steps")
    assert "zog_x (222 times)" in problem.message and problem.hint


def test_images_seen_too_rarely_are_a_finding():
    (problem,) = table_problems(concept_table(config(), images(("zog_x", 300), ("mib_y", 200))))
    assert "mib_y (4 times)" in problem.message and "steps" in problem.hint
    assert not table_problems(concept_table(config(steps=20), images(("zog_x", 30)))), "this is only a trial"
    # A concept with enough samples is learned, however many images it has.
    assert not table_problems(concept_table(config(steps=4000), images(("zog_x", 2000))))
    # Stray images without a name need not be learned.
    assert not table_problems(concept_table(config(steps=1300), images(("zog_x", 300), ("", 5)), "sdxl"))


def test_the_automatic_length_gives_no_finding():
    for family in ("sd1", "sdxl", ""):
        for count in (6, 20, 100, 1000):
            data = images(("zog_x", count), ("mib_y", count))
            assert not table_problems(concept_table(config(steps=0), data, family))


def test_regularization_images_take_their_share():
    data = images(("zog_x", 10)) + images(("", 30), kind="regularization")
    table = concept_table(config(regularization_share=0.25), data)
    assert (table.samples, table.images, [row.samples for row in table.rows]) == (1500, 10, [1500, 0])


def test_a_check_has_the_table_and_its_findings(tmp_path):
    write_images(tmp_path / "data", 2)
    settings = toy_config(tmp_path / "data", steps=500)
    found = check(settings, bundles=tmp_path / "out", taken_names={}, family="sd1")
    assert found.table is not None and found.table.steps == 500
    assert [problem.field for problem in found.problems if "learned by heart" in problem.message] == ["steps"]
    invalid = toy_config(tmp_path / "data", balance_cap=0.0, batch_size=0)
    assert check(invalid, bundles=tmp_path / "out", taken_names={}).table is None
    (tmp_path / "empty").mkdir()
    assert check(toy_config(tmp_path / "empty"), bundles=tmp_path / "out", taken_names={}).table is None
