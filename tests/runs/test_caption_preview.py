"""The preview of captions shows what the training uses."""

from __future__ import annotations

import json

import pytest

from lib_pivotal.cli.main import main
from lib_pivotal.core.config.io import to_json
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.train.batches import Batcher
from lib_pivotal.core.train.caption_preview import CaptionPreview
from tests.runs import harness
from tests.unit.toy import ToyEncoder, toy_config, write_images

VARIED = {
    "tag_dropout": 0.3,
    "name_only": 0.2,
    "caption_dropout": 0.2,
    "flip": True,
    "tag_warmup": 0.5,
    "accumulation": 2,
    "tag_dropout_by_position": True,
}


@pytest.fixture
def folder(tmp_path):
    """Two folders of images whose captions use all syntax."""
    write_images(tmp_path / "data", 5)
    write_images(tmp_path / "more", 3, "{red|blue} hat")
    for file in (tmp_path / "data").glob("*.txt"):
        file.write_text(file.read_text() + ", {day|night};;;sky ||| end\nzog_x with a {big|small} hat")
    (tmp_path / "templates.txt").write_text("a photo of [name], [filewords]\n[filewords], by [name]")
    return tmp_path


def varied(folder, **changes) -> TrainConfig:
    subset = Subset(folder=str(folder / "more"), always=("mib_x",), caption_prefix="best", keep_first=1)
    return toy_config(
        folder / "data",
        concepts=(Concept("zog_x", vectors=3), Concept("mib_x", vectors=2)),
        subsets=(subset,),
        caption_template=str(folder / "templates.txt"),
        **{**VARIED, **changes},
    )


def captions_of_run(monkeypatch, config, where, **options) -> dict[int, list[str]]:
    """Step → captions of its batches in a run."""
    seen = {}
    original = Batcher.step

    def step(self, number):
        batches = original(self, number)
        seen[number + 1] = [caption for batch in batches for caption in batch.captions]
        return batches

    monkeypatch.setattr(Batcher, "step", step)
    harness.run(config, where, **options)
    return seen


def test_the_captions_of_each_step_are_those_that_the_run_used(monkeypatch, folder):
    config = varied(folder)
    seen = captions_of_run(monkeypatch, config, harness.folders(folder))
    preview = CaptionPreview(read_dataset(config), config)
    assert len(seen) == config.steps
    for number, captions in seen.items():
        assert [item["text"] for item in preview.step(number)] == captions
    assert len({text for captions in seen.values() for text in captions}) > 10


def test_a_resumed_run_uses_the_same_captions(monkeypatch, folder):
    config = varied(folder)
    preview = CaptionPreview(read_dataset(config), config)
    where = harness.folders(folder)
    harness.stopped_run(config, where, at=3)
    seen = captions_of_run(monkeypatch, config, where, resume_from=where.run)
    assert list(seen) == [4, 5, 6, 7, 8]
    assert all([item["text"] for item in preview.step(number)] == texts for number, texts in seen.items())


def test_a_run_with_other_templates_is_not_resumed(folder):
    config = varied(folder)
    where = harness.folders(folder)
    harness.stopped_run(config, where, at=3)
    (folder / "templates.txt").write_text("another [name]")
    with pytest.raises(ConfigError):
        harness.run(config, where, resume_from=where.run)


def test_processes_share_the_items_of_a_step(folder):
    config = varied(folder)
    alone = CaptionPreview(read_dataset(config), config)
    together = CaptionPreview(read_dataset(config), config, processes=2)
    assert len(together.step(1)) == 2 * len(alone.step(1)) == 8


def test_the_caption_of_an_image_varies_as_the_settings_say(tmp_path):
    write_images(tmp_path, 2)
    config = toy_config(tmp_path, tag_dropout=0.3, name_only=0.2, caption_dropout=0.1, drop_tags=("left",))
    found = CaptionPreview(read_dataset(config), config, ToyEncoder().tokenize).image("01.png", 1000)
    assert found["caption"] == "zog_x, tag 1, left, blue background"
    assert found["kinds"] == pytest.approx({"full": 0.7, "names": 0.2, "empty": 0.1}, abs=0.04)
    assert found["rates"] == pytest.approx(
        {"left": 0.0, "zog_x": 0.9, "tag 1": 0.49, "blue background": 0.49}, abs=0.05
    )
    longest = max(found["draws"], key=lambda item: item["tokens"])
    assert (longest["tokens"], longest["chunks"]) == (3 + 1 + 2 + 1 + 2, 1)


@pytest.mark.parametrize(
    ("arguments", "field"), [(("none.png", 5), "image"), (("00.png", 0), "count"), (("00.png", 5, 0), "step")]
)
def test_what_does_not_exist_is_a_clear_error(tmp_path, arguments, field):
    write_images(tmp_path, 2)
    config = toy_config(tmp_path)
    preview = CaptionPreview(read_dataset(config), config)
    with pytest.raises(ConfigError) as caught:
        preview.image(*arguments)
    assert caught.value.problems[0].field == field
    with pytest.raises(ConfigError):
        preview.step(0)


def test_the_command_prints_a_step_and_an_image(folder, capsys):
    config = varied(folder)
    path = folder / "config.json"
    path.write_text(to_json(config))
    preview = CaptionPreview(read_dataset(config), config)
    assert main(["data", "captions", str(path), "--step", "7"]) == 0
    printed = capsys.readouterr().out
    assert "Step 7 trains on 4 images:" in printed
    assert all(item["text"] in printed and item["image"] in printed for item in preview.step(7))
    assert main(["data", "captions", str(path), "--step", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == preview.step(7)
    assert main(["data", "captions", str(path), "--image", "01.png", "--count", "50"]) == 0
    assert "Of 50 draws: full" in capsys.readouterr().out
    assert main(["data", "captions", str(path), "--image", "none.png"]) == 2
    path.write_text(to_json(TrainConfig(data_folder=str(folder / "missing"))))
    assert main(["data", "captions", str(path)]) == 2


def test_the_parts_of_a_draw_say_what_becomes_of_them(tmp_path):
    write_images(tmp_path, 1)
    for file in tmp_path.glob("*.txt"):
        file.write_text("front ||| robot, zog_x, red hair, hat, sky, gone ||| end")
    config = toy_config(
        tmp_path,
        concepts=(Concept("zog_x", aliases=("robot",), vectors=2, core_tags=("red hair",)),),
        drop_tags=("gone",),
        tag_dropout=0.5,
        name_only=0.2,
        protected_tags=("sky",),
    )
    preview = CaptionPreview(read_dataset(config), config)
    (image,) = {item["image"] for item in preview.step(1)}
    draws = preview.marked(image, 40)
    assert [draw["text"] for draw in draws] == [draw["text"] for draw in preview.image(image, 40)["draws"]]
    full = [draw for draw in draws if draw["kind"] == "full"]
    marks = [{part["text"]: part["mark"] for part in draw["parts"]} for draw in full]
    always = {"front": "kept", "zog_x": "name", "end": "tail", "sky": "kept", "red hair": "removed", "gone": "removed"}
    assert all(always.items() <= found.items() for found in marks)
    assert {found["hat"] for found in marks} == {"", "dropped"}
    assert {"text": "zog_x", "mark": "alias", "written": "robot"} in full[0]["parts"]
    names = next(draw for draw in draws if draw["kind"] == "names")
    assert [part["text"] for part in names["parts"] if part["mark"] == "name"] == ["zog_x"]
    for draw in draws:
        trained = [part["text"] for part in draw["parts"] if part["mark"] not in ("dropped", "removed")]
        assert ", ".join(trained) == draw["text"]
