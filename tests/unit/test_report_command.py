"""``python -m lib_pivotal data report``: the table of concepts on the command line."""

from __future__ import annotations

import json

import pytest

from lib_pivotal.cli.main import main
from tests.unit.toy import write_images


@pytest.fixture
def config(tmp_path):
    write_images(tmp_path / "data" / "a", 6)
    write_images(tmp_path / "data" / "b", 2, "mib_y")
    path = tmp_path / "config.json"

    def write(**changes):
        values = {
            "data_folder": str(tmp_path / "data"),
            "concepts": [{"name": "zog_x"}, {"name": "mib_y"}, {"name": "tuk_z"}],
            "steps": 400,
            **changes,
        }
        path.write_text(json.dumps(values))
        return str(path)

    return write


def test_it_prints_a_table_and_what_is_unusual(config, capsys):
    assert main(["data", "report", config()]) == 0
    head, columns, *lines = capsys.readouterr().out.splitlines()
    assert head == "8 images, 400 steps, 800 samples"
    assert columns.split()[:3] == ["Concept", "Images", "Alone"]
    assert [line.split()[0] for line in lines[:3]] == ["zog_x", "mib_y", "tuk_z"]
    assert lines[0].split()[1:4] == ["6", "6", "0"]
    assert lines[1].endswith("times")
    assert lines[2].split()[1] == "0"
    assert main(["data", "report", config(steps=2000)]) == 0
    output = capsys.readouterr().out
    assert "times !" in output and "warning: steps: " in output


def test_it_prints_json(config, capsys):
    assert main(["data", "report", config(balance=0.0), "--json", "--preset", "style-sd1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["most_views"] for row in report["rows"]] == [100.0, 100.0, 0.0]
    assert report["steps"] == 400


def test_unusable_settings_and_folders_are_refused(config, tmp_path, capsys):
    for changes, word in (
        ({"balance": 7}, "out of range"),
        ({"stepz": 1}, "Did you mean steps"),
        ({"data_folder": str(tmp_path / "none")}, "none"),
    ):
        assert main(["data", "report", config(**changes)]) == 2
        assert word in capsys.readouterr().err
