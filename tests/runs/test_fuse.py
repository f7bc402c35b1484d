"""Whole fusions of toy bundles: what is written, what is refused, and that the model stays as it was."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.inspection import verify
from lib_pivotal.core.bundle.tools import rename
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.errors import BundleError, ConfigError, HostError, Interrupted
from lib_pivotal.core.fuse.fusing import fuse
from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.core.train.start_from import check_start_from
from tests.runs.harness import folders, run
from tests.unit.toy import ToyEncoder, ToyModel, toy_config, write_images


def _bundle(root: Path, name: str, **changes) -> Path:
    write_images(root / name, name=name)
    config = toy_config(
        root / name,
        concepts=(Concept(name, init_text="teal thing", vectors=3, core_tags=("blue background",)),),
        unet_lr=1e-2,
        text_encoder_lr=1e-2,
        output_name=f"{name}-file",
        save_precision="fp32",
        seed=len(name),
    )
    outcome, _ = run(replace(config, **changes), folders(root, f"{name}-run"))
    return outcome.bundle_path


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bundles")
    return {
        "zog": _bundle(root, "zog_x", text_encoder_rank=2, conv_rank=3),
        "mib": _bundle(root, "mib_xy", text_encoder_rank=2),
        "loha": _bundle(root, "tuk_xyz", lora_kind="loha", rank=2),
        "lokr": _bundle(root, "gri_wxyz", lora_kind="lokr", lokr_factor=4),
        "dora": _bundle(root, "pim_uvwxyz", lora_kind="dora", rank=2, alpha=2.0),
        "bare": _bundle(root, "sif_vwxyz", rank=0),
        "data": root,
    }


def _deltas(path: Path, model: ToyModel | None = None) -> dict[str, torch.Tensor]:
    lora, targets = read_bundle(path).lora, (model or ToyModel()).lora_targets()
    parts = [AdapterSet.from_state(part, targets, lora, torch.device("cpu")) for part in ("unet", "clip_l")]
    return {
        item.target.key: item.adapter.delta(item.parameters, item.target.module)
        for part in parts
        for item in part.layers
    }


def test_a_fused_bundle_has_all_names_and_a_plain_lora(bundles, tmp_path):
    out = tmp_path / "both.safetensors"
    made = fuse([bundles["zog"], bundles["mib"]], ToyModel(), out)
    there, first, second = (read_bundle(path) for path in (made.path, bundles["zog"], bundles["mib"]))
    assert made.path == out
    for before in (first, second):
        for name, encoders in before.embeddings.items():
            assert torch.equal(there.embeddings[name]["clip_l"], encoders["clip_l"])
    ranks = {key: value.shape[0] for key, value in there.lora.items() if key.endswith("lora_down.weight")}
    assert ranks["lora_unet_attn1_to_q.lora_down.weight"] == 8
    # Only one of them has a LoRA there.
    assert ranks["lora_unet_conv_in.lora_down.weight"] == 3
    assert ranks["lora_te_linear1.lora_down.weight"] == 4
    assert all(there.lora[key.replace("lora_down.weight", "alpha")] == rank for key, rank in ranks.items())
    assert there.metadata["ss_network_module"] == "networks.lora"
    assert there.metadata["modelspec.trigger_phrase"] == "zog_x, mib_xy"
    own = json.loads(there.metadata["pivotal_bundle"])
    assert own["embeddings"]["zog_x"]["init_text"] == "teal thing"
    assert [item["bundle"] for item in own["fused"]["from"]] == ["zog_x-file", "mib_xy-file"]
    assert own["fused"]["inputs"] == "samples"
    assert str(bundles["data"]) not in json.dumps(there.metadata)
    assert not [problem for problem in verify(out) if problem.is_error]
    assert json.loads(out.with_suffix(".json").read_text())["activation text"] == "zog_x, mib_xy"


def test_fusing_keeps_more_of_each_than_the_plain_sum(bundles, tmp_path):
    made = fuse([bundles["zog"], bundles["mib"]], ToyModel(), tmp_path / "both.safetensors")
    for item in made.report:
        fused, plain = item.errors()["all"]
        assert fused < plain
        assert {"all", "attention", "text encoder"} <= item.errors().keys()


def test_a_bundle_alone_keeps_its_change(bundles, tmp_path):
    for kind in ("zog", "loha", "lokr", "dora"):
        out = tmp_path / f"{kind}.safetensors"
        made = fuse([bundles[kind]], ToyModel(), out)
        after = _deltas(out)
        for key, delta in _deltas(bundles[kind]).items():
            # The file is fp16.
            assert (after[key] - delta).norm() <= 2e-3 * delta.norm() + 1e-6, key
        assert made.report[0].errors()["all"][0] < 1e-3


@pytest.mark.parametrize("kind", ["loha", "lokr", "dora", "bare"])
def test_every_kind_can_be_fused_with_a_lora(bundles, tmp_path, kind):
    out = tmp_path / "both.safetensors"
    made = fuse([bundles["zog"], bundles[kind]], ToyModel(), out)
    assert all(key.split(".", 1)[1] in ("lora_down.weight", "lora_up.weight", "alpha") for key in read_bundle(out).lora)
    errors = [item.errors()["all"] for item in made.report]
    assert sum(fused for fused, _ in errors) < sum(plain for _, plain in errors)


def test_a_chosen_rank_makes_a_smaller_file_that_training_can_continue(bundles, tmp_path):
    out = tmp_path / "both.safetensors"
    fuse([bundles["zog"], bundles["mib"]], ToyModel(), out, rank=2)
    there = read_bundle(out)
    assert {value.shape[0] for key, value in there.lora.items() if key.endswith("lora_down.weight")} == {2}
    concepts = tuple(Concept(name, vectors=3) for name in there.embeddings)
    config = toy_config(bundles["data"] / "zog_x", rank=2, text_encoder_rank=2, conv_rank=2, concepts=concepts)
    assert not check_start_from(replace(config, start_from=str(out)), "", ToyEncoder().tokenize)


def test_training_images_can_be_the_inputs(bundles, tmp_path):
    out, stages = tmp_path / "both.safetensors", set()
    made = fuse(
        [bundles["zog"], bundles["mib"]],
        ToyModel(),
        out,
        data_folder=str(bundles["data"]),
        progress=lambda stage, done, total: stages.add(stage) or pytest.fail(stage) if done > total else None,
    )
    assert json.loads(read_bundle(out).metadata["pivotal_bundle"])["fused"]["inputs"] == "images"
    assert all(fused < plain for fused, plain in (item.errors()["all"] for item in made.report))


def test_a_folder_without_its_names_is_refused(bundles, tmp_path):
    with pytest.raises(ConfigError, match=r"mib_xy-file\.safetensors.*") as caught:
        fuse(
            [bundles["zog"], bundles["mib"]],
            ToyModel(),
            tmp_path / "both.safetensors",
            data_folder=str(bundles["data"] / "zog_x"),
        )
    assert caught.value.problems[0].field == "data_folder"


def test_groups_of_layers_give_the_same_as_all_at_once(bundles, tmp_path, monkeypatch):
    fuse([bundles["zog"], bundles["mib"]], ToyModel(), tmp_path / "one.safetensors")
    monkeypatch.setattr("lib_pivotal.core.fuse.fusing._GRAM_BYTES", 20_000)
    fuse([bundles["zog"], bundles["mib"]], ToyModel(), tmp_path / "many.safetensors")
    one, many = (_deltas(tmp_path / f"{name}.safetensors") for name in ("one", "many"))
    for key, delta in one.items():
        assert torch.allclose(many[key], delta, atol=1e-4), key


@pytest.mark.parametrize("failure", [None, "stop", "nan"])
def test_nothing_of_the_model_changes_and_no_hook_stays(bundles, tmp_path, failure):
    model, calls, out = ToyModel(), iter(range(1000)), tmp_path / "both.safetensors"
    before = model.tensors()
    model.broken_at = 3 if failure == "nan" else None
    expected = {"stop": pytest.raises(Interrupted), "nan": pytest.raises(HostError, match="NaN")}
    with expected.get(failure, contextlib.nullcontext()):
        fuse(
            [bundles["zog"], bundles["mib"]],
            model,
            out,
            stopped=lambda: failure == "stop" and next(calls) > 4,
        )
    assert out.exists() == (failure is None)
    after = model.tensors()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    modules = [*model.unet.modules(), *model.text_encoders[0].layer.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    assert not any(parameter.requires_grad for module in modules for parameter in module.parameters())


def test_clashing_names_are_refused_before_anything_runs(bundles, tmp_path):
    other = tmp_path / "other.safetensors"
    rename(bundles["mib"], {"mib_xy": "Zog_x"}, other)
    model = ToyModel()
    with pytest.raises(ConfigError, match="Rename it in one of them"):
        fuse([bundles["zog"], other], model, tmp_path / "both.safetensors")
    assert not model.predictions


def _changed(path: Path, out: Path, changes) -> Path:
    tensors = load_file(path)
    changes(tensors)
    save_file(tensors, out, read_bundle(path).metadata)
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({"lora_unet_attn1_to_q.lokr_w1_a": torch.ones(1, 32)}), "lokr_w1_a"),
        (lambda t: t.update({"lora_unet_elsewhere.lora_down.weight": torch.ones(1, 32)}), "elsewhere"),
        (lambda t: t["lora_unet_attn1_to_q.lora_up.weight"].fill_(float("nan")), "NaN"),
        (lambda t: t.update({"lora_unet_attn1_to_q.lora_down.weight": torch.ones(4, 31)}), "does not fit"),
    ],
)
def test_loras_that_cannot_be_fused_are_refused(bundles, tmp_path, change, message):
    broken = _changed(bundles["mib"], tmp_path / "broken.safetensors", change)
    with pytest.raises(BundleError, match=message):
        fuse([bundles["zog"], broken], ToyModel(), tmp_path / "both.safetensors")


def test_a_lora_without_names_and_bundles_without_a_lora_are_refused(bundles, tmp_path):
    plain = _changed(
        bundles["mib"],
        tmp_path / "plain.safetensors",
        lambda t: [t.pop(key) for key in list(t) if key.startswith("bundle_emb")],
    )
    with pytest.raises(ConfigError, match="no embeddings"):
        fuse([bundles["zog"], plain], ToyModel(), tmp_path / "both.safetensors")
    with pytest.raises(BundleError, match="nothing to fuse"):
        fuse([bundles["bare"]], ToyModel(), tmp_path / "both.safetensors")


def test_an_existing_file_is_not_replaced_unasked(bundles, tmp_path):
    out = tmp_path / "both.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(BundleError, match="already exists"):
        fuse([bundles["zog"]], ToyModel(), out)
    assert out.read_bytes() == b"mine"
    fuse([bundles["zog"]], ToyModel(), out, overwrite=True)
    assert read_bundle(out).embeddings
