"""Presets: every one of them can be trained, and what the user has set stays as it is."""

from __future__ import annotations

import re

import pytest

from lib_pivotal.cli.main import main
from lib_pivotal.core.config.io import from_dict
from lib_pivotal.core.config.presets import find_preset, presets, with_preset
from lib_pivotal.core.config.schema import concept_field_info, field_info
from lib_pivotal.core.errors import ConfigError
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.train.model_checks import family_hints
from lib_pivotal.core.train.setting_checks import check_settings
from tests.runs.harness import folders, run
from tests.unit.toy import write_images

NAMES = [preset.name for preset in presets()]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_images(folder)
    return folder


def test_there_are_presets_for_the_usual_kinds_of_data_sets():
    for kind in ("character", "style", "cast", "object", "embeddings"):
        assert {f"{kind}-sd1", f"{kind}-sdxl"} <= set(NAMES)
    assert len({preset.title for preset in presets()}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_has_valid_settings_that_suit_its_family(name):
    preset = find_preset(name)
    family = FAMILIES[preset.family]
    assert family.title in preset.title
    assert preset.why.endswith(".")
    config = from_dict(with_preset({"concepts": [{"name": "zog_x"}]}, name))
    assert not check_settings(config)
    if name != "article-sd1":
        assert not family_hints(preset.family, family.native_resolution, config)


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_touches_no_path_name_or_prompt_and_replaces_any_other(name):
    preset = find_preset(name)
    assert set(preset.settings) == set(presets()[0].settings)
    assert set(preset.concept) == set(presets()[0].concept)
    kinds = {field_info()[name]["type"] for name in preset.settings}
    kinds |= {concept_field_info()[name]["type"] for name in preset.concept}
    assert kinds <= {"int", "float", "bool"}


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_takes_a_preset(tmp_path, data, name):
    mine = {
        "concepts": [{"name": "zog_x", "init_text": "teal thing"}],
        "data_folder": str(data),
        "output_name": "toy",
        "resolution": 64,
        "steps": 2,
        "sample_every": 0,
    }
    outcome, _ = run(from_dict(with_preset(mine, name)), folders(tmp_path))
    assert outcome.outcome == "done"


def test_explicit_settings_win():
    mine = {"rank": 3, "concepts": [{"name": "a", "vectors": 1}, {"name": "b"}, "no object"], "output_name": "x"}
    filled = with_preset(mine, "style-sd1")
    assert (filled["rank"], filled["conv_rank"], filled["output_name"]) == (3, 8, "x")
    assert [item["vectors"] for item in filled["concepts"][:2]] == [1, 8]
    assert filled["concepts"][2] == "no object"
    assert mine["concepts"][1] == {"name": "b"}
    assert with_preset([1], "style-sd1") == [1]


def test_an_unknown_preset_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="cast-sd1"):
        find_preset("cast_sd1")
    with pytest.raises(ConfigError, match="Use one of article-sd1"):
        find_preset("?" * 5000)


def test_the_command_lists_them(capsys):
    assert main(["presets"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^([\w-]+): ", text, re.MULTILINE) == NAMES


def test_train_takes_a_preset_and_says_which_exist(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"rank": 0, "concepts": []}')
    assert main(["train", str(tmp_path / "config.json"), "--preset", "cast-sd2", "--check"]) == 2
    assert "cast-sd1" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "config.json"), "--preset", "cast-sd1", "--check"]) == 2
    assert "There is nothing to train." in capsys.readouterr().out
