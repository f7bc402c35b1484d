"""Commands for core tags: files of the user never change, and what is written is what was shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lib_pivotal.cli.main import main
from lib_pivotal.core.bundle.inspection import describe
from lib_pivotal.core.bundle.metadata import BUNDLE_KEY, bundled_core_tags
from lib_pivotal.core.config.io import from_json, to_json
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.core_tags.cleaning import CaptionCleaner
from lib_pivotal.core.core_tags.findings import core_tag_problems
from lib_pivotal.core.core_tags.pruning import pruner_for
from lib_pivotal.core.core_tags.tagged_image import tagged_images
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.train.checks import check
from lib_pivotal.ui.bundle_view import show_bundle
from tests.runs.test_options import Run, settings
from tests.unit.test_core_tags import ZOG_AND_MIB, images
from tests.unit.toy import write_images

TAGS = ("red hair", "horns")


def write(folder: Path, captions: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, caption in enumerate(captions):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(caption)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "images", ZOG_AND_MIB)


@pytest.fixture
def config(tmp_path: Path, data: Path) -> Path:
    concepts = (Concept("zog", vectors=8), Concept("mib", vectors=8, init_text="my own"))
    path = tmp_path / "config.json"
    path.write_text(to_json(TrainConfig(data_folder=str(data), concepts=concepts)))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(capsys, *arguments) -> tuple[int, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out + err


def test_the_table_is_printed_and_applied_to_a_new_file(config, data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, new = contents(data), tmp_path / "new.json"
    code, out = run(capsys, "data", "tags", config, "--apply", new)
    assert code == 0
    assert "zog: 20 images, alone in 20" in out and "Initialization text: girl red hair horns" in out
    assert any(line.split()[:3] == ["ticked", "red", "hair"] for line in out.splitlines())
    assert "before: zog, 1girl, hat, red hair" in out and out.count("before:") == 8
    zog, mib = from_json(new.read_text()).concepts
    assert zog.core_tags == TAGS and zog.init_text == "girl red hair horns"
    assert mib.core_tags == ("blue hair",) and mib.init_text == "my own"
    assert contents(data) == before
    code, out = run(capsys, "data", "tags", config, "--apply", new)
    assert code == 2 and "already exists" in out
    code, _ = run(capsys, "data", "tags", config, "--apply", tmp_path / "all.json", "--replace")
    assert from_json((tmp_path / "all.json").read_text()).concepts[1].init_text == "boy blue hair"


def test_json_has_the_same_table(config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out = run(capsys, "data", "tags", config, "--json")
    table = json.loads(out)
    assert code == 0 and table["concepts"][0]["core_tags"] == list(TAGS)
    assert table["concepts"][0]["tags"][0] == {
        "tag": "red hair", "tag_class": "hair color", "state": "ticked", "count": 18, "share": 0.9, "elsewhere": 0.0,
        "removed": 18, "hint": "",
    }  # fmt: skip


def test_classes_of_ones_own_are_used(config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tag_classes.txt").write_text("[hats] permanent\n^hat$\n")
    _, out = run(capsys, "data", "tags", config)
    assert any(line.split()[:3] == ["ticked", "hat", "hats"] for line in out.splitlines())
    (tmp_path / "tag_classes.txt").write_text("[hats]\n^hat$\n")
    code, out = run(capsys, "data", "tags", config)
    assert code == 2 and "Line 1" in out


def test_prose_and_missing_folders_are_explained(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path / "prose", ["This is a photo of zog who has a hat."] * 3)
    path = tmp_path / "c.json"
    path.write_text(to_json(TrainConfig(data_folder=str(folder), concepts=(Concept("zog"),))))
    code, out = run(capsys, "data", "tags", path)
    assert code == 0 and "3 of 3 captions are sentences" in out
    path.write_text(to_json(TrainConfig(data_folder=str(tmp_path / "none"), concepts=(Concept("zog"),))))
    for command in (["tags"], ["clean", "--into", tmp_path / "x"]):
        code, out = run(capsys, "data", command[0], path, *command[1:])
        assert code == 2 and "none" in out


def with_tags(config: Path, **changes) -> TrainConfig:
    loaded = from_json(config.read_text())
    values = {
        "data_folder": loaded.data_folder,
        "concepts": (Concept("zog", core_tags=TAGS), Concept("mib")),
        **changes,
    }
    config.write_text(to_json(TrainConfig(**values)))
    return TrainConfig(**values)


def test_cleaned_captions_go_to_a_copy(config, data, tmp_path, capsys):
    with_tags(config)
    before, into = contents(data), tmp_path / "clean"
    code, out = run(capsys, "data", "clean", config, "--into", into)
    assert code == 0 and "40 images and 40 captions" in out
    after = contents(into)
    assert contents(data) == before and after.keys() == before.keys()
    assert after["00.png"] == before["00.png"]
    assert after["01.txt"] == b"zog, 1girl, hat, smile, thing 1"
    code, out = run(capsys, "data", "clean", config, "--into", into)
    assert code == 2 and "not an empty folder" in out and contents(into) == after
    code, out = run(capsys, "data", "clean", config, "--into", data / "inside")
    assert code == 2 and not (data / "inside").exists()


def test_several_folders_and_equal_stems_stay_apart(config, data, tmp_path, capsys):
    other = write(tmp_path / "more" / "images", ["zog, red hair, night"] * 2)
    (other / "2_deep").mkdir()
    Image.new("RGB", (64, 64)).save(other / "2_deep" / "x.png")
    with_tags(config, subsets=(Subset(folder=str(other)),))
    code, _ = run(capsys, "data", "clean", config, "--into", tmp_path / "clean")
    assert code == 0
    assert (tmp_path / "clean/images/01.txt").exists() and (tmp_path / "clean/images-2/2_deep/x.png").exists()
    assert (tmp_path / "clean/images-2/01.txt").read_text() == "zog, night"


def test_nothing_to_clean_is_an_error(config, tmp_path, capsys):
    code, out = run(capsys, "data", "clean", config, "--into", tmp_path / "clean")
    assert code == 2 and "No concept has core tags" in out and not (tmp_path / "clean").exists()


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("zog, Red_Hair ,  hat", "zog,  hat"),
        ("red hair, zog\nzog, horns\nhorns", "zog\nzog"),
        ("zog ||| red hair, hat ||| horns", "zog ||| hat"),
        ("zog, sky;;;red hair;;;cloud", "zog, sky;;;cloud"),
        ("zog, (red hair:1.2), ((horns)), hat", "zog, hat"),
        ("zog, hat", "zog, hat"),
    ],
)
def test_the_rest_of_a_cleaned_caption_stays_as_it_is(caption, cleaned):
    config = TrainConfig(concepts=(Concept("zog", core_tags=TAGS),))
    data = images(caption)
    cleaner = CaptionCleaner(config, pruner_for(config, data))
    assert cleaner.clean(tagged_images(data, config)[0]) == cleaned


def test_tags_are_exported_for_other_programs(config, tmp_path, capsys):
    with_tags(config, concepts=(Concept("zog", core_tags=TAGS, init_text="girl red hair"), Concept("mib")))
    code, _ = run(capsys, "data", "export-tags", config, "--into", tmp_path / "out")
    assert code == 0
    assert (tmp_path / "out/wildcard.txt").read_text() == "zog\nzog, red hair, horns\nmib\n"
    core = json.loads((tmp_path / "out/core_tags.json").read_text())
    assert core["zog"] == {"kept": [], "dropped": list(TAGS), "emb_init": ["girl red hair"]}
    assert json.loads((tmp_path / "out/emb_init.json").read_text()) == {"zog": ["girl red hair"], "mib": []}
    code, out = run(capsys, "data", "export-tags", config, "--into", tmp_path / "out")
    assert code == 2 and "already exists" in out


def problems_of(captions: list[str], *concepts: Concept, **changes) -> list[str]:
    return [str(item) for item in core_tag_problems(TrainConfig(concepts=concepts, **changes), images(*captions))]


def test_captions_that_lose_too_much_are_found():
    zog = Concept("zog", core_tags=TAGS)
    captions = ["zog, red hair, horns", "zog, red hair, horns, hat", "zog, red hair, horns, hat, sky"]
    bare, short = problems_of(captions, zog)
    assert "only names are left in 1 captions: 0.png" in bare and "1 captions lose more than 60 %" in short
    assert "1.png" in short and "2.png" not in short
    assert not problems_of(captions, zog, prune_core_tags=False)
    assert not problems_of(captions[2:], zog)


def test_core_tags_that_cannot_work_are_found(tmp_path, data):
    found = problems_of(["zog, red hair, hat, sky"], Concept("zog", core_tags=("red haired", " ", "Zog", "a, b")))
    text = "\n".join(found)
    assert "No caption that mentions zog has: red haired" in text
    assert "' ' is not a tag" in text and "'a, b' is not a tag" in text and "Zog stands for a concept" in text
    config = TrainConfig(data_folder=str(data), concepts=(Concept("zog", core_tags=("green hair",)), Concept("mib")))
    checked = check(config, bundles=tmp_path, taken_names={})
    assert "concepts[0].core_tags" in [problem.field for problem in checked.problems]


def test_core_tags_are_in_the_bundle(tmp_path, capsys):
    write_images(tmp_path / "data")
    concepts = (Concept("zog_x", init_text="teal thing", vectors=3, core_tags=("left",), stop_at=1.0),)
    path = Run(tmp_path / "out", settings(tmp_path, {"concepts": concepts})).outcome.bundle_path
    described = describe(path)
    assert described["core_tags"] == {"zog_x": ["left"]}
    assert "Core tags of zog_x: left" in show_bundle(described)
    assert "zog_x: core tags left" in run(capsys, "inspect", path)[1]
    renamed = tmp_path / "renamed.safetensors"
    assert run(capsys, "bundle", "rename", path, "zog_x=new_y", "--out", renamed)[0] == 0
    assert describe(renamed)["core_tags"] == {"new_y": ["left"]}


@pytest.mark.parametrize(
    "value",
    [7, "[", "["*100_000, {"embeddings": 3}, {"embeddings": {"zog": 1}}, {"embeddings": {"zog": {"core_tags": [1]}}}],
)  # fmt: skip
def test_metadata_may_contain_anything(value):
    assert bundled_core_tags({BUNDLE_KEY: value}) == {}


def test_a_copy_reads_as_the_pruned_set(config, data, tmp_path, capsys):
    """Training on the copy sees the captions that training on the data set itself sees."""
    loaded = with_tags(config)
    run(capsys, "data", "clean", config, "--into", tmp_path / "clean")
    pruner = pruner_for(loaded, read_dataset(loaded).usable)
    copied = read_dataset(TrainConfig(data_folder=str(tmp_path / "clean"))).usable
    for image, copy in zip(read_dataset(loaded).usable, copied, strict=True):
        tags = image.caption.split(", ")
        assert copy.caption == ", ".join(pruner(tags, [tags[0]]))
