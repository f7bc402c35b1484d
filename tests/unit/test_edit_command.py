"""The commands that edit captions: nothing is written unless asked for, and every edit can be undone."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib_pivotal.cli.main import main
from lib_pivotal.core.config.io import to_json
from lib_pivotal.core.config.schema import Concept, TrainConfig
from tests.unit.dataset_files import write_captions


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_captions(tmp_path / "images", "zog, hat", "sky, zog", "sky\x1b")
    path = tmp_path / "config.json"
    path.write_text(to_json(TrainConfig(data_folder=str(tmp_path / "images"), concepts=(Concept("zog"),))))
    return path


def contents(config: Path) -> list[str]:
    return [path.read_text() for path in sorted((config.parent / "images").glob("*.txt"))]


def run(capsys, *arguments) -> tuple[int, str]:
    code = main(["data", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out + err


def test_an_edit_is_shown_applied_and_undone(config, capsys):
    before = contents(config)
    code, out = run(capsys, "edit", config, "--add-end", "night", "--concept", "zog")
    assert code == 0 and "2 images; files that change: 2" in out and "after:  sky, zog, night" in out
    assert "Nothing was written" in out and contents(config) == before
    code, out = run(capsys, "edit", config, "--add-end", "night", "--concept", "zog", "--apply")
    assert contents(config) == ["zog, hat, night", "sky, zog, night", before[2]]
    entry = out.split("data undo ")[1].strip()
    assert entry in run(capsys, "undo")[1]
    (config.parent / "images" / "a0.txt").write_text("mine")
    code, out = run(capsys, "undo", entry)
    assert code == 1 and "Files restored: 1." in out and "a0.txt has changed since" in out
    assert contents(config) == ["mine", *before[1:]]


@pytest.mark.parametrize(
    ("options", "after"),
    [
        (["--concepts-first"], ["zog, hat", "zog, sky", "sky\x1b"]),
        (["--replace", "^s(.)y$", "--with", r"\1", "--pattern"], ["zog, hat", "k, zog", "sky\x1b"]),
        (["--remove", "hat", "--text", "HAT"], ["zog", "sky, zog", "sky\x1b"]),
        (["--dedupe"], ["zog, hat", "sky, zog", "sky\x1b"]),
    ],
)
def test_every_edit_reaches_the_files(config, capsys, options, after):
    code, out = run(capsys, "edit", config, *options, "--apply")
    assert code == 0 and contents(config) == after
    assert "\x1b" not in out


def test_what_cannot_be_done_is_explained(config, capsys):
    for options, word in (
        (["--replace", "(", "--pattern"], "regular expression"),
        (["--dedupe", "--with", "x"], "belongs to --replace"),
        (["--add-front", ","], "No tag is given"),
    ):
        code, out = run(capsys, "edit", config, *options)
        assert code == 2 and word in out
    assert run(capsys, "undo")[1] == "There are no edits to undo.\n"
    assert run(capsys, "undo", "none")[0] != 0
