"""What inspect, verify and the other tools print for a file that is made to deceive."""

from __future__ import annotations

import json

import pytest

from lib_pivotal.cli.main import main
from lib_pivotal.core.bundle.inspection import describe, verify
from lib_pivotal.ui.bundle_view import show_bundle, show_written
from lib_pivotal.ui.panels import show_error, show_problems
from tests.unit.bundle_samples import sd1

HOSTILE = "\x1b[31m\x00\x07\r\x7f\x9b\u202e\u2028\u200b\ud800x"
ENTRY = {"dtype": "F32", "shape": [1, 4], "data_offsets": [0, 16]}


@pytest.fixture
def hostile(tmp_path):
    """Control characters, bidi and half a surrogate pair wherever a file can hold text."""
    whole = HOSTILE.replace("\ud800", "")
    keys = [f"lora_unet_{whole}q.lora_down.weight", f"bundle_emb.{whole}.emb_params", f"bundle_emb.zog.{whole}", f"odd{whole}",
            f"{whole}.alpha", "bundle_emb.nim.emb_params", f"lora_unet_{whole}q.alpha"]  # fmt: skip
    header = {key: {**ENTRY, "data_offsets": [16 * number, 16 * number + 16]} for number, key in enumerate(keys)}
    header[keys[0]]["dtype"] = f"I32{whole}"
    header["__metadata__"] = {
        f"k{HOSTILE}": f"v{HOSTILE}\n",
        "ss_base_model_version": f"sdxl{HOSTILE}",
        "n": HOSTILE * 50,
    }
    raw = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(16 * len(keys)))
    return path


def printed(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert code in (0, 2)
    for line in (out + err).split("\n"):
        assert line.isprintable(), ascii(line)
    (out + err).encode("utf-8")
    return out + err


@pytest.mark.parametrize("command", [("inspect",), ("bundle", "inspect"), ("inspect", "--json"), ("bundle", "verify")])
def test_nothing_hidden_reaches_the_terminal(hostile, capsys, command):
    assert "\\x1b" in printed(capsys, *command, hostile) or "\\u001b" in printed(capsys, *command, hostile)


def test_json_is_whole_and_valid(hostile, capsys):
    found = json.loads(printed(capsys, "inspect", hostile, "--json"))
    assert found["metadata"][f"k{HOSTILE}"] == f"v{HOSTILE}\n"
    assert "nim" in found["embeddings"]


def test_the_other_tools(hostile, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    assert "no embedding of this name" in printed(capsys, "bundle", "remove", hostile, f"x{HOSTILE}", "--out", out)
    assert "cannot be a name" in printed(capsys, "bundle", "rename", hostile, f"nim={HOSTILE}", "--out", out)
    assert "OLD=NEW" in printed(capsys, "bundle", "rename", hostile, f"nim{HOSTILE}", "--out", out)
    printed(capsys, "bundle", "split", hostile, "--out", tmp_path / "s")
    printed(capsys, "bundle", "merge", hostile, hostile, "--out", out)
    printed(capsys, "bundle", "pack", hostile, f"a={tmp_path}/none\x1b.safetensors", "--out", out)


@pytest.mark.parametrize(
    "name", ["caf\udce9.safetensors", "a\x1b[31m.safetensors", "a\u202e.safetensors", "a\nb.safetensors"]
)
def test_file_names_of_any_bytes(hostile, capsys, name):
    try:
        path = hostile.rename(hostile.with_name(name))
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such name")
    for command in (("inspect",), ("inspect", "--json"), ("bundle", "verify")):
        printed(capsys, *command, path)
        printed(capsys, *command, path.with_name(f"none{name}"))
    printed(capsys, "bundle", "remove", path, "nim", "--out", path, "--overwrite")
    printed(capsys, "bundle", "split", path)


def test_alphas_that_json_does_not_know(tmp_path, capsys):
    import torch
    from safetensors.torch import save_file

    tensors = {"lora_unet_a.lora_down.weight": torch.ones(1, 1), "lora_unet_a.lora_up.weight": torch.ones(1, 1)}
    for name, value in (("a", float("nan")), ("b", float("inf"))):
        path = tmp_path / f"{name}.safetensors"
        save_file({**tensors, "lora_unet_a.alpha": torch.tensor(value), "bundle_emb.zog_v1.clip_l": sd1()}, path)
        found = json.loads(printed(capsys, "inspect", path, "--json"), parse_constant=pytest.fail)
        assert found["lora"]["alphas"] == [None]
        assert f"alpha {value:g}" in printed(capsys, "inspect", path)


def test_the_page_shows_nothing_hidden_either(hostile):
    for shown in (
        show_bundle(describe(hostile)),
        show_problems(verify(hostile), purpose="use"),
        show_written([hostile.with_name(f"x{HOSTILE}")], verify(hostile)),
        show_error(ValueError(HOSTILE)),
    ):
        assert shown.replace("\n", " ").isprintable()
        shown.encode("utf-8")


@pytest.mark.parametrize(
    ("kinds", "lines"),
    [
        (["LoRA"], ["LoRA: rank 4, alpha 2; layers: 1; read by all webuis"]),
        (
            ["LoRA", "LoHa"],
            [
                "LoRA: rank 4, alpha 2; layers: 2",
                "LoRA, layers: 1; read by all webuis",
                "LoHa, layers: 1; read by all webuis",
            ],
        ),
    ],
)
def test_the_tab_shows_one_line_for_a_plain_lora(kinds, lines):
    lora = {
        "layers": len(kinds),
        "kinds": [{"kind": kind, "layers": 1, "read_by": "all webuis"} for kind in kinds],
        "ranks": {"4": len(kinds)},
        "alphas": [2.0],
    }
    shown = show_bundle(
        {"kind": "LoRA", "family": "", "lora": lora, "embeddings": {}, "core_tags": {}, "problems": [], "metadata": {}},
    )
    assert [line for line in shown.split("<div>") if "layers" in line] == [f"{line}</div>" for line in lines]
