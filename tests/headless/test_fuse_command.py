"""``bundle fuse`` on the command line, with a model in a file and bundles of made-up values."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.cli.main import main
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.writer import write_bundle
from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.host.diffusers import load


def _write(folder, name, model, seed):
    generator = torch.Generator().manual_seed(seed)
    targets = [(target, 2) for target in model.lora_targets() if target.key.endswith(("_attn2_to_k", "_attn2_to_v"))]
    adapters = AdapterSet.with_ranks("unet", targets, 1.0, seed, torch.device("cpu"))
    with torch.no_grad():
        adapters.flat.values.copy_(0.1 * torch.randn(adapters.flat.values.shape, generator=generator))
    vectors = torch.randn(2, model.text_encoders[0].width, generator=generator)
    path = folder / f"{name}.safetensors"
    write_bundle(
        path, adapters.state_dict(), {f"{name}_x": {"clip_l": vectors}}, {"ss_base_model_version": "sd_v1"}, words=None
    )
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
