"""Key names of a bundle, both ways. Frozen: files in users' hands depend on it.

Source: PR 13568 of the AUTOMATIC1111 webui, which introduced ``bundle_emb`` keys; docs/bundle-format.md names the
    programs that write the other forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from lib_pivotal.core.errors import BundleError

__all__ = [
    "EMBEDDING_PREFIX",
    "KeyGroups",
    "Parts",
    "choose_parts",
    "group_file_keys",
    "group_keys",
    "is_positional_lora",
    "pack",
    "pack_embeddings",
]

EMBEDDING_PREFIX = "bundle_emb."

_SD1_KEY = "string_to_param.*"
_TOKEN_MARK = "<embed>"
_SINGLE = "emb_params"
_ENCODERS = ("clip_l", "clip_g")
_NO_MODEL = {
    "clip_l_out": "an output embedding, which prompts do not use",
    "clip_g_out": "an output embedding, which prompts do not use",
    **{
        f"{encoder}{end}": f"for the {encoder} text encoder of {families}"
        for encoder, families in {
            "t5": "Stable Diffusion 3, Flux and PixArt",
            "llama": "HiDream and Hunyuan",
            "gemma": "Sana",
        }.items()
        for end in ("", "_out")
    },
}
"""Ends of keys that mean something, but nothing to Stable Diffusion 1, 2 and XL."""
_ENDS = {_SINGLE, *_ENCODERS, *_NO_MODEL}
_LEGACY = re.compile(r"(.*)\.(string_to_param[.:][^.]+)", re.DOTALL)
_LEGACY_DOTTED = re.compile(r"(.*)\.(string_to_param[.:].+)", re.DOTALL)
_LAYERWISE = "new_concept_embedding"
_POSITIONAL = re.compile(r"\w+:\d+:(up|down)")


@dataclass(frozen=True)
class KeyGroups:
    """Keys about embeddings, sorted, so that their order in a file makes no difference.

    Attributes:
        parts: name → end of the key, such as ``clip_l`` → key.
        odd: key → why it cannot be told what it is.
    """

    parts: dict[str, dict[str, str]]
    odd: dict[str, str]

    @property
    def keys(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self.odd).union(*(ends.values() for ends in self.parts.values()))


@dataclass(frozen=True)
class Parts:
    """What to do with the ends that one name has.

    Attributes:
        used: end → encoder; an empty text where the end does not say which.
        left_out: end → why.
    """

    used: dict[str, str]
    left_out: dict[str, str]


def group_keys(keys: Iterable[str], metadata: Mapping[str, str]) -> KeyGroups:
    """Pick out the keys about embeddings and read them, from the right, so that dots in a name do no harm.

    Args:
        keys: all keys of a file.
        metadata: of the file.

    Source: github.com/cloneofsimo/lora names a tensor by its token and marks it with the metadata value ``<embed>``;
        Mix-of-Show's ``new_concept_embedding``.
    """
    groups = KeyGroups({}, {})
    head = EMBEDDING_PREFIX[:-1]
    for key in sorted(
        key for key in keys if key.startswith(head) or metadata.get(key) == _TOKEN_MARK or _LAYERWISE in key
    ):
        if key == head:
            groups.odd[key] = "the key has no name"
        elif key.startswith(EMBEDDING_PREFIX):
            name, end = _split(key[len(EMBEDDING_PREFIX) :])
            if end:
                groups.parts.setdefault(name, {}).setdefault(end, key)
            else:
                groups.odd[key] = "its key does not end in a known way"
        elif metadata.get(key) == _TOKEN_MARK:
            # A name of both forms keeps the other one.
            groups.parts.setdefault(key, {}).setdefault(_SINGLE, key)
        elif _LAYERWISE in key:
            groups.odd[key] = "Mix-of-Show has other vectors for every layer, which no webui can use"
    return groups


def group_file_keys(keys: Iterable[str], name: str) -> KeyGroups:
    """The same for a file that holds one embedding and nothing else, named from outside."""
    ends: dict[str, str] = {}
    odd = []
    for key in sorted(keys):
        if key in _ENDS or key.startswith(("string_to_param.", "string_to_param:")):
            ends[key] = key
        else:
            odd.append(key)
    if len(odd) == 1 and not ends and _LAYERWISE not in odd[0]:
        # Many programs name a lone tensor by its token.
        ends[_SINGLE] = odd.pop()
    return KeyGroups({name: ends} if ends else {}, dict.fromkeys(odd, "the file is no embedding file of a known kind"))


def _split(rest: str) -> tuple[str, str]:
    """Name and end of a key without its prefix; the end is empty when it is none of the known ones."""
    found = _LEGACY.fullmatch(rest)
    if found is None:
        name, dot, end = rest.rpartition(".")
        if dot and end in _ENDS:
            return name, end
        # The token after the word may have dots itself.
        found = _LEGACY_DOTTED.fullmatch(rest)
    return (found[1], found[2]) if found else (rest, "")


def choose_parts(ends: Iterable[str]) -> Parts:
    """Which of the keys of one name become its encoders' vectors, and why not the others."""
    ends = list(ends)
    used = {end: end for end in _ENCODERS if end in ends}
    left_out = {end: _NO_MODEL[end] for end in ends if end in _NO_MODEL}
    singles = sorted((end for end in ends if end not in _ENCODERS and end not in _NO_MODEL), key=_rank)
    if singles and "clip_l" not in used:
        used[singles.pop(0)] = ""
    left_out.update(dict.fromkeys(singles, "another key has the same vectors' place"))
    return Parts(used, left_out)


def _rank(end: str) -> tuple[bool, bool, str]:
    return (end != _SD1_KEY, end == _SINGLE, end)


def is_positional_lora(key: str) -> bool:
    """Whether a key is of cloneofsimo's LoRA files, whose layers have numbers instead of names."""
    return _POSITIONAL.fullmatch(key) is not None


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
    return {**tensors, **pack_embeddings(embeddings)}


def pack_embeddings(embeddings: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The embeddings' part of :func:`pack`.

    Raises:
        BundleError: an embedding has no encoder.
    """
    tensors = {}
    for name, encoders in embeddings.items():
        if not encoders:
            raise BundleError(f"The embedding {name} holds no vectors.")
        for encoder, vectors in encoders.items():
            # The SD1 form does not say for which encoder it is, so a lone clip_g keeps its name.
            key = _SD1_KEY if len(encoders) == 1 and encoder != "clip_g" else encoder
            tensors[f"{EMBEDDING_PREFIX}{name}.{key}"] = vectors.float().contiguous()
    return tensors
