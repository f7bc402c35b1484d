"""Every setting of a training run: the single source for JSON, tab, API, docs and metadata."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["CONFIG_VERSION", "Concept", "TrainConfig", "field_info"]

CONFIG_VERSION = 1


def _setting(
    default: Any,
    block: str,
    level: str,
    label: str,
    help: str,  # noqa: A002  (the word users of dataclass metadata expect)
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    unit: str = "",
) -> Any:
    """A field with the words and limits that the tab, the checks and the docs show."""
    metadata = {
        "block": block,
        "level": level,
        "label": label,
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "unit": unit,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Concept:
    """One embedding to train.

    Attributes:
        name: the word typed in prompts; see ``bundle/names.py`` for the rules.
        init_text: words whose token vectors it starts from; empty: noise of the vocabulary's spread.
        vectors: number of token vectors; 0 takes as many as ``init_text`` has tokens.
        aliases: caption tags that are replaced by the name.
        lr_multiplier: factor on the embedding learning rate, > 0.
        stop_at: fraction of the steps after which the vectors are frozen, 0 < … ≤ 1.
    """

    name: str
    init_text: str = ""
    vectors: int = 4
    aliases: tuple[str, ...] = ()
    lr_multiplier: float = 1.0
    stop_at: float = 0.7


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run. Field name = JSON key = element id = API name."""

    concepts: tuple[Concept, ...] = ()

    # Images
    data_folder: str = _setting(
        "",
        "images",
        "basic",
        "Image folder",
        "Folder with pictures and a .txt caption beside each; "
        "sub-folders named N_anything repeat their pictures N times.",
    )
    resolution: int = _setting(
        512,
        "images",
        "basic",
        "Resolution",
        "Pictures are scaled to about this side, keeping their shape in aspect buckets. "
        "Use 512 for SD1, 1024 for SDXL.",
        low=64,
        high=2048,
        unit="px",
    )
    flip: bool = _setting(
        False,
        "images",
        "basic",
        "Mirror pictures",
        "Also train on mirrored pictures. Leave off when left and right matter (a scar, a hair parting).",
    )
    shuffle_tags: bool = _setting(
        True,
        "images",
        "advanced",
        "Shuffle tags",
        "Shuffle the comma-separated tags of a caption at every step; names of concepts stay in front.",
    )
    tag_dropout: float = _setting(
        0.05,
        "images",
        "advanced",
        "Tag dropout",
        "Chance that a tag is left out at a step; names are never left out. "
        "Raise it when prompts need the whole caption.",
        low=0.0,
        high=0.9,
    )
    name_only: float = _setting(
        0.1,
        "images",
        "advanced",
        "Names only",
        "Chance that a caption is cut down to its concept names at a step, which makes the names work alone.",
        low=0.0,
        high=1.0,
    )
    caption_dropout: float = _setting(
        0.03,
        "images",
        "advanced",
        "Empty caption",
        "Chance that a caption is emptied at a step, which keeps guidance (CFG) working.",
        low=0.0,
        high=0.5,
    )
    cache_to_disk: bool = _setting(
        False,
        "images",
        "expert",
        "Keep latents on disk",
        "Store the encoded pictures in the run folder's cache and use them again next time.",
    )

    # Training
    steps: int = _setting(
        0,
        "training",
        "basic",
        "Steps",
        "Optimiser steps; 0 chooses 20 per picture, at least 600 and at most 1500.",
        low=0,
        high=100_000,
    )
    batch_size: int = _setting(
        2, "training", "basic", "Batch size", "Pictures at a time; lower it when memory runs out.", low=1, high=64
    )
    unet_lr: float = _setting(
        2e-4,
        "training",
        "basic",
        "UNet learning rate",
        "Step size of the LoRA. Lower it (1e-4) for fewer than 20 pictures.",
        low=0.0,
        high=1.0,
    )
    embedding_lr: float = _setting(
        5e-3,
        "training",
        "basic",
        "Embedding learning rate",
        "Step size of the embeddings; 5e-3 suits SD1, 1e-3 SDXL.",
        low=0.0,
        high=1.0,
    )
    seed: int = _setting(
        1234,
        "training",
        "basic",
        "Seed",
        "The same seed, pictures and settings give the same result.",
        low=0,
        high=2**31 - 1,
    )
    accumulation: int = _setting(
        1,
        "training",
        "advanced",
        "Gradient accumulation",
        "Batches per step: a batch of 2 with 2 accumulated learns like a batch of 4 in the memory of 2.",
        low=1,
        high=64,
    )
    memory: str = _setting(
        "auto",
        "training",
        "advanced",
        "GPU memory",
        "fast uses what it needs; save recomputes activations and keeps idle networks off the GPU, for about a third "
        "more time; auto saves when the fast way would not fit.",
        choices=("auto", "fast", "save"),
    )
    gradient_checkpointing: bool = _setting(
        False,
        "training",
        "advanced",
        "Gradient checkpointing",
        "Saves much memory for about a third more time.",
    )
    precision: str = _setting(
        "auto",
        "training",
        "advanced",
        "Precision",
        "Of the forward pass; trained values are always fp32. auto follows the model.",
        choices=("auto", "fp32", "fp16", "bf16"),
    )
    clip_skip: int = _setting(
        1,
        "training",
        "advanced",
        "Clip skip",
        "As in the webui's settings; 1 is the last layer. Use the value you generate with.",
        low=1,
        high=4,
    )

    # LoRA
    rank: int = _setting(
        16,
        "lora",
        "basic",
        "LoRA rank",
        "Size of the LoRA; 0 trains embeddings only. Raise it for styles (32).",
        low=0,
        high=256,
    )
    alpha: float = _setting(
        8.0,
        "lora",
        "basic",
        "LoRA alpha",
        "Strength is alpha divided by rank, with rank 0 by the larger of the other two; half the rank is a good value.",
        low=0.0,
        high=512.0,
    )
    conv_rank: int = _setting(
        0,
        "lora",
        "advanced",
        "Convolution rank",
        "Also train the UNet's convolutions at this rank (LoCon); 0 leaves them alone. Helps styles.",
        low=0,
        high=256,
    )
    text_encoder_rank: int = _setting(
        0,
        "lora",
        "advanced",
        "Text encoder rank",
        "Also train a LoRA of the text encoder; 0 keeps it clean, which is the point of pivotal tuning.",
        low=0,
        high=256,
    )
    text_encoder_lr: float = _setting(
        6e-5,
        "lora",
        "advanced",
        "Text encoder learning rate",
        "Step size of the text encoder's LoRA.",
        low=0.0,
        high=1.0,
    )

    # Optimiser
    schedule: str = _setting(
        "cosine",
        "optimiser",
        "advanced",
        "Schedule",
        "How the learning rates fall over the run.",
        choices=("cosine", "constant"),
    )
    warmup: float = _setting(
        0.05,
        "optimiser",
        "advanced",
        "Warm-up",
        "Fraction of the steps over which the LoRA's learning rates rise from 0, once it starts.",
        low=0.0,
        high=0.5,
    )
    lora_start: float = _setting(
        0.2,
        "optimiser",
        "advanced",
        "LoRA starts at",
        "Fraction of the steps in which the embeddings learn alone, so that they carry what is theirs; "
        "the LoRA learns the rest. 0 trains both from the start. Without concepts the LoRA starts at once.",
        low=0.0,
        high=0.9,
    )
    weight_decay: float = _setting(
        1e-3,
        "optimiser",
        "advanced",
        "Weight decay",
        "Of the LoRA; embeddings have none.",
        low=0.0,
        high=1.0,
    )
    clip_norm: float = _setting(
        1.0,
        "optimiser",
        "advanced",
        "Gradient clipping",
        "Largest gradient norm of each group; 0 turns clipping off.",
        low=0.0,
        high=100.0,
    )
    loss_weighting: str = _setting(
        "min_snr",
        "optimiser",
        "advanced",
        "Loss weighting",
        "How much each noise level counts: min_snr caps nearly clean pictures, debiased weighs them even less, "
        "none weighs all alike.",
        choices=("min_snr", "debiased", "none"),
    )
    min_snr_gamma: float = _setting(
        5.0,
        "optimiser",
        "advanced",
        "Min-SNR gamma",
        "Caps the weight of nearly clean pictures; 0 weighs all noise levels alike.",
        low=0.0,
        high=100.0,
    )
    norm_band: bool = _setting(
        True,
        "optimiser",
        "advanced",
        "Keep embedding norms",
        "Pulls vectors back softly when they get longer or shorter than 0.5 to 1.5 times their start length.",
    )

    # Samples
    sample_every: int = _setting(
        100,
        "samples",
        "basic",
        "Sample every",
        "Make the preview pictures every so many steps, and before step 1; 0 makes none.",
        low=0,
        high=100_000,
        unit="steps",
    )
    sample_prompts: str = _setting(
        "",
        "samples",
        "basic",
        "Sample prompts",
        "One prompt a line; empty uses one prompt per concept.",
    )
    sample_negative: str = _setting("", "samples", "advanced", "Sample negative prompt", "Of all preview pictures.")
    sample_steps: int = _setting(
        20, "samples", "advanced", "Sample steps", "Sampler steps of a preview.", low=1, high=150
    )
    sample_cfg: float = _setting(
        7.0, "samples", "advanced", "Sample CFG scale", "Guidance of a preview.", low=1.0, high=30.0
    )
    sample_seed: int = _setting(
        1, "samples", "advanced", "Sample seed", "Fixed, so that previews can be compared.", low=0, high=2**31 - 1
    )

    # Output
    output_name: str = _setting(
        "",
        "output",
        "basic",
        "Output name",
        "File name of the bundle, and the NAME in <lora:NAME:1>.",
    )
    if_exists: str = _setting(
        "refuse",
        "output",
        "advanced",
        "If the name exists",
        "refuse says so before the start; number adds a number; overwrite replaces the file.",
        choices=("refuse", "number", "overwrite"),
    )
    save_every: int = _setting(
        0,
        "output",
        "advanced",
        "Save every",
        "Also save a numbered bundle and the state every so many steps; 0 saves at the end only.",
        low=0,
        high=100_000,
        unit="steps",
    )
    save_precision: str = _setting(
        "fp16",
        "output",
        "advanced",
        "LoRA precision in the file",
        "fp16 halves the file; fp32 keeps exactly what was trained. Embeddings are always fp32.",
        choices=("fp16", "fp32"),
    )
    keep_states: int = _setting(
        2, "output", "expert", "States kept", "How many resume states are kept in the run folder.", low=1, high=1000
    )
    checkpoint: str = _setting(
        "",
        "model",
        "headless",
        "Checkpoint",
        "Model to train on: file or folder without a webui, a checkpoint's name in a webui; empty is the loaded one.",
    )


def field_info() -> dict[str, dict[str, Any]]:
    """Settings (without ``concepts``) by name, in order: default, type name and the metadata of the field."""
    return {
        item.name: {"default": item.default, "type": str(item.type), **item.metadata}
        for item in fields(TrainConfig)
        if item.name != "concepts"
    }
