"""What differs between model families has the known values."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.families import FAMILIES, family_of_metadata
from lib_pivotal.core.lora.naming import diffusers_to_ldm, kohya_key
from lib_pivotal.core.train.memory import plan_memory


@pytest.mark.parametrize(
    ("name", "prefixes", "upsampler"),
    [
        ("sd1", {"clip_l": "lora_te_"}, "output_blocks.2.1.conv"),
        ("sd2", {"clip_l": "lora_te_"}, "output_blocks.2.1.conv"),
        ("sdxl", {"clip_l": "lora_te1_", "clip_g": "lora_te2_"}, "output_blocks.2.2.conv"),
    ],
)
def test_keys_of_each_family(name, prefixes, upsampler):
    assert {encoder.name: encoder.lora_prefix for encoder in FAMILIES[name].text_encoders} == prefixes
    for part, prefix in prefixes.items():
        assert kohya_key(part, "text_model.final_layer_norm", name) == f"{prefix}text_model_final_layer_norm"
    assert diffusers_to_ldm("up_blocks.0.upsamplers.0.conv", name) == upsampler
    assert diffusers_to_ldm("up_blocks.1.upsamplers.0.conv", name) == "output_blocks.5.2.conv"
    with pytest.raises(ValueError, match="clip_h"):
        kohya_key("clip_h", "text_model.x", name)


@pytest.mark.parametrize(("name", "fast", "saving"), [("sd1", 223, 21), ("sd2", 210, 21), ("sdxl", 405, 25)])
def test_memory_of_each_family(name, fast, saving):
    def needed(mode):
        sizes = {"trained_count": 0, "cells": 4096, "batch_size": 2}
        return plan_memory(name, torch.device("cpu"), mode=mode, checkpoints=False, **sizes).needed

    # Besides the difference in what is kept, gradients and workspaces need 52 KiB less with checkpointing.
    assert needed("fast") - needed("save") == 8192 * 1024 * (fast - saving + 52)
    assert 8192 * 1024 * saving < needed("save") < 8192 * 1024 * (saving + 100)


@pytest.mark.parametrize(
    ("name", "cells", "is_v_prediction", "px"),
    [
        ("sd1", 64, False, 512),
        ("sd1", 96, False, 768),
        ("sd1", 64, True, 512),
        ("sd1", None, False, 512),
        ("sd2", 64, False, 512),
        ("sd2", 64, True, 768),
        ("sd2", 96, True, 768),
        ("sd2", None, False, 768),
        ("sdxl", 128, False, 1024),
        ("sdxl", "128", True, 1024),
    ],
)
def test_resolution_from_a_configuration(name, cells, is_v_prediction, px):
    assert FAMILIES[name].resolution_for(cells, is_v_prediction=is_v_prediction) == px


@pytest.mark.parametrize(
    ("version", "is_v2", "title"),
    [
        ("sd_v1", "False", "SD1"),
        ("sd_v1", "", "SD1"),
        ("sd_v2", "True", "SD2"),
        ("sd_v2_768_v", "True", "SD2"),
        ("", "True", "SD2"),
        ("sdxl_base_v1-0", "False", "SDXL"),
        ("sdxl_base_v1-0", "True", "SDXL"),
        ("sd3", "False", ""),
        ("", "", ""),
    ],
)
def test_family_from_metadata(version, is_v2, title):
    metadata = {key: value for key, value in (("ss_base_model_version", version), ("ss_v2", is_v2)) if value}
    family = family_of_metadata(metadata)
    assert (family.title if family else "") == title


def test_what_is_written_names_the_family_that_is_read_back():
    for family in FAMILIES.values():
        written = {"ss_base_model_version": family.base_version, "ss_v2": str(family.is_v2)}
        assert family_of_metadata(written) is family
