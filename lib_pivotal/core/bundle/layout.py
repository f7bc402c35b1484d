"""Key names of a bundle, both ways. Frozen: files in users' hands depend on it.

Source: PR 13568 of the AUTOMATIC1111 webui, which introduced ``bundle_emb`` keys.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lib_pivotal.core.errors import BundleError

__all__ = ["EMBEDDING_PREFIX", "pack", "unpack"]

EMBEDDING_PREFIX = "bundle_emb."

_SD1_KEY = "string_to_param.*"
_SUFFIXES = {
    ".string_to_param.*": "clip_l",
    ".emb_params": "clip_l",
    ".clip_l": "clip_l",
    ".clip_g": "clip_g",
}


def pack(
    lora: Mapping[str, torch.Tensor],
    embeddings: Mapping[str, Mapping[str, torch.Tensor]],
    lora_dtype: torch.dtype,
) -> dict[str, torch.Tensor]:
    """All tensors of a bundle under their file keys.

    Args:
        lora: kohya key → tensor.
        embeddings: name → encoder name → ``(n_vectors, width)``. A single encoder is written the SD1
            way, ``clip_l`` with ``clip_g`` the SDXL way.
        lora_dtype: of the LoRA in the file; embeddings are fp32.

    Returns:
        Contiguous tensors.

    Raises:
        BundleError: an embedding has no encoder.
    """
    tensors = {key: value.to(lora_dtype).contiguous() for key, value in lora.items()}
    for name, encoders in embeddings.items():
        if not encoders:
            raise BundleError(f"The embedding {name} holds no vectors.")
        for encoder, vectors in encoders.items():
            key = _SD1_KEY if len(encoders) == 1 else encoder
            tensors[f"{EMBEDDING_PREFIX}{name}.{key}"] = vectors.float().contiguous()
    return tensors


def unpack(
    tensors: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, torch.Tensor]], list[str]]:
    """LoRA, embeddings (name → encoder → ``(n, width)``) and the keys that fit neither.

    A key is read from the right, so that dots in a name do no harm.
    """
    lora: dict[str, torch.Tensor] = {}
    embeddings: dict[str, dict[str, torch.Tensor]] = {}
    unknown = []
    for key, value in tensors.items():
        if not key.startswith(EMBEDDING_PREFIX):
            lora[key] = value
            continue
        rest = key[len(EMBEDDING_PREFIX) :]
        for suffix, encoder in _SUFFIXES.items():
            if rest.endswith(suffix) and len(rest) > len(suffix) and value.ndim in (1, 2):
                vectors = value if value.ndim == 2 else value.unsqueeze(0)
                embeddings.setdefault(rest[: -len(suffix)], {})[encoder] = vectors
                break
        else:
            unknown.append(key)
    return lora, embeddings, unknown
