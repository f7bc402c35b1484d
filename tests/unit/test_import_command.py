"""The ``import`` command prints or writes settings, and reports what of the file is not used."""

from __future__ import annotations

import json

import pytest

from lib_pivotal.cli.main import main

SETTINGS = {"network_dim": 8, "unet_lr": 1e-4, "noise_offset": 0.1, "lr_scheduler": "linear"}


@pytest.fixture
def training(tmp_path):
    path = tmp_path / "training.json"
    path.write_text(json.dumps(SETTINGS))
    return path


def test_settings_go_to_the_output_and_the_report_next_to_it(training, capsys):
    assert main(["import", str(training)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["rank"] == 8
    assert "training settings of kohya" in err
    assert "warning: lr_scheduler: 'linear' does not exist here." in err
    assert "  lr_scheduler\n" in err


def test_a_file_is_replaced_only_on_request(training, tmp_path, capsys):
    out = tmp_path / "config.json"
    command = ["import", str(training), "--write", str(out)]
    assert main(command) == 0
    assert json.loads(out.read_text())["unet_lr"] == 1e-4
    assert "lr_scheduler" in capsys.readouterr().out
    out.write_text("mine")
    assert main(command) == 2
    assert out.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert json.loads(out.read_text())["rank"] == 8


def test_existing_settings_are_completed_and_stay(training, tmp_path, capsys):
    existing = tmp_path / "mine.json"
    existing.write_text('{"rank": 4, "concepts": [{"name": "zog_x"}]}')
    before = existing.read_bytes()
    assert main(["import", str(training), "--into", str(existing)]) == 0
    config = json.loads(capsys.readouterr().out)
    assert (config["rank"], config["unet_lr"], config["concepts"][0]["name"]) == (4, 1e-4, "zog_x")
    assert existing.read_bytes() == before
    existing.write_text('{"rannk": 4}')
    assert main(["import", str(training), "--into", str(existing)]) == 2
    assert "rannk" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_refused(tmp_path, capsys):
    assert main(["import", str(tmp_path / "none.toml")]) == 2
    assert "cannot be read" in capsys.readouterr().err
