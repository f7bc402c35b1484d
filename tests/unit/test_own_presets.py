"""Presets of the user: kept in files, never with paths, names or prompts; a broken file hides no other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lib_pivotal.app.own_presets import PresetLibrary
from lib_pivotal.core.config.io import from_dict
from lib_pivotal.core.config.presets import filled_in, presets
from lib_pivotal.core.config.schema import Concept, Subset, TrainConfig, field_info
from lib_pivotal.core.errors import ConfigError, PivotalError
from lib_pivotal.ui.text.presets import PRESET_FIELDS

SECRET = "my-secret"
MINE = TrainConfig(
    concepts=(Concept(SECRET, SECRET, vectors=7, aliases=(SECRET,), core_tags=(SECRET,), stop_at=0.4),),
    subsets=(Subset(SECRET),),
    **{
        name: (SECRET,) if info["type"] == "tuple" else SECRET
        for name, info in field_info().items()
        if info["type"] in ("str", "tuple") and not info["choices"]
    },
    rank=24,
    embedding_lr=3.5e-3,
    masks="alpha",
    shuffle_tags=False,
)


@pytest.fixture
def library(tmp_path: Path) -> PresetLibrary:
    return PresetLibrary(lambda: tmp_path / "data")


def test_a_saved_preset_has_the_settings_and_no_text_of_the_user(library, tmp_path):
    library.save(" Soft style ", MINE)
    (path,) = (tmp_path / "data" / "presets").iterdir()
    assert path.name == "Soft style.json" and SECRET not in path.read_text()
    preset = library.find("Soft style")
    other = {"data_folder": "here", "output_name": "new", "concepts": [{"name": "mib", "init_text": "hat"}]}
    config = from_dict(filled_in(other, preset))
    assert (config.rank, config.embedding_lr, config.masks, config.shuffle_tags) == (24, 3.5e-3, "alpha", False)
    assert config.concepts == (Concept("mib", "hat", vectors=7, stop_at=0.4),)
    assert (config.data_folder, config.output_name, config.subsets) == ("here", "new", ())
    assert [item.name for item in library.all()[0]] == [*(item.name for item in presets()), "Soft style"]


def test_nothing_is_overwritten_or_deleted_unasked(library):
    library.save("mine", MINE)
    with pytest.raises(ConfigError, match="already a preset mine"):
        library.save("mine", replace(MINE, rank=3))
    assert library.find("mine").settings["rank"] == 24
    library.save("mine", replace(MINE, rank=3), overwrite=True)
    assert library.find("mine").settings["rank"] == 3
    for name in ("cast-sd1", presets()[0].title, "", "a/b", "..", "con", "x" * 300):
        with pytest.raises(ConfigError):
            library.save(name, MINE, overwrite=True)
        with pytest.raises(ConfigError):
            library.delete(name)
    library.delete("mine")
    with pytest.raises(ConfigError, match="no preset"):
        library.find("mine")
    assert library.find("cast-sd1").name == "cast-sd1"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        (" ", "The preset has no name.", 'Enter one under "Name of the new preset".'),
        ("a/b", "'a/b' is not a valid file name.", "Use a_b."),
        ("x" * 300, f"'{'x' * 60}…' is not a valid file name.", "Shorten it."),
    ],
)
def test_a_name_that_cannot_be_used_is_the_presets(library, name, message, hint):
    """Not that of a bundle, whose rules it shares."""
    with pytest.raises(ConfigError) as caught:
        library.save(name, MINE)
    (problem,) = caught.value.problems
    assert (problem.field, problem.message, problem.hint) == ("preset_name", message, hint)
    assert PRESET_FIELDS["preset_name"][0] == "Name of the new preset"


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "no object"),
        (b'{"settings": 3}', "no object"),
        (b"\xff\xfe{\x00", "UTF-16"),
        (b'{"settings": {"stepps": 3}}', "stepps"),
        (b'{"settings": {"data_folder": "/etc"}}', "data_folder"),
        (b'{"settings": {"output_name": "x"}}', "output_name"),
        (b'{"settings": {"concepts": []}}', "concepts"),
        (b'{"concept": {"name": "x"}}', "name"),
        (b'{"settings": {"rank": "many"}}', "many"),
    ],
)
def test_a_broken_preset_is_reported_and_the_others_work(library, tmp_path, contents, words):
    library.save("good", MINE)
    (tmp_path / "data" / "presets" / "bad.json").write_bytes(contents)
    found, problems = library.all()
    assert [item.name for item in found][-1] == "good"
    assert [item.field for item in problems] == ["bad.json"] and words in problems[0].message
    with pytest.raises(ConfigError):
        library.find("bad")
    library.delete("bad")
    assert library.all()[1] == []


def test_a_file_cannot_take_the_place_of_a_built_in_preset(library, tmp_path):
    folder = tmp_path / "data" / "presets"
    folder.mkdir(parents=True)
    (folder / "cast-sd1.json").write_text(json.dumps({"settings": {"rank": 1}}))
    assert library.find("cast-sd1").settings["rank"] == 32
    assert not library.is_own("cast-sd1")


def test_a_folder_that_cannot_be_written_is_an_error(library, tmp_path):
    (tmp_path / "data").write_text("in the way")
    assert library.all()[1] == []
    with pytest.raises(PivotalError, match="cannot be saved"):
        library.save("mine", MINE)
