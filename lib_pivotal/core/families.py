"""The families of Stable Diffusion models and everything that differs between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from lib_pivotal.core.errors import HostError

__all__ = [
    "CHUNK_TOKENS",
    "COMMON_TOKENS_BELOW",
    "FAMILIES",
    "Family",
    "Kept",
    "TextEncoderInfo",
    "detect_family",
    "family_of_metadata",
    "family_of_widths",
]

Kept = Literal["all", "less", "least"]
"""What a UNet's layers keep for the backward pass.

``all``: what torch keeps. ``less``: of layer norms and GEGLUs only the inputs. ``least``: in addition, no inputs of
frozen convolutions and group norms. See ``activations/lean.py``.
"""


@dataclass(frozen=True, kw_only=True)
class TextEncoderInfo:
    """A text encoder of a family.

    Attributes:
        name: its name in bundles, ``clip_l`` or ``clip_g``.
        width: length of a token vector.
        lora_prefix: prefix of its layers' kohya keys.
        checkpoint_prefix: prefix of its keys in checkpoints in the webui's layout.
        is_open_clip: made with open_clip, which pads rows with token id 0. The others are made with transformers and
            pad with the end token.
        layer: the layer whose output the UNet gets, counted from the end; -1 is the last one.
        is_normed: whether that output goes through the final layer norm.
        has_pooled_text: whether the UNet also gets the output at the end token.
    """

    name: str
    width: int
    lora_prefix: str
    checkpoint_prefix: str
    is_open_clip: bool = False
    layer: int = -1
    is_normed: bool = True
    has_pooled_text: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models.

    Attributes:
        name: the name used in ``ports.DiffusionModel.family``.
        title: the name shown to users, the same as on the webui's LoRA cards.
        native_resolution: side in px that the base model was made for.
        unet_width: output features of the UNet's narrowest attention layers.
        text_encoders: in the order in which the UNet gets their outputs.
        usual_embedding_lr: a learning rate that works well for embeddings.
        samples_per_concept: number of samples from which a new concept is learned well.
        base_version: value of ``ss_base_model_version``.
        architecture: ``modelspec.architecture`` of models that predict noise.
        v_architecture: ``modelspec.architecture`` of models that predict velocity.
        lora_values: values that a rank of 1 adds to a LoRA of a full-size model: of the attention and feed-forward
            layers of its UNet, of its convolutions, and of its text encoders.
        is_v2: value of ``ss_v2``.
        activation_kib: KiB that a full-size UNet keeps for the backward pass, per latent cell and image, in half
            precision; see :data:`Kept`.
        checkpointed_activation_kib: KiB where it keeps the least and blocks are recomputed.
        has_conditioner: checkpoints and configurations have the layout of Stability AI's generative-models (text
            encoders under ``conditioner``, UNet under ``network_config``). The others have that of latent diffusion
            (``cond_stage_model``, ``unet_config``).
        has_ldm_keys: kohya keys of its UNet are LDM paths. The others are diffusers paths.
        has_lowest_attention: the lowest level of its UNet has attention blocks.
        has_size_conditioning: the UNet gets the size and crop of each image.
        zero_empty_caption: an empty caption is encoded as zeros.
        allows_clip_skip: its models are also used with an earlier layer of the text encoder.
        needs_fp32_vae: its VAE produces wrong values in fp16.
        block_layers: choices of ``lora_layers`` that only this family has → prefix of these layers' kohya keys.
        unread_layers: prefixes of the kohya keys of layers that get no adapter: nothing reads their output, and models
            in diffusers' layout and in Forge, which rejects LoRAs with unknown keys, do not have them.
        v_global_step: ``global_step`` in checkpoints that predict velocity; None if it does not indicate that.
    """

    name: str
    title: str
    native_resolution: int
    unet_width: int
    text_encoders: tuple[TextEncoderInfo, ...]
    usual_embedding_lr: float
    samples_per_concept: int
    base_version: str
    architecture: str
    v_architecture: str
    activation_kib: Mapping[Kept, int]
    checkpointed_activation_kib: int
    lora_values: tuple[int, int, int]
    is_v2: bool = False
    has_conditioner: bool = False
    has_ldm_keys: bool = False
    has_lowest_attention: bool = False
    has_size_conditioning: bool = False
    zero_empty_caption: bool = False
    allows_clip_skip: bool = False
    needs_fp32_vae: bool = False
    block_layers: Mapping[str, str] = field(default_factory=dict)
    unread_layers: tuple[str, ...] = ()
    v_global_step: int | None = None

    def width_of(self, part: str) -> int:
        """Width of ``"unet"`` or of an encoder (by its name) in models of the usual size, in features."""
        return (
            self.unet_width if part == "unet" else next(item.width for item in self.text_encoders if item.name == part)
        )

    def resolution_for(self, cells: object, *, is_v_prediction: bool) -> int:
        """Side length in px that a checkpoint of this family was trained for.

        Args:
            cells: latent cells per side from its configuration; anything but an int if it does not say.
            is_v_prediction: whether the checkpoint predicts velocity.
        """
        # SD2's configuration for velocity says 64 cells like all the others, but those models were trained for 768 px.
        is_understated = self.is_v2 and is_v_prediction and cells == 64
        return 8 * cells if isinstance(cells, int) and not is_understated else self.native_resolution


_SD1 = Family(
    name="sd1",
    title="SD1",
    native_resolution=512,
    unet_width=320,
    text_encoders=(
        TextEncoderInfo(
            name="clip_l", width=768, lora_prefix="lora_te_", checkpoint_prefix="cond_stage_model.transformer."
        ),
    ),
    usual_embedding_lr=5e-3,
    samples_per_concept=2400,
    base_version="sd_v1",
    architecture="stable-diffusion-v1",
    v_architecture="stable-diffusion-v1",
    activation_kib=MappingProxyType({"all": 223, "less": 163, "least": 120}),
    checkpointed_activation_kib=21,
    lora_values=(374_016, 680_040, 165_888),
    allows_clip_skip=True,
)

_SD2 = Family(
    name="sd2",
    title="SD2",
    native_resolution=768,
    unet_width=320,
    text_encoders=(
        TextEncoderInfo(
            name="clip_l",
            width=1024,
            lora_prefix="lora_te_",
            checkpoint_prefix="cond_stage_model.model.",
            is_open_clip=True,
            layer=-2,
        ),
    ),
    usual_embedding_lr=5e-3,
    samples_per_concept=2400,
    base_version="sd_v2",
    architecture="stable-diffusion-v2-512",
    v_architecture="stable-diffusion-v2-768-v",
    activation_kib=MappingProxyType({"all": 210, "less": 150, "least": 117}),
    checkpointed_activation_kib=21,
    lora_values=(382_208, 680_040, 423_936),
    is_v2=True,
    unread_layers=("lora_te_text_model_encoder_layers_23_",),
    v_global_step=220_000,
)

_SDXL = Family(
    name="sdxl",
    title="SDXL",
    native_resolution=1024,
    unet_width=640,
    text_encoders=(
        TextEncoderInfo(
            name="clip_l",
            width=768,
            lora_prefix="lora_te1_",
            checkpoint_prefix="conditioner.embedders.0.transformer.",
            layer=-2,
            is_normed=False,
        ),
        TextEncoderInfo(
            name="clip_g",
            width=1280,
            lora_prefix="lora_te2_",
            checkpoint_prefix="conditioner.embedders.1.model.",
            is_open_clip=True,
            layer=-2,
            is_normed=False,
            has_pooled_text=True,
        ),
    ),
    usual_embedding_lr=1e-3,
    samples_per_concept=1200,
    base_version="sdxl_base_v1-0",
    architecture="stable-diffusion-xl-v1-base",
    v_architecture="stable-diffusion-xl-v1-base",
    activation_kib=MappingProxyType({"all": 405, "less": 267, "least": 239}),
    checkpointed_activation_kib=25,
    lora_values=(2_616_320, 417_640, 903_168),
    has_conditioner=True,
    has_ldm_keys=True,
    has_lowest_attention=True,
    has_size_conditioning=True,
    zero_empty_caption=True,
    needs_fp32_vae=True,
    block_layers=MappingProxyType({"content": "lora_unet_output_blocks_0_1_", "style": "lora_unet_output_blocks_1_1_"}),
)

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in (_SD1, _SD2, _SDXL)})
"""Name → family.

Source: https://github.com/Stability-AI/ModelSpec for the architectures; Frenkel et al. 2024,
    https://arxiv.org/abs/2403.14572, for the blocks of content and style; ``benchmarks/memory.py`` (full-size UNets,
    16-bit autocast, LoRA of rank 16) for the activations; Stability AI's 768-v checkpoints of SD2, which were trained
    for 220,000 more steps, for ``v_global_step``.
Host: modules/sd_models_xl.py, ``get_learned_conditioning``, A1111 1.6.1-1.10.1: an empty negative prompt of SDXL is all
    zeros, hidden states and pooled text.
Host: extensions-builtin/Lora/network.py, ``detect_version``, A1111 1.6.1-1.10.1: ``ss_base_model_version`` beginning
    with ``sdxl_`` is SDXL, ``ss_v2`` is SD2, anything else SD1; cards of other families than the loaded model's are
    hidden.
"""

_BY_WIDTHS = {(768,): "SD1", (1024,): "SD2", (768, 1280): "SDXL", (1280,): "SDXL refiner"}
CHUNK_TOKENS = 75
"""Tokens of a prompt chunk; 77 with start and end tokens, CLIP's maximum."""
COMMON_TOKENS_BELOW = 30_000
"""CLIP's vocabulary is ordered by frequency: words with a token id below this one occur in everyday prompts."""


def family_of_widths(widths: Iterable[int]) -> str:
    """Title of the family whose text encoders have token vectors of these widths, or an empty string.

    Args:
        widths: one per text encoder, in any order.
    """
    return _BY_WIDTHS.get(tuple(sorted(widths)), "")


def family_of_metadata(metadata: Mapping[str, str]) -> Family | None:
    """The family that a LoRA file was trained on according to its metadata, or None.

    Args:
        metadata: metadata of the file; ``ss_base_model_version`` and ``ss_v2`` are read.
    """
    version = metadata.get("ss_base_model_version", "")
    if version.startswith("sdxl"):
        return _SDXL
    if metadata.get("ss_v2") == "True" or version.startswith("sd_v2"):
        return _SD2
    return _SD1 if version.startswith("sd_v1") else None


def detect_family(
    name: str,
    *,
    input_channels: int,
    conditioner_encoders: int,
    is_open_clip: bool,
    has_middle_attention: bool = True,
) -> str:
    """Name of a model's family, see ``core.families``.

    Args:
        name: name of the file or folder, for the message.
        input_channels: input channels of the UNet; 4 for text-to-image.
        conditioner_encoders: text encoders of a model in the layout of SDXL: 2, or 1 for a refiner; 0 for other models.
        is_open_clip: whether another model has SD2's text encoder or UNet.
        has_middle_attention: whether the middle block of the UNet has attention, which SSD-1B removed from SDXL.

    Raises:
        HostError: the model cannot be trained; the message says what it is.
    """
    kind = ""
    if input_channels != 4:
        kind = "an inpainting or editing model"
    elif conditioner_encoders == 1:
        kind = "an SDXL refiner"
    elif conditioner_encoders and not has_middle_attention:
        kind = "SSD-1B"
    if kind:
        titles = [family.title for family in FAMILIES.values()]
        hint = f"Choose an ordinary {', '.join(titles[:-1])} or {titles[-1]} model."
        raise HostError(f"{name} is {kind}.", hint=hint)
    if conditioner_encoders:
        return "sdxl"
    return "sd2" if is_open_clip else "sd1"
