"""Determines from keys and shapes what a weights file is: which kind of LoRA, of which layers, for which models.

The tables here contain all known key patterns.

Source: https://github.com/KohakuBlueleaf/LyCORIS for all kinds that kohya's trainers write,
    https://github.com/huggingface/peft and https://github.com/huggingface/diffusers for those with dots in their keys,
    https://github.com/cloneofsimo/lora for the positional one.
Host: extensions-builtin/Lora/network_*.py, A1111 1.6.1-1.10.1, and packages_3rdparty/comfyui_lora_collection/lora.py,
    Forge: which of them are read, see ``read_by``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lib_pivotal.core.bundle.header import Entry
from lib_pivotal.core.bundle.layout import is_positional_lora

__all__ = ["ALL_WEBUIS", "KINDS", "Module", "Network", "NetworkKind", "find_network", "other_subject"]

ALL_WEBUIS = "all webuis"
_DORA = "A1111 from 1.10 on (1.9 if alpha is the rank) and Forge; older versions give different images"
_DORA_PER_OUTPUT = (
    "webuis, but with wrong results because its magnitudes are per output; trainers can write them per input"
)


@dataclass(frozen=True)
class NetworkKind:
    """One kind of network.

    Attributes:
        name: its usual name.
        complete: sets of suffixes; a module is complete if it has all of any one set.
        also: optional suffixes.
        down: suffixes whose first dimension is the rank, in order of preference.
        up: suffixes whose second dimension is the rank.
        read_by: programs that can read it, for Stable Diffusion 1, 2 and XL.
        is_product: whether a module adds nothing if any of its tensors is zero.
    """

    name: str
    complete: tuple[frozenset[str], ...]
    also: frozenset[str] = frozenset()
    down: tuple[str, ...] = ()
    up: tuple[str, ...] = ()
    read_by: str = ALL_WEBUIS
    is_product: bool = False

    @property
    def suffixes(self) -> frozenset[str]:
        """All suffixes that belong to this kind."""
        return self.also.union(*self.complete)


def _sets(*texts: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(text.split()) for text in texts)


_DOTTED = "diffusers and ComfyUI, but no webui"

KINDS: tuple[NetworkKind, ...] = (
    NetworkKind(
        "LoRA", _sets("lora_up.weight lora_down.weight"), frozenset({"lora_mid.weight"}),
        ("lora_down.weight",), ("lora_up.weight",), is_product=True,
    ),
    NetworkKind(
        "LoHa", _sets("hada_w1_a hada_w1_b hada_w2_a hada_w2_b"), frozenset({"hada_t1", "hada_t2"}),
        ("hada_w1_b", "hada_w2_b"), ("hada_w1_a", "hada_w2_a"), is_product=True,
    ),
    NetworkKind(
        "LoKr",
        _sets("lokr_w1 lokr_w2", "lokr_w1 lokr_w2_a lokr_w2_b", "lokr_w1_a lokr_w1_b lokr_w2",
              "lokr_w1_a lokr_w1_b lokr_w2_a lokr_w2_b"),
        frozenset({"lokr_t1", "lokr_t2"}), ("lokr_w2_b", "lokr_w1_b"), ("lokr_w2_a", "lokr_w1_a"), is_product=True,
    ),
    NetworkKind(
        "OFT", _sets("oft_blocks", "oft_diag"), frozenset({"rescale"}),
        read_by="A1111 from 1.8 on; Forge ignores it",
    ),
    NetworkKind("OFT (OneTrainer)", _sets("oft_R.weight"), read_by="OneTrainer and ComfyUI, but no webui"),
    NetworkKind("GLoRA", _sets("a1.weight a2.weight b1.weight b2.weight"), frozenset({"bm.weight"}),
                read_by="Forge; A1111 fails on it"),
    NetworkKind("IA3", _sets("weight on_input"), read_by="A1111; Forge ignores it"),
    NetworkKind("full", _sets("diff", "diff_b"), frozenset({"diff", "diff_b"})),
    NetworkKind("norm", _sets("w_norm"), frozenset({"b_norm"})),
    NetworkKind(
        "PEFT LoRA", _sets("lora_A.weight lora_B.weight"),
        frozenset({"lora_magnitude_vector", "lora_magnitude_vector.weight"}),
        ("lora_A.weight",), ("lora_B.weight",), _DOTTED, is_product=True,
    ),
    NetworkKind(
        "diffusers LoRA", _sets("lora.down.weight lora.up.weight",
                                "lora_linear_layer.down.weight lora_linear_layer.up.weight"),
        frozenset(), ("lora.down.weight", "lora_linear_layer.down.weight"),
        ("lora.up.weight", "lora_linear_layer.up.weight"), _DOTTED, is_product=True,
    ),
    NetworkKind(
        "old diffusers LoRA", _sets("_lora.down.weight _lora.up.weight"), frozenset(), ("_lora.down.weight",),
        ("_lora.up.weight",), "diffusers and Forge, but not A1111", is_product=True,
    ),
)  # fmt: skip
"""All kinds whose layers have names."""

_SHARED = frozenset({"alpha", "dora_scale", "scalar", "bias_indices", "bias_values", "bias_size"})
"""Suffixes used by several kinds."""
_SUFFIXES = {suffix: kind for kind in KINDS for suffix in kind.suffixes}
_BY_LENGTH = sorted({*_SUFFIXES, *_SHARED} - {"weight"}, key=len, reverse=True)
_ADAPTER = re.compile(r"\.(?:default|default_0)\.(?=weight$)")
"""PEFT's own files contain the adapter's name in the key."""
_POSITIONAL = NetworkKind("positional LoRA (cloneofsimo)", (), read_by="cloneofsimo's own program, but no webui")

_SUBJECTS: tuple[tuple[str, str], ...] = (
    (r"control_model\.|controlnet_cond_embedding\.|input_hint_block\.|lllite_unet_", "a ControlNet"),
    (r"ip_adapter\.|image_proj\.", "an IP-Adapter"),
    (r"model\.diffusion_model\.|first_stage_model\.|cond_stage_model\.|conditioner\.embedders\.", "a checkpoint"),
    (r"unet\.(?:down_blocks|conv_in)\b|vae\.decoder\.", "a checkpoint"),
    (r"(?:down_blocks\.0|up_blocks\.0|conv_in|input_blocks\.0|output_blocks\.0|time_embed\w*)\.", "a UNet"),
    (r"(?:encoder|decoder)\.(?:conv_in|mid_block|mid)\b", "a VAE"),
    (r"(?:text_model\.)?embeddings\.token_embedding\.weight|token_embedding\.weight|transformer\.resblocks\.0\.",
     "a text encoder"),
)  # fmt: skip
"""Prefix of a key → what a file with such keys is; the most specific come first."""
_SUBJECT_PATTERNS = tuple((re.compile(pattern), subject) for pattern, subject in _SUBJECTS)


@dataclass
class Module:
    """The tensors of a network for one layer.

    Attributes:
        name: name of the layer in the keys.
        kind: kind of network.
        keys: suffix → key.
    """

    name: str
    kind: NetworkKind
    keys: dict[str, str]

    @property
    def part(self) -> str:
        """The part of the model that the layer is in."""
        return "text encoder" if re.match(r"lora_te|text_encoder|te\d?[._]", self.name) else "unet"

    def read_by(self, entries: Mapping[str, Entry]) -> str:
        """Programs that can read this module, given its name and tensors.

        Source: measured against the webuis' own code: the magnitudes of DoRA are computed as trained only if there is
            one per input.
        """
        if "." in self.name and self.kind.read_by in (ALL_WEBUIS, _DOTTED):
            return "ComfyUI and Forge, but not A1111" if self.name.startswith("diffusion_model.") else _DOTTED
        if "dora_scale" in self.keys:
            per_output = _shape(entries, self.keys["dora_scale"])[:1] != (1,)
            return _DORA_PER_OUTPUT if per_output else _DORA
        return self.kind.read_by

    @property
    def is_whole(self) -> bool:
        """Whether no tensor is missing."""
        return not self.kind.complete or any(needed <= self.keys.keys() for needed in self.kind.complete)

    def title(self, entries: Mapping[str, Entry]) -> str:
        """Name of the kind or variant: LoCon is LoRA on convolutions; BOFT and DoRA have a distinctive tensor."""
        name = self.kind.name
        if name == "OFT" and len(_shape(entries, self.keys.get("oft_blocks"))) == 4:
            name = "BOFT"
        if name == "LoRA" and _shape(entries, self.keys.get("lora_down.weight"))[2:] not in ((), (1, 1)):
            name = "LoCon"
        magnitudes = ("dora_scale", "lora_magnitude_vector", "lora_magnitude_vector.weight")
        if any(suffix in self.keys for suffix in magnitudes):
            name = "DoRA" if name in ("LoRA", "LoCon") else f"{name} with DoRA"
        return name

    def rank(self, entries: Mapping[str, Entry]) -> int | None:
        """The rank, or None if the kind has none."""
        for suffix in self.kind.down:
            shape = _shape(entries, self.keys.get(suffix))
            if shape:
                return shape[0]
        return None


@dataclass
class Network:
    """The layers of a file.

    Attributes:
        modules: sorted by name.
        others: keys that do not belong to a layer of a known kind.
    """

    modules: list[Module] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def _shape(entries: Mapping[str, Entry], key: str | None) -> tuple[int, ...]:
    return entries[key].shape if key is not None else ()


def find_network(keys: Iterable[str]) -> Network:
    """Sort keys into layers.

    Args:
        keys: keys of a file without its embedding keys.
    """
    grouped: dict[str, dict[str, str]] = {}
    network = Network()
    for key in sorted(keys):
        if is_positional_lora(key):
            name, _, suffix = key.rpartition(":")
            grouped.setdefault(name, {})[suffix] = key
            continue
        name, suffix = _split(key)
        if suffix:
            grouped.setdefault(name, {})[suffix] = key
        else:
            network.others.append(key)
    for name, suffixes in grouped.items():
        kind = _kind_of(suffixes)
        if kind is None:
            network.others += suffixes.values()
        else:
            network.modules.append(Module(name, kind, suffixes))
    network.others.sort()
    return network


def _split(key: str) -> tuple[str, str]:
    """Module and suffix of a key; the suffix is empty if it is not a network's."""
    plain = _ADAPTER.sub(".", key)
    # Kohya's modules have no dots in their names.
    name, _, suffix = plain.partition(".")
    if suffix in _SUFFIXES or suffix in _SHARED:
        return name, suffix
    for suffix in _BY_LENGTH:
        if plain.endswith(suffix if suffix.startswith("_") else f".{suffix}"):
            return plain[: -len(suffix)].removesuffix("."), suffix
    return plain, ""


def _kind_of(suffixes: Mapping[str, str]) -> NetworkKind | None:
    if suffixes.keys() & {"up", "down"} and all(":" in key for key in suffixes.values()):
        return _POSITIONAL
    if "weight" in suffixes and "on_input" not in suffixes:
        # An ordinary weight of a model.
        return None
    return next((_SUFFIXES[suffix] for suffix in suffixes if suffix in _SUFFIXES), None)


def other_subject(keys: Iterable[str]) -> str:
    """What a file without network keys is: "a checkpoint", "a VAE", …; empty if unknown.

    Args:
        keys: ``Network.others``.
    """
    keys = list(keys)
    for pattern, subject in _SUBJECT_PATTERNS:
        if any(pattern.match(key) for key in keys):
            return subject
    return ""
