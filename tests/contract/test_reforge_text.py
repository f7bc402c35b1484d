"""reForge's encoders of SD2 and SDXL, with small ones of transformers in place of the full ones."""

from __future__ import annotations

import contextlib
import types
from typing import Any

import pytest
import torch

from lib_pivotal.core.families import FAMILIES
from lib_pivotal.host.a1111.family import family_of
from lib_pivotal.host.a1111.text import ClipEncoder, encoders_of
from lib_pivotal.host.reforge.text import TransformersEncoder

transformers = pytest.importorskip("transformers")
IDS = torch.tensor([[49406, 5, 6, 49407, *[0] * 73], [49406, 7, 49407, *[0] * 74]])


class Tokenizer:
    """Numbers for letters."""

    bos_token_id, eos_token_id = 49406, 49407

    def __call__(self, texts: list[str], *, truncation: bool, add_special_tokens: bool) -> dict[str, list[list[int]]]:
        assert not truncation and not add_special_tokens
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


class TextModel(torch.nn.Module):
    """The level ``text_model``, which some versions of transformers leave out."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        model = transformers.CLIPTextModel(config).eval()
        self.text_model = getattr(model, "text_model", model)

    def forward(self, input_ids: torch.Tensor, *, output_hidden_states: bool = False) -> Any:
        return self.text_model(input_ids=input_ids, output_hidden_states=output_hidden_states)


def wrapper(*, has_projection: bool) -> Any:
    """What forge_clip.py has around an encoder."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = transformers.CLIPTextConfig(**shape, eos_token_id=49407, vocab_size=49408)
    wrapped = types.SimpleNamespace(transformer=TextModel(config), tokenizer=Tokenizer(), layer="hidden", layer_idx=-2)
    if has_projection:
        wrapped.text_projection = torch.nn.Parameter(torch.randn(16, 16))
    return types.SimpleNamespace(wrapped=wrapped, id_start=49406, id_end=49407, id_pad=0)


def encode(encoder: Any, vectors: torch.Tensor) -> Any:
    """The texts, the second with a vector at its first word."""
    return encoder.encode(IDS, torch.tensor([1]), torch.tensor([1]), vectors)


def test_sdxls_second_encoder_is_read_before_its_last_layer_and_its_pooled_text_is_projected() -> None:
    part, info = wrapper(has_projection=True), FAMILIES["sdxl"].text_encoders[1]
    encoder = TransformersEncoder(part, info, contextlib.nullcontext)
    assert (encoder.start_id, encoder.end_id, encoder.pad_id, encoder.width) == (49406, 49407, 0, 16)
    assert encoder.tokenize("ab") == [97, 98]
    vector = torch.randn(1, 16, requires_grad=True)
    found = encode(encoder, vector)
    table = part.wrapped.transformer.text_model.embeddings.token_embedding.weight
    plain = table.detach().clone()
    with torch.no_grad():
        # The same token is in no other place.
        table[7] = vector[0]
        expected = part.wrapped.transformer(IDS, output_hidden_states=True)
        assert torch.equal(found.hidden, expected.hidden_states[-2])
        assert torch.allclose(found.pooled, expected.pooler_output @ part.wrapped.text_projection, atol=1e-6)
        table.copy_(plain)
    (found.hidden.sum() + found.pooled.sum()).backward()
    assert vector.grad is not None and float(vector.grad.abs().sum()) > 0


def test_sd2s_encoder_is_normed_after_the_layer_before_the_last() -> None:
    part, info = wrapper(has_projection=False), FAMILIES["sd2"].text_encoders[0]
    encoder = TransformersEncoder(part, info, contextlib.nullcontext)
    model = part.wrapped.transformer
    with torch.no_grad():
        found = encode(encoder, model.text_model.embeddings.token_embedding.weight[7:8])
        before_last = model(IDS, output_hidden_states=True).hidden_states[-2]
        assert torch.equal(found.hidden, model.text_model.final_layer_norm(before_last))
    assert found.pooled is None


def test_the_layers_have_the_names_that_transformers_gives_them() -> None:
    paths = [
        name
        for name, module in TransformersEncoder(
            wrapper(has_projection=True), FAMILIES["sdxl"].text_encoders[1], contextlib.nullcontext
        ).module.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    assert len(paths) == 3 * 6
    assert all(".encoder.layers." in f".{path}" for path in paths)


def test_the_second_encoder_alone_is_of_the_other_class() -> None:
    parts = [wrapper(has_projection=False), wrapper(has_projection=True), types.SimpleNamespace()]
    model = types.SimpleNamespace(conditioner=types.SimpleNamespace(embedders=parts))
    found = encoders_of(model, FAMILIES["sdxl"], 2, contextlib.nullcontext, TransformersEncoder)
    assert [type(encoder) for encoder in found] == [ClipEncoder, TransformersEncoder]
    assert [encoder.name for encoder in found] == ["clip_l", "clip_g"]


def test_an_sd2_model_is_known_by_its_encoder_because_reforge_calls_it_sd1() -> None:
    encoder = type("CLIP_SD_21_H", (), {})()
    assert family_of(types.SimpleNamespace(is_sd1=True, is_sd2=False, cond_stage_model=encoder)) == "sd2"
    assert family_of(types.SimpleNamespace(is_sd1=True, is_sd2=False, cond_stage_model=object())) == "sd1"
