"""The text encoders of the webui's model, called below its prompt syntax.

Prompt syntax (brackets, BREAK, commas) and the user's settings are handled in the webui's wrappers, so the encoders
inside them are called directly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from lib_pivotal.core.families import Family, TextEncoderInfo
from lib_pivotal.core.ports import EncodedText
from lib_pivotal.core.textual_inversion.replaced_rows import replaced_rows
from lib_pivotal.host.a1111.text_waits import pooling_on_device

__all__ = ["ClipEncoder", "OpenClipEncoder", "WebuiEncoder", "encoders_of"]

Autocast = Callable[[], AbstractContextManager[Any]]


def encoders_of(
    model: Any, family: Family, clip_skip: int, autocast: Autocast, open_clip: type[WebuiEncoder] | None = None
) -> Sequence[WebuiEncoder]:
    """The encoders of a model, in the order in which its UNet gets their outputs.

    Args:
        model: the webui's model.
        family: the family of the model.
        clip_skip: 1 is the last layer; ignored for families that have a layer of their own.
        autocast: makes the context of the forward pass.
        open_clip: class for the encoders that were trained with open_clip; None for :class:`OpenClipEncoder`.

    Host: modules/sd_hijack.py, ``hijack``, A1111 1.6.1-1.10.1: the encoders' wrappers are ``cond_stage_model`` (SD1,
        SD2) or the first two of ``conditioner.embedders`` (SDXL).
    """
    wrappers = model.conditioner.embedders if family.has_conditioner else [model.cond_stage_model]
    skip = clip_skip if family.allows_clip_skip else 1
    encoders: list[WebuiEncoder] = []
    # SDXL's conditioner has more embedders, those of the sizes.
    for info, wrapper in zip(family.text_encoders, wrappers, strict=False):
        if info.is_open_clip:
            encoders.append((open_clip or OpenClipEncoder)(wrapper, info, autocast))
        else:
            encoders.append(ClipEncoder(wrapper, info, autocast, skip))
    return tuple(encoders)


class WebuiEncoder:
    """What the encoders have in common; a subclass completes it to a ``core.ports.TextEncoder``.

    Args:
        wrapper: the webui's own object around the encoder.
        info: which encoder of its family it is.
        autocast: makes the context of the forward pass.
    """

    start_id: int
    end_id: int
    pad_id: int
    module: Any
    """The encoder itself, for its layers."""

    def __init__(self, wrapper: Any, info: TextEncoderInfo, autocast: Autocast) -> None:
        self.name = info.name
        self._wrapper = wrapper
        self._autocast = autocast
        self.width = int(self.token_vectors().shape[1])

    def tokenize(self, text: str) -> list[int]:
        """Token ids of the literal text, of any length, without start and end tokens."""
        raise NotImplementedError

    def token_vectors(self) -> torch.Tensor:
        """The frozen token embedding table, shape ``(vocabulary, width)``; must not be changed.

        Host: modules/sd_hijack.py, ``EmbeddingsWithFixes``, A1111 1.6.1-1.10.1: holds the layer in ``wrapped``.
        """
        layer = self._token_layer()
        return getattr(layer, "wrapped", layer).weight

    def encode(
        self, ids: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, vectors: torch.Tensor
    ) -> EncodedText:
        """Run the encoder as a generation does, with some token vectors replaced.

        Args:
            ids: int64, shape ``(N, 77)``.
            rows: int64, shape ``(K,)``.
            columns: int64, shape ``(K,)``, 1 … 75.
            vectors: fp32, shape ``(K, width)``; gradients flow back into it.

        Host: modules/sd_hijack.py, ``EmbeddingsWithFixes.forward``, A1111 1.6.1-1.10.1: inserts into this call whatever
        is left in the hijack's attribute ``fixes``, so that is cleared first.
        """
        hijack = getattr(self._wrapper, "hijack", None)
        if hijack is not None:
            hijack.fixes = None
        with replaced_rows(self._token_layer(), rows, columns, vectors), self._autocast():
            return self._read(ids.to(self.token_vectors().device))

    def layers(self) -> list[Any]:
        """Its transformer layers."""
        raise NotImplementedError

    def _token_layer(self) -> Any:
        raise NotImplementedError

    def _read(self, ids: torch.Tensor) -> EncodedText:
        raise NotImplementedError


class ClipEncoder(WebuiEncoder):
    """CLIP-L of transformers, as SD1 and SDXL have it.

    Host: modules/sd_hijack_clip.py, ``FrozenCLIPEmbedderWithCustomWords``, A1111 1.6.1-1.10.1: ``wrapped`` holds
    the HF tokenizer and model; start and end are the tokenizer's, the padding is the end token.
    """

    def __init__(self, wrapper: Any, info: TextEncoderInfo, autocast: Autocast, clip_skip: int = 1) -> None:
        self.module = wrapper.wrapped.transformer
        self._tokenizer = wrapper.wrapped.tokenizer
        self._clip_skip = clip_skip
        self.start_id = int(self._tokenizer.bos_token_id)
        self.end_id = int(self._tokenizer.eos_token_id)
        self.pad_id = self.end_id
        super().__init__(wrapper, info, autocast)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of the literal text, of any length, without start and end tokens."""
        return list(self._tokenizer([text], truncation=False, add_special_tokens=False)["input_ids"][0])

    def layers(self) -> list[Any]:
        """Its transformer layers."""
        return list(self.module.text_model.encoder.layers)

    def _token_layer(self) -> Any:
        return self.module.text_model.embeddings.token_embedding

    def _read(self, ids: torch.Tensor) -> EncodedText:
        """The hidden states that a generation uses, shape ``(N, 77, width)``.

        Host: modules/sd_hijack_clip.py, ``encode_with_transformers``, A1111 1.6.1-1.10.1: with clip skip, the output of
        SD1's earlier layer goes through the final layer norm too; SDXL uses layer ``layer_idx`` without it.
        """
        wrapped = self._wrapper.wrapped
        if getattr(wrapped, "layer", "last") == "hidden":
            return EncodedText(self.module(input_ids=ids, output_hidden_states=True).hidden_states[wrapped.layer_idx])
        if self._clip_skip <= 1:
            return EncodedText(self.module(input_ids=ids).last_hidden_state)
        hidden = self.module(input_ids=ids, output_hidden_states=True).hidden_states[-self._clip_skip]
        return EncodedText(self.module.text_model.final_layer_norm(hidden))


class OpenClipEncoder(WebuiEncoder):
    """The encoder of SD2 and the second one of SDXL, from open_clip.

    Host: modules/sd_hijack_open_clip.py, ``FrozenOpenCLIPEmbedderWithCustomWords``, A1111 1.6.1-1.10.1:
    ``wrapped.model`` is the encoder; the padding is 0.
    """

    pad_id = 0

    def __init__(self, wrapper: Any, info: TextEncoderInfo, autocast: Autocast) -> None:
        self.module = wrapper.wrapped.model
        self.start_id, self.end_id = int(wrapper.id_start), int(wrapper.id_end)
        super().__init__(wrapper, info, autocast)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of the literal text, of any length, without start and end tokens."""
        from modules import sd_hijack_open_clip

        return [int(number) for number in sd_hijack_open_clip.tokenizer.encode(text)]

    def layers(self) -> list[Any]:
        """Its transformer layers, which open_clip calls blocks."""
        return list(self.module.transformer.resblocks)

    def _token_layer(self) -> Any:
        return self.module.token_embedding

    def _read(self, ids: torch.Tensor) -> EncodedText:
        """Hidden states ``(N, 77, width)``, and with SDXL the pooled text ``(N, projection width)``.

        Host: ldm/modules/encoders/modules.py and sgm/modules/encoders/modules.py, ``encode_with_transformer``, A1111
        1.6.1-1.10.1: SD2's returns the layer that its configuration names, normed; SDXL's returns a dict of all layers,
        with the output at the end token (the highest id) as ``pooled``.
        """
        with pooling_on_device(self._wrapper.wrapped):
            output = self._wrapper.wrapped.encode_with_transformer(ids)
        if isinstance(output, dict):
            return EncodedText(output[self._wrapper.wrapped.layer], output["pooled"])
        return EncodedText(output)
