"""The bundles of the newest run, for the axis of steps in the X/Y/Z plot."""

from __future__ import annotations

import json

from lib_pivotal.core.train.run_bundles import RunBundles, newest_bundles


def add_run(root, name: str, *files: str) -> None:
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    record = {"version": 1, "bundle": "zog", "files": {file: ["0" * 64] for file in files}}
    (folder / "files.json").write_text(json.dumps(record))


def test_the_newest_run_with_bundles_counts_and_only_files_that_are_still_there(tmp_path):
    bundles = tmp_path / "Lora"
    bundles.mkdir()
    assert newest_bundles(tmp_path, bundles) is None
    add_run(tmp_path, "zog-20261127-080000", "zog-000001.safetensors")
    add_run(tmp_path, "mib-20261127-100000", "zog-000004.safetensors", "zog-000012-2.safetensors",
            "zog-000020.safetensors", "zog.safetensors", "zog.json", "../zog-000030.safetensors")  # fmt: skip
    add_run(tmp_path, "zog-20261127-110000")
    for name in ("zog-000001", "zog-000012-2", "zog-000004", "zog"):
        (bundles / f"{name}.safetensors").write_bytes(b"bundle")
    assert newest_bundles(tmp_path, bundles) == RunBundles("zog", {4: "zog-000004", 12: "zog-000012-2"})


def test_a_damaged_record_is_passed_over(tmp_path):
    add_run(tmp_path, "zog-20261127-080000", "zog-000001.safetensors")
    (tmp_path / "runs" / "zog-20261127-080000" / "files.json").write_text("{")
    assert newest_bundles(tmp_path, tmp_path) is None
