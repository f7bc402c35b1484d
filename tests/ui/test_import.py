"""Importing the settings of other programs on the tab."""

from __future__ import annotations

import json

from lib_pivotal.core.config.schema import Subset, TrainConfig
from lib_pivotal.ui.fields import read_config, show_config
from lib_pivotal.ui.ids import element_id

NOTICE = element_id("run", "notice")
PATH, READ, FOLDERS = element_id("import", "path"), element_id("import", "read"), element_id("images", "subsets")
CONCEPTS = element_id("concepts", "json")

DATA_SET = """
[general]
color_aug = "<b>"
flip_aug = true
[[datasets]]
resolution = 768
[[datasets.subsets]]
image_dir = 'D:\\zog'
num_repeats = 4
[[datasets.subsets]]
image_dir = 'mib'
"""


def write(path, contents):
    path.write_text(contents if isinstance(contents, str) else json.dumps(contents), encoding="utf-8")
    return path


def test_importing_fills_the_fields_and_names_unused_keys(page, session, tmp_path):
    page.values[PATH] = f'"{write(tmp_path / "set.toml", DATA_SET)}"'
    page.values[element_id("output", "output_name")] = "mine"
    changed = page.press(READ)
    assert page.values[element_id("images", "resolution")] == 768
    assert page.values[element_id("images", "flip")] is True
    assert page.values[element_id("output", "output_name")] == "mine"
    notice = page.values[NOTICE]
    assert "general.color_aug" in notice and "repeats in the file" in notice
    # What the file does not mention stays as it is.
    assert element_id("training", "unet_lr") not in changed and CONCEPTS not in changed
    config, problems = read_config({**show_config(TrainConfig()), "subsets": page.values[FOLDERS]})
    assert config.subsets == (Subset("D:\\zog", repeats=4.0, subfolders=False), Subset("mib", subfolders=False))
    assert not problems
    assert session.status()["state"] == "idle"


def test_importing_names_replaces_the_concepts(page, tmp_path):
    names = {f"zog_{number}": ["horns"] for number in range(60)}
    page.values[PATH] = str(write(tmp_path / "emb_init.json", names))
    page.values[CONCEPTS] = json.dumps([{"name": "mib"}])
    page.press(READ)
    assert [row["name"] for row in json.loads(page.values[CONCEPTS])] == list(names)


def test_what_cannot_be_imported_is_said(page, tmp_path):
    for path, word in (("", "No file"), (str(tmp_path / "none.toml"), "cannot be read")):
        page.values[PATH] = path
        assert page.press(READ).keys() == {NOTICE}
        assert word in page.values[NOTICE]
