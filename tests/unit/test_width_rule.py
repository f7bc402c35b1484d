"""Learning rates of models that are narrower than those of their family."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.optim.width_rule import embedding_lr_factor, lora_lr_factor
from lib_pivotal.core.ports import LoraTarget


def target(part: str, outputs: int, inputs: int, role: str = "attention") -> LoraTarget:
    return LoraTarget(f"{part}-{outputs}", part, role, torch.nn.Linear(inputs, outputs, device="meta"))


@pytest.mark.parametrize(("family", "unet"), [("sd1", 320), ("sd2", 320), ("sdxl", 640)])
def test_models_of_the_usual_width_keep_the_rates_of_the_settings_exactly(family, unet):
    # Keys and values of cross-attention have as many inputs as a token has features, ResNet blocks have any widths.
    layers = [target("unet", 2 * unet, 2 * unet), target("unet", unet, 64), target("unet", 8, 8, "other")]
    assert lora_lr_factor("unet", layers, FAMILIES[family]) == 1.0
    for encoder in FAMILIES[family].text_encoders:
        own = [target(encoder.name, encoder.width, encoder.width)]
        assert lora_lr_factor(encoder.name, [*layers, *own], FAMILIES[family]) == 1.0
        assert embedding_lr_factor(encoder.name, encoder.width, FAMILIES[family]) == 1.0


def test_narrow_models_are_trained_at_higher_rates():
    layers = [target("unet", 64, 64), target("clip_l", 64, 64)]
    assert lora_lr_factor("unet", layers, FAMILIES["sd1"]) == pytest.approx(5.0)
    assert lora_lr_factor("clip_l", layers, FAMILIES["sd1"]) == pytest.approx(12.0)
    assert embedding_lr_factor("clip_l", 192, FAMILIES["sd1"]) == pytest.approx(2.0)


def test_without_attention_there_is_nothing_to_compare():
    assert lora_lr_factor("unet", [target("unet", 8, 8, "conv")], FAMILIES["sd1"]) == 1.0
