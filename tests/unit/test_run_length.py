"""How long a run will be: from the index of known images, and from the pace of the last run like it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib_pivotal.app.run_length import plan_length
from lib_pivotal.app.session import Session
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.train.run_record import record_end, record_start
from tests.ui.fake_host import FakeHost, GatedEngine, good_config, write_images


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(FakeHost(tmp_path / "webui"), GatedEngine())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", 12)


def test_the_length_is_that_of_the_check(session, images):
    for changes in ({"steps": 0}, {"steps": 700}, {"steps": 0, "batch_size": 5, "accumulation": 2},
                    {"steps": 0, "validation_share": 0.25}):  # fmt: skip
        config = good_config(images, **changes)
        before = plan_length(session, config)
        table = session.checked(config).table
        assert table is not None
        assert (before.steps, before.images) == (table.steps, table.images), changes
        assert before.samples == {row.name: row.samples for row in table.rows}
        assert plan_length(session, config) == before, "also when the images are known"
    assert plan_length(session, good_config(images, steps=700)).suggested_steps == 1200


def test_no_image_is_decoded(session, images, monkeypatch):
    from lib_pivotal.core.data import dataset_report

    monkeypatch.setattr(dataset_report, "read_facts", lambda *_: pytest.fail("decoded"))
    config = good_config(images, steps=0, concepts=(Concept("zog"), Concept("mib", aliases=("number 3",))))
    assert plan_length(session, config).samples.keys() == {"zog", "mib"}
    assert not (session.host.data_root() / "cache").exists(), "nothing is written"


def test_time_comes_from_the_last_run_like_this_one(session, images):
    config = good_config(images, steps=300)
    assert plan_length(session, config).seconds == 0
    for number, pace in enumerate((0.5, 2.0)):
        folder = session.host.data_root() / "runs" / f"zog-2026010{number + 1}-000000"
        folder.mkdir(parents=True)
        from lib_pivotal.core.config.io import to_json

        (folder / "config.json").write_text(to_json(config))
        record_start(folder, family="sd1", model_name="m", total_steps=300)
        record_end(folder, "done", step=300, seconds_per_step=pace)
    length = plan_length(session, config)
    assert (length.seconds_per_step, length.seconds) == (2.0, 600.0)
    assert plan_length(session, good_config(images, steps=300, resolution=128)).seconds == 0


def test_the_present_run_counts_after_twenty_steps(images, tmp_path):
    engine = GatedEngine(gated=True)
    session = Session(FakeHost(tmp_path / "webui"), engine)
    config = good_config(images, steps=100)
    session.start(config)
    engine.allow(19)
    while session.status()["step"] < 19:
        pass
    assert plan_length(session, config).seconds_per_step == 0
    engine.allow(1)
    while session.status()["step"] < 20:
        pass
    assert plan_length(session, config).seconds_per_step > 0
    session.stop(discard=True)
    session.join(5)


def test_what_prevents_the_answer_is_reported(session, images, tmp_path):
    (tmp_path / "empty").mkdir()
    for changes in (
        {"batch_size": 0},
        {"data_folder": str(tmp_path / "gone")},
        {"data_folder": str(tmp_path / "empty")},
    ):
        with pytest.raises(ConfigError):
            plan_length(session, good_config(images, **changes))
