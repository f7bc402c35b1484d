"""reForge's encoders of transformers, where A1111 has those of open_clip."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.families import TextEncoderInfo
from lib_pivotal.core.ports import EncodedText
from lib_pivotal.host.a1111.text import Autocast, ClipEncoder

__all__ = ["TransformersEncoder"]


class TransformersEncoder(ClipEncoder):
    """The encoder of SD2 and the second one of SDXL.

    Host: modules_forge/forge_clip.py, ``CLIP_SD_21_H``, ``CLIP_SD_XL_G``, reForge: ``wrapped`` holds tokenizer,
        ``transformer`` and ``text_projection``; the wrapper has the ids of start, end and padding.
    """

    def __init__(self, wrapper: Any, info: TextEncoderInfo, autocast: Autocast) -> None:
        super().__init__(wrapper, info, autocast)
        self._has_pooled = info.has_pooled_text
        # The padding of the second encoder is not the end token.
        self.start_id, self.end_id, self.pad_id = int(wrapper.id_start), int(wrapper.id_end), int(wrapper.id_pad)

    def _read(self, ids: torch.Tensor) -> EncodedText:
        """Hidden states ``(N, 77, width)``, and with SDXL the pooled text ``(N, width)``.

        Host: modules_forge/forge_clip.py, ``encode_with_transformers``, reForge: SD2's layer is normed and SDXL's is
            not; the pooled text is multiplied by ``text_projection`` in fp32.
        """
        wrapped = self._wrapper.wrapped
        output = self.module(ids, output_hidden_states=True)
        hidden = output.last_hidden_state if wrapped.layer == "last" else output.hidden_states[wrapped.layer_idx]
        if not self._has_pooled:
            is_normed = wrapped.layer == "last"
            return EncodedText(hidden if is_normed else self.module.text_model.final_layer_norm(hidden))
        with torch.autocast(ids.device.type, enabled=False):
            pooled = output.pooler_output.float() @ wrapped.text_projection.float()
        return EncodedText(hidden, pooled)
