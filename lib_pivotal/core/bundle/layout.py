"""Key names of a bundle, for reading and writing. Frozen: existing files of users depend on it.

Source: PR 13568 of the AUTOMATIC1111 webui, which introduced ``bundle_emb`` keys; docs/bundle-format.md names the
    programs that write the other formats.
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
    "SuffixChoice",
    "choose_suffixes",
    "group_file_keys",
    "group_keys",
    "is_positional_lora",
    "pack",
    "pack_embeddings",
]

EMBEDDING_PREFIX = "bundle_emb."

_SD1_KEY = "string_to_param.*"
_FULL_PRECISION = ".dora_scale"
_TOKEN_MARK = "<embed>"
_SINGLE = "emb_params"
_SINGLES = {_SINGLE, "emp_params"}
"""Suffixes for a single encoder; the second one is OneTrainer's."""
_ENCODERS = {"clip_l": "clip_l", "clip_g": "clip_g", "text_encoders_0": "clip_l", "text_encoders_1": "clip_g"}
"""Suffix → encoder; the numbered ones come from cog-sdxl and the first diffusers script."""
_IGNORED = {
    **dict.fromkeys(("clip_l_out", "clip_g_out", "emp_params_out"), "an output embedding, which prompts do not use"),
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
"""Known suffixes that Stable Diffusion 1, 2 and XL do not use → what they are."""
_SUFFIXES = {*_SINGLES, *_ENCODERS, *_IGNORED}
_LEGACY = re.compile(r"(.*)\.(string_to_param[.:][^.]+)", re.DOTALL)
_LEGACY_DOTTED = re.compile(r"(.*)\.(string_to_param[.:].+)", re.DOTALL)
_LAYERWISE = "new_concept_embedding"
_POSITIONAL = re.compile(r"\w+:\d+:(up|down)")


@dataclass(frozen=True)
class KeyGroups:
    """Embedding keys of a file, sorted so that their order in the file does not matter.

    Attributes:
        names: name → suffix of the key (such as ``clip_l``) → key.
        unrecognized: key → why it was not recognized.
    """

    names: dict[str, dict[str, str]]
    unrecognized: dict[str, str]

    @property
    def keys(self) -> frozenset[str]:
        """All embedding keys, recognized or not."""
        return frozenset(self.unrecognized).union(*(suffixes.values() for suffixes in self.names.values()))


@dataclass(frozen=True)
class SuffixChoice:
    """Which suffixes of a name are used.

    Attributes:
        used: suffix → encoder; empty if the suffix does not name one.
        ignored: suffix → reason.
    """

    used: dict[str, str]
    ignored: dict[str, str]


def group_keys(keys: Iterable[str], metadata: Mapping[str, str]) -> KeyGroups:
    """Find and parse the embedding keys. They are parsed from the right, so names may contain dots.

    Args:
        keys: all keys of a file.
        metadata: metadata of the file.

    Source: github.com/cloneofsimo/lora names a tensor by its token and marks it with the metadata value ``<embed>``;
        Mix-of-Show's ``new_concept_embedding``.
    """
    groups = KeyGroups({}, {})
    head = EMBEDDING_PREFIX[:-1]
    found = [key for key in keys if key.startswith(head) or metadata.get(key) == _TOKEN_MARK or _LAYERWISE in key]
    for key in sorted(found, key=lambda key: (not key.startswith(head), key)):
        if key == head:
            groups.unrecognized[key] = "the key has no name"
        elif key.startswith(EMBEDDING_PREFIX):
            name, suffix = _split(key[len(EMBEDDING_PREFIX) :])
            if suffix:
                groups.names.setdefault(name, {}).setdefault(suffix, key)
            else:
                groups.unrecognized[key] = "its key has an unknown suffix"
        elif metadata.get(key) == _TOKEN_MARK:
            if groups.names.setdefault(key, {}).setdefault(_SINGLE, key) != key:
                groups.unrecognized[key] = "another key contains the vectors of the same encoder"
        elif _LAYERWISE in key:
            groups.unrecognized[key] = "Mix-of-Show has separate vectors for every layer, which no webui supports"
    return groups


def group_file_keys(keys: Iterable[str], name: str) -> KeyGroups:
    """Parse the keys of a file that contains a single embedding.

    Args:
        keys: all keys of the file.
        name: name of the embedding, which is not in the keys.
    """
    suffixes: dict[str, str] = {}
    others = []
    for key in sorted(keys):
        if key in _SUFFIXES or key.startswith(("string_to_param.", "string_to_param:")):
            suffixes[key] = key
        else:
            others.append(key)
    if len(others) == 1 and not suffixes and _LAYERWISE not in others[0]:
        # Many programs name a single tensor after its token.
        suffixes[_SINGLE] = others.pop()
    reason = "no known program writes this key into an embedding file"
    return KeyGroups({name: suffixes} if suffixes else {}, dict.fromkeys(others, reason))


def _split(rest: str) -> tuple[str, str]:
    """Name and suffix of a key without its prefix; the suffix is empty if it is unknown."""
    found = _LEGACY.fullmatch(rest)
    if found is None:
        name, dot, suffix = rest.rpartition(".")
        if dot and suffix in _SUFFIXES:
            return name, suffix
        # The token itself may contain dots.
        found = _LEGACY_DOTTED.fullmatch(rest)
    return (found[1], found[2]) if found else (rest, "")


def choose_suffixes(suffixes: Iterable[str]) -> SuffixChoice:
    """Choose which keys of a name are used for its encoders, and explain why the others are not."""
    used: dict[str, str] = {}
    ignored: dict[str, str] = {}
    singles = []
    # The usual suffix of an encoder takes precedence over other programs' spellings.
    for suffix in sorted(suffixes, key=lambda suffix: (_ENCODERS.get(suffix) != suffix, suffix)):
        if suffix in _IGNORED:
            ignored[suffix] = _IGNORED[suffix]
        elif suffix not in _ENCODERS:
            singles.append(suffix)
        elif _ENCODERS[suffix] in used.values():
            ignored[suffix] = "another key contains the vectors of the same encoder"
        else:
            used[suffix] = _ENCODERS[suffix]
    singles.sort(key=_rank)
    if singles and "clip_l" not in used.values():
        used[singles.pop(0)] = ""
    ignored.update(dict.fromkeys(singles, "another key contains the vectors of the same encoder"))
    return SuffixChoice(used, ignored)


def _rank(suffix: str) -> tuple[bool, bool, str]:
    return (suffix != _SD1_KEY, suffix in _SINGLES, suffix)


def is_positional_lora(key: str) -> bool:
    """Whether a key is from cloneofsimo's LoRA files, whose layers have numbers instead of names."""
    return _POSITIONAL.fullmatch(key) is not None


def pack(
    lora: Mapping[str, torch.Tensor],
    embeddings: Mapping[str, Mapping[str, torch.Tensor]],
    lora_dtype: torch.dtype,
) -> dict[str, torch.Tensor]:
    """All tensors of a bundle under their file keys.

    Args:
        lora: kohya key → tensor.
        embeddings: name → encoder name → ``(n_vectors, width)``. A single encoder is written in the SD1
            format, ``clip_l`` with ``clip_g`` in the SDXL format.
        lora_dtype: dtype of the LoRA in the file; embeddings and the magnitudes of a DoRA are always fp32.

    Returns:
        Contiguous tensors.

    Raises:
        BundleError: an embedding has no encoder.
    """
    tensors = {
        key: value.to(torch.float32 if key.endswith(_FULL_PRECISION) else lora_dtype).contiguous()
        for key, value in lora.items()
    }
    return {**tensors, **pack_embeddings(embeddings)}


def pack_embeddings(embeddings: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The embeddings' part of :func:`pack`.

    Raises:
        BundleError: an embedding has no encoder.
    """
    tensors = {}
    for name, encoders in embeddings.items():
        if not encoders:
            raise BundleError(f"The embedding {name} contains no vectors.")
        for encoder, vectors in encoders.items():
            # The SD1 format does not name its encoder, so a single clip_g keeps its name.
            key = _SD1_KEY if len(encoders) == 1 and encoder != "clip_g" else encoder
            tensors[f"{EMBEDDING_PREFIX}{name}.{key}"] = vectors.float().contiguous()
    return tensors
