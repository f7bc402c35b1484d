"""Captions are encoded once per batch, and kept while nothing that they depend on is trained, within a limit."""

from __future__ import annotations

import types

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.lora.targets import lora_target
from lib_pivotal.core.negative_rows import with_same_rows
from lib_pivotal.core.ports import EncodedText
from lib_pivotal.core.textual_inversion import text_conditioner
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from tests.unit.toy import ToyEncoder, ToyModel


def test_a_full_cache_makes_room_even_in_a_batch_that_it_partly_holds(monkeypatch):
    texts = TextConditioner(ToyModel())
    (expected,) = texts.encode(["kept", "new"], [None, None])
    monkeypatch.setattr(text_conditioner, "_MAX_CACHED_BYTES", 0)
    texts = TextConditioner(ToyModel())
    texts.encode(["kept"], [None])
    (group,) = texts.encode(["kept", "new"], [None, None])
    assert torch.allclose(group.conditioning, expected.conditioning, atol=1e-6)


def trained_texts(*, has_lora: bool = False) -> tuple[TextConditioner, torch.Tensor, list[int]]:
    """A conditioner with one trained name, its vectors, and the numbers of captions in each run of the encoder."""
    model = ToyModel()
    weight = torch.randn(2, ToyEncoder.width, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    encoder, counts = model.text_encoders[0], []
    real = encoder.encode
    encoder.encode = lambda ids, *others: counts.append(len(ids)) or real(ids, *others)
    lora = types.SimpleNamespace(enabled=has_lora)
    return TextConditioner(model, EmbeddingWeights({"zog_x": (0, 2)}, {"clip_l": weight}), [lora]), weight, counts


def encoded(texts: TextConditioner, captions: list[str]) -> torch.Tensor:
    (group,) = texts.encode(captions, [None] * len(captions))
    return group.conditioning


@pytest.mark.parametrize("has_lora", [False, True])
def test_a_caption_that_occurs_twice_is_encoded_once(has_lora):
    captions = ["zog_x, red", "zog_x, blue", "zog_x, red", "green", "green"]
    texts, weight, counts = trained_texts(has_lora=has_lora)
    factors = torch.arange(1.0, 6.0).view(-1, 1, 1)
    together = encoded(texts, captions)
    (together * factors).pow(2).sum().backward()
    assert sum(counts) == 3
    found, weight.grad = weight.grad, None
    single = torch.cat([encoded(texts, [caption]) for caption in captions])
    (single * factors).pow(2).sum().backward()
    assert torch.allclose(together, single, atol=1e-5)
    assert torch.allclose(found, weight.grad, rtol=1e-4, atol=1e-4)


def test_captions_without_names_are_kept_while_embeddings_are_trained():
    texts, weight, counts = trained_texts()
    before = encoded(texts, ["zog_x, red", "green"])
    with torch.no_grad():
        weight.mul_(2)
    after = encoded(texts, ["zog_x, red", "green"])
    assert counts == [1, 1, 1]
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0], after[0])


def test_with_a_lora_no_caption_is_kept():
    texts, _, counts = trained_texts(has_lora=True)
    for _ in range(2):
        encoded(texts, ["zog_x, red", "green"])
    assert counts == [2, 2]


class RecomputingEncoder(ToyEncoder):
    """With one more layer, which the backward pass recomputes as Forge's does with layers that cast their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(self.width, self.width).requires_grad_(False)
        self.recomputes = True

    def encode(self, *arguments) -> EncodedText:
        hidden = super().encode(*arguments).hidden
        if self.recomputes:
            return EncodedText(checkpoint(with_same_rows(self._block), hidden, use_reentrant=False))
        return EncodedText(self._block(hidden))

    def _block(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.linear(hidden).tanh()


def test_captions_without_the_lora_are_recomputed_without_it():
    model, encoder = ToyModel(), RecomputingEncoder()
    model.text_encoders = (encoder,)
    lora = AdapterSet.with_ranks("clip_l", [(lora_target("clip_l", "linear", encoder.linear, "sd1"), 2)], 0.5, 1, "cpu")
    lora.flat.values.data.normal_(generator=torch.Generator().manual_seed(3))
    weight = torch.randn(2, encoder.width, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    texts = TextConditioner(model, EmbeddingWeights({"zog_x": (0, 2)}, {"clip_l": weight}), [lora])

    def gradients(*, recomputes: bool) -> list[torch.Tensor]:
        encoder.recomputes, weight.grad = recomputes, None
        lora.flat.clear_gradient()
        with attach([lora]):
            (group,) = texts.encode(["zog_x, red", "zog_x, blue"], [None, None], plain_count=1)
            group.conditioning.pow(2).sum().backward()
        return [group.conditioning.detach(), lora.flat.gradient.clone(), weight.grad]

    kept, again = gradients(recomputes=False), gradients(recomputes=True)
    assert all(torch.allclose(one, other) for one, other in zip(kept, again, strict=True))
    assert all(one.any() for one in kept)
    with torch.no_grad():
        (plain,) = TextConditioner(model, EmbeddingWeights({"zog_x": (0, 2)}, {"clip_l": weight})).encode(
            ["zog_x, blue"], [None]
        )
    assert torch.allclose(kept[0][1:], plain.conditioning, atol=1e-6)


class OnGpu(torch.Tensor):
    """A tensor that claims to be on a GPU."""

    @property
    def device(self):
        return torch.device("cuda")


def test_encodings_in_main_memory_and_on_the_gpu_are_joined(monkeypatch):
    """A batch with captions that are kept in main memory and others with trained names."""
    cat = torch.cat

    def same_device_only(tensors):
        assert len({tensor.device.type for tensor in tensors}) == 1
        return cat(tensors)

    monkeypatch.setattr(text_conditioner.torch, "cat", same_device_only)
    monkeypatch.setattr(text_conditioner, "to_device", lambda tensor, _device: tensor.as_subclass(OnGpu))
    kept = EncodedText(torch.zeros(1, 7, 4), torch.zeros(1, 4))
    trained = EncodedText(torch.ones(1, 7, 4).as_subclass(OnGpu), torch.ones(1, 4).as_subclass(OnGpu))
    for texts in ([kept, trained], [kept, kept], [trained, trained]):
        joined = text_conditioner._joined(texts, torch.device("cuda"))
        assert joined.hidden.shape == (2, 7, 4) and joined.pooled.shape == (2, 4)
        assert joined.hidden.device.type == joined.pooled.device.type == "cuda"
