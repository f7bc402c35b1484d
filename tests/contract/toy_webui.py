"""A fake webui with a toy model loaded, which training can borrow."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch

from tests.contract.fake_webui import FakeWebui

INFO = types.SimpleNamespace(
    filename="m.safetensors", title="m.safetensors [12]", name="m.safetensors", name_for_extra="m", sha256="12ab"
)


class _Tokenizer:
    bos_token_id, eos_token_id = 1, 2

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[3 + ord(letter) % 7 for letter in text] for text in texts]}


def _toy_model() -> Any:
    """As much of an SD1 model as borrowing touches."""
    model = torch.nn.Module()
    model.is_sd1, model.cond_stage_key, model.sd_checkpoint_info, model.lowvram = True, "txt", INFO, False
    model.parameterization, model.scale_factor = "eps", 0.18215
    model.alphas_cumprod = torch.linspace(0.999, 0.004, 1000)
    model.model = torch.nn.Module()
    model.model.conditioning_key = "crossattn"
    unet = torch.nn.Module()
    unet.input_blocks = torch.nn.ModuleList([torch.nn.ModuleList([torch.nn.Conv2d(4, 4, 3, padding=1)])])
    unet.use_checkpoint = True
    model.model.diffusion_model = unet
    model.first_stage_model = torch.nn.Linear(2, 2)
    text = torch.nn.Module()
    text.text_model = torch.nn.Module()
    text.text_model.embeddings = torch.nn.Module()
    text.text_model.embeddings.token_embedding = torch.nn.Embedding(10, 4)
    model.cond_stage_model = torch.nn.Module()
    model.cond_stage_model.wrapped = torch.nn.Module()
    model.cond_stage_model.wrapped.transformer = text
    model.cond_stage_model.wrapped.tokenizer = _Tokenizer()
    model.cond_stage_model.tokenize = lambda texts: _Tokenizer()(texts)["input_ids"]
    return model


def toy_webui(monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...] = (1, 10, 1)) -> tuple[FakeWebui, Any]:
    """A fake webui that has loaded a toy model."""
    webui, model = FakeWebui(monkeypatch, version), _toy_model()
    sd_models = webui.modules["sd_models"]
    sd_models.checkpoints_list[INFO.title] = sd_models.checkpoint_aliases[INFO.title] = INFO
    sd_models.model_data.sd_model = webui.modules["shared"].sd_model = model
    return webui, model
