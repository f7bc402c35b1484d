"""``bundle fuse`` on the command line, with a model in a file and bundles of made-up values."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.cli.main import main
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.writer import write_bundle
from lib_pivotal.core.fuse.fusing import fuse
from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.host.diffusers import load
from tests.headless.families import write_sdxl


def _write(folder, name, model, seed, *, kind="lora", endings=("_attn2_to_k", "_attn2_to_v"), version="sd_v1"):
    generator = torch.Generator().manual_seed(seed)
    chosen = [target for target in model.lora_targets() if target.key.endswith(endings)]
    lora = {}
    for part in dict.fromkeys(target.part for target in chosen):
        targets = [(target, 2) for target in chosen if target.part == part]
        adapters = AdapterSet.with_ranks(part, targets, 1.0, seed, torch.device("cpu"), kind=kind)
        with torch.no_grad():
            adapters.flat.values.copy_(0.1 * torch.randn(adapters.flat.values.shape, generator=generator))
        lora.update(adapters.state_dict())
    vectors = {item.name: torch.randn(2, item.width, generator=generator) for item in model.text_encoders}
    path = folder / f"{name}.safetensors"
    write_bundle(path, lora, {f"{name}_x": vectors}, {"ss_base_model_version": version}, words=None)
    return path


@pytest.fixture(autouse=True)
def _short_samples(monkeypatch):
    monkeypatch.setattr("lib_pivotal.core.fuse.model_run._STEPS", 2)


def test_two_bundles_become_one(small, tmp_path, capsys):
    model = load(small.file, device="cpu")
    paths = [str(_write(tmp_path, name, model, seed)) for name, seed in (("zog", 1), ("mib", 2))]
    arguments = ["bundle", "fuse", *paths, "--checkpoint", str(small.file), "--device", "cpu"]
    assert main([*arguments, "--rank", "3"]) == 0
    shown = capsys.readouterr().out
    assert "zog (zog_x): all " in shown and "mib (mib_x): all " in shown
    out = tmp_path / "zog-mib.safetensors"
    assert str(out) in shown
    bundle = read_bundle(out)
    assert set(bundle.embeddings) == {"zog_x", "mib_x"}
    assert {value.shape[0] for key, value in bundle.lora.items() if key.endswith("down.weight")} == {3}
    # A second one does not replace the first.
    before = out.read_bytes()
    assert main(arguments) == 0
    assert out.read_bytes() == before
    assert main([*arguments, "--out", str(out)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_an_sdxl_lora_and_loha_become_one(tmp_path):
    model = load(write_sdxl(tmp_path).file, device="cpu")
    form = {"endings": ("_attn2_to_k", "_attn2_to_v", "q_proj"), "version": "sdxl_base_v1-0"}
    paths = [_write(tmp_path, "zog", model, 1, **form), _write(tmp_path, "mib", model, 2, kind="loha", **form)]
    made = fuse(paths, model, tmp_path / "out.safetensors")
    bundle = read_bundle(made.path)
    assert {name: set(encoders) for name, encoders in bundle.embeddings.items()} == {
        "zog_x": {"clip_l", "clip_g"}, "mib_x": {"clip_l", "clip_g"},
    }  # fmt: skip
    assert {key.split("_")[1] for key in bundle.lora} == {"unet", "te1", "te2"}
    assert not any("hada" in key for key in bundle.lora)
    fused, summed = (sum(numbers) for numbers in zip(*(item.errors()["all"] for item in made.report), strict=True))
    assert fused < summed
    (alone,) = fuse(paths[:1], model, tmp_path / "alone.safetensors").report
    assert alone.errors()["all"][0] < 1e-2


def test_mistakes_become_messages(small, tmp_path, capsys):
    model = load(small.file, device="cpu")
    path = str(_write(tmp_path, "zog", model, 1))
    base = ["--checkpoint", str(small.file), "--device", "cpu"]
    for arguments, words in (
        ([path, str(tmp_path / "gone.safetensors"), *base], "There is no such file"),
        ([path, path, *base, "--out", str(tmp_path / "o.safetensors")], "both have the name"),
        ([path, *base, "--rank", "-1"], "--rank"),
        ([path, "--checkpoint", str(tmp_path / "none.safetensors")], "none.safetensors"),
        ([path, *base, "--data", str(tmp_path / "no-folder")], "no-folder"),
    ):
        assert main(["bundle", "fuse", *arguments]) == 2
        assert words in capsys.readouterr().err
