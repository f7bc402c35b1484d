"""The bundle file: a public format.

A failure here means that files in users' hands change: keep the reader, add a version.
"""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from lib_pivotal.core.atomic_file import free_name
from lib_pivotal.core.bundle.embeddings import parse_embeddings
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.layout import pack
from lib_pivotal.core.bundle.metadata import RunFacts, build_metadata
from lib_pivotal.core.bundle.values import embedding_hash
from lib_pivotal.core.bundle.writer import write_bundle
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.errors import BundleError

LORA = {
    "lora_unet_a.lora_down.weight": torch.randn(4, 8),
    "lora_unet_a.lora_up.weight": torch.randn(8, 4),
    "lora_unet_a.alpha": torch.tensor(2.0),
}
SD1 = {"zog": {"clip_l": torch.randn(3, 768)}}


def metadata(family="sd1", **changes):
    config = TrainConfig(
        concepts=(Concept("zog", "red hat"),), output_name="my", data_folder="/secret/place", **changes
    )
    facts = RunFacts(
        family=family,
        step=5,
        output_name="my-000005",
        model_name="m",
        model_hash="abc",
        is_v_prediction=False,
        image_count=9,
        date="2026-01-01T00:00:00+00:00",
    )
    return build_metadata(config, SD1, facts, covers=[Image.new("RGB", (512, 512))])


def test_keys_of_an_sd1_bundle():
    tensors = pack(LORA, SD1, torch.float16)
    assert set(tensors) == {*LORA, "bundle_emb.zog.string_to_param.*"}
    assert tensors["bundle_emb.zog.string_to_param.*"].dtype == torch.float32
    assert tensors["lora_unet_a.lora_up.weight"].dtype == torch.float16


def test_keys_of_two_encoders():
    tensors = pack({}, {"zog": {"clip_l": torch.randn(2, 768), "clip_g": torch.randn(2, 1280)}}, torch.float16)
    assert set(tensors) == {"bundle_emb.zog.clip_l", "bundle_emb.zog.clip_g"}


def test_reader_takes_dotted_names_and_other_layouts():
    tensors = {
        "lora_unet_a.alpha": torch.tensor(1.0),
        "bundle_emb.v1.0.emb_params": torch.randn(768),
        "bundle_emb.b.clip_l": torch.randn(2, 768),
        "bundle_emb.odd": torch.randn(2),
        "bundle_emb.t5x.t5": torch.randn(2, 9),
    }
    found = parse_embeddings(tensors, {})
    assert tensors.keys() - found.keys == {"lora_unet_a.alpha"} and set(found.embeddings) == {"v1.0", "b"}
    assert found.embeddings["v1.0"].encoders["clip_l"].shape == (1, 768)
    assert sorted(found.unused) == ["bundle_emb.odd", "bundle_emb.t5x.t5"]


def test_file_round_trip_with_sidecar_and_preview(tmp_path):
    path = tmp_path / "lora" / "my.safetensors"
    write_bundle(path, LORA, SD1, metadata(), words="zog", lora_dtype=torch.float32, preview=Image.new("RGB", (9, 9)))
    bundle = read_bundle(path)
    assert all(torch.equal(bundle.lora[key], LORA[key]) for key in LORA)
    assert torch.equal(bundle.embeddings["zog"]["clip_l"], SD1["zog"]["clip_l"])
    assert json.loads(path.with_suffix(".json").read_text())["activation text"] == "zog"
    assert path.with_suffix(".png").exists() and sorted(p.name for p in path.parent.iterdir()) == [
        "my.json",
        "my.png",
        "my.safetensors",
    ]


def test_existing_file_is_kept(tmp_path):
    path = tmp_path / "my.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(BundleError, match="exists"):
        write_bundle(path, LORA, SD1, {}, words="zog")
    assert path.read_bytes() == b"precious"
    assert free_name(path).name == "my-2.safetensors"


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib_pivotal.core.bundle.writer.write_tensors", fail)
    with pytest.raises(BundleError, match="No space"):
        write_bundle(tmp_path / "my.safetensors", LORA, SD1, {}, words="zog")
    assert not list(tmp_path.iterdir())


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(BundleError, match="no file"):
        read_bundle(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0garbage!")
    with pytest.raises(BundleError, match=r"bad\.safetensors"):
        read_bundle(tmp_path / "bad.safetensors")


def test_metadata_says_what_webuis_read_and_keeps_private_paths_out(tmp_path):
    values = metadata()
    assert values["ss_base_model_version"] == "sd_v1" and values["ss_output_name"] == "my-000005"
    assert values["modelspec.trigger_phrase"] == "zog" and values["ss_new_sd_model_hash"] == "abc"
    own = json.loads(values["pivotal_bundle"])
    assert own["embeddings"]["zog"] == {"init_text": "red hat", "vectors": 3, "sha256": embedding_hash(SD1["zog"])}
    assert "secret" not in json.dumps(values)
    assert len(json.loads(values["ssmd_cover_images"])[0]) < 20_000
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", values)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == values


def test_embedding_hash_sees_values_only():
    other = {"clip_l": SD1["zog"]["clip_l"].clone()}
    assert embedding_hash(SD1["zog"]) == embedding_hash(other)
    other["clip_l"][0, 0] += 1e-3
    assert embedding_hash(SD1["zog"]) != embedding_hash(other)
