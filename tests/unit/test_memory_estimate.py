"""The GPU memory of a run is estimated before it starts, and what does not fit is a problem with a remedy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.train import memory
from lib_pivotal.core.train.memory import encoding_batch
from lib_pivotal.core.train.memory_estimate import (
    DeviceMemory,
    activation_bytes,
    estimate_memory,
    memory_problems,
)

GIB = 2**30
# Weights of the full-size models in fp16; the VAE of SDXL encodes in fp32.
SD1 = DeviceMemory("sd1", 1_719_041_928, 246_144_152, 167_306_606, 80 * GIB)
SDXL = DeviceMemory("sdxl", 5_134_927_368, 1_635_513_088, 334_613_212, 80 * GIB)
# Nothing needs the text encoders at each step.
LORA_ONLY = {"concepts": (), "shuffle_tags": False, "tag_dropout": 0.0}


def estimate(device: DeviceMemory, side: int, **settings):
    settings = {"concepts": (Concept("zog"),), "rank": 16, "batch_size": 1, **settings}
    image = DatasetImage(Path("a.png"), "zog", 1.0, side, side, "a.png")
    return estimate_memory(TrainConfig(resolution=side, **settings), [image], device)


def test_the_usual_cards_are_enough_for_the_usual_models():
    """Aims: 4 GiB for SD1 at 512 px, 8 GiB for SDXL at 1024 px."""
    assert estimate(SD1, 512).peak < 4 * GIB
    assert estimate(SD1, 512, memory="save").peak < 2.6 * GIB
    offloaded = replace(SDXL, is_offloaded=True, available=int(7.5 * GIB))
    assert estimate(offloaded, 1024).missing == 0
    assert estimate(offloaded, 1024, **LORA_ONLY).peak < 7 * GIB
    eight_bits = replace(offloaded, unet=SDXL.unet // 2, text_encoders=SDXL.text_encoders // 2, must_recompute=True)
    assert estimate(eight_bits, 1024).peak < 5.2 * GIB


def test_auto_saves_when_the_fast_way_does_not_fit_and_the_parts_count_where_they_are_needed():
    roomy, tight = estimate(SDXL, 1024), estimate(replace(SDXL, available=10 * GIB), 1024)
    assert (roomy.saves, tight.saves) == (False, True)
    assert tight.training < roomy.training / 1.5
    assert estimate(replace(SDXL, available=10 * GIB), 1024, memory="fast").training == roomy.training
    # Saving, the VAE is away; offloaded, nothing but the VAE is there while the images are encoded.
    offloaded = replace(SDXL, is_offloaded=True)
    saved = estimate(SDXL, 1024, memory="save")
    assert estimate(offloaded, 1024, memory="save").training == saved.training
    alone = estimate(offloaded, 1024).encoding
    assert alone == estimate(SDXL, 1024).encoding - SDXL.unet - SDXL.text_encoders
    assert (
        estimate(replace(SDXL, available=9 * GIB), 1024).encoding
        == estimate(SDXL, 1024, memory="save").encoding
        == alone
    )
    assert estimate(SDXL, 1024, memory="save", **LORA_ONLY).training < saved.training - SDXL.text_encoders + 1
    # A 1024 px image needs more than 3 GiB in the VAE, whatever else is on the device.
    assert estimate(offloaded, 1024).encoding > 3 * GIB
    assert estimate(SDXL, 1024, batch_size=4).encoding == roomy.encoding, "images are encoded one at a time if need be"
    assert estimate(SDXL, 1024, batch_size=2).training > roomy.training


def test_recorded_steps_keep_the_activations_twice_where_these_fit():
    recording = replace(SD1, can_record=True)
    usual = estimate(SD1, 512)
    recorded = estimate(recording, 512)
    activations = activation_bytes("sd1", 64 * 64, recomputes=False)
    assert recorded.training == usual.training + activations
    assert estimate(recording, 512, cuda_graphs=False).training == usual.training
    for unused in ({"memory": "save"}, {"gradient_checkpointing": True}, {"mask_prior": 0.5}):
        assert estimate(recording, 512, **unused).training == estimate(SD1, 512, **unused).training
    tight = replace(recording, available=int(usual.training / 0.8) + 2**20)
    assert estimate(tight, 512).training == usual.training
    assert estimate(replace(recording, is_offloaded=True), 512) == estimate(replace(SD1, is_offloaded=True), 512)


def test_the_adapters_of_a_bundle_whose_names_are_kept_count():
    plain = estimate(SD1, 512, start_from="zog.safetensors")
    assert estimate(SD1, 512, start_from="zog.safetensors", keep_names=1.0).training > plain.training
    assert estimate(SD1, 512, keep_names=1.0).training == plain.training


def test_weights_in_eight_bits_are_always_recomputed():
    small = replace(SD1, must_recompute=True)
    assert estimate(small, 512).training == estimate(SD1, 512, gradient_checkpointing=True).training


def test_what_does_not_fit_is_named_with_how_much_is_missing():
    assert memory_problems(estimate(SD1, 512)) == []
    (problem,) = memory_problems(estimate(replace(SDXL, available=5 * GIB), 1024))
    assert problem.severity == "warning"
    assert "Training needs about 7.2 GiB" in problem.message and "2.2 GiB are missing" in problem.message
    (problem,) = memory_problems(estimate(replace(SDXL, available=4 * GIB), 1024))
    assert problem.is_error
    assert "The UNet alone needs 4.8 GiB" in problem.message and "0.8 GiB are missing" in problem.message
    assert problem.hint == "Close other programs that use the GPU, or use a smaller model."
    (problem,) = memory_problems(estimate(replace(SDXL, available=4 * GIB), 1024), "halve the weights")
    assert "the GPU, halve the weights, or use" in problem.hint
    (problem,) = memory_problems(estimate(replace(SD1, available=3 * GIB), 1024, memory="fast"))
    assert "Set GPU memory to auto or save" in problem.hint
    small = replace(SD1, available=2 * GIB)
    (problem,) = memory_problems(estimate(small, 1024, rank=1))
    assert "Encoding the images" in problem.message
    assert estimate_memory(TrainConfig(), [], SD1) is None


@pytest.mark.parametrize(("free", "expected"), [(None, 4), (80 * GIB, 4), (8 * GIB, 2), (GIB, 1), (0, 1)])
def test_as_many_images_are_encoded_together_as_fit(monkeypatch, free, expected):
    monkeypatch.setattr(memory, "free_bytes", lambda _device: free)
    assert encoding_batch(torch.device("cpu"), 4, 128 * 128, weights=GIB // 3) == expected
