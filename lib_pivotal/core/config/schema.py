"""Every setting of a training run: the single source for JSON, tab, API, docs and metadata."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["CONFIG_VERSION", "Concept", "TrainConfig", "concept_field_info", "field_info"]

CONFIG_VERSION = 1


def _setting(
    default: Any,
    block: str,
    level: str,
    label: str,
    help: str,  # noqa: A002  (the name that dataclass metadata uses)
    *,
    low: float | None = None,
    high: float | None = None,
    is_low_excluded: bool = False,
    choices: tuple[str, ...] = (),
    unit: str = "",
) -> Any:
    """A field with the label, help and limits that the tab, the checks and the docs show."""
    metadata = {
        "block": block,
        "level": level,
        "label": label,
        "help": help,
        "low": low,
        "high": high,
        "is_low_excluded": is_low_excluded,
        "choices": choices,
        "unit": unit,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Concept:
    """One embedding to train. A new field here appears automatically in JSON, tab, checks, docs and metadata."""

    name: str = _setting(
        "", "concepts", "basic", "Name", "The new word you will type in prompts. Pick a made-up word, such as zog_v1."
    )
    init_text: str = _setting(
        "",
        "concepts",
        "basic",
        "Initialization text",
        "What the concept is, in words the model knows: small teal robot. Empty starts from noise.",
    )
    vectors: int = _setting(
        4,
        "concepts",
        "basic",
        "Vectors",
        "Number of tokens the name takes up; 0 uses as many as the initialization text has.",
        low=0,
        high=75,
    )
    aliases: tuple[str, ...] = _setting(
        (),
        "concepts",
        "basic",
        "Caption tags",
        "Tags in the captions that mean this concept, separated by commas; training replaces them with the name.",
    )
    lr_multiplier: float = _setting(
        1.0,
        "concepts",
        "advanced",
        "LR multiplier",
        "Multiplies the embedding learning rate for this concept; 1 is usual.",
        low=0.0,
        high=100.0,
        is_low_excluded=True,
    )
    stop_at: float = _setting(
        0.7,
        "concepts",
        "advanced",
        "Stop training at",
        "Fraction of training after which this embedding is frozen; 0.7 is usual.",
        low=0.0,
        high=1.0,
        is_low_excluded=True,
    )


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
        "Folder with images and a .txt caption next to each; subfolders named N_anything repeat their images N times.",
    )
    resolution: int = _setting(
        512,
        "images",
        "basic",
        "Resolution",
        "Images are scaled to about this side length and keep their shape in aspect-ratio buckets. "
        "Use 512 for SD1, 1024 for SDXL.",
        low=64,
        high=2048,
        unit="px",
    )
    flip: bool = _setting(
        False,
        "images",
        "basic",
        "Flip images",
        "Also train on mirrored images. Leave off when left and right matter (a scar, a hair parting).",
    )
    shuffle_tags: bool = _setting(
        True,
        "images",
        "advanced",
        "Shuffle tags",
        "Shuffle the comma-separated tags of a caption at every step; concept names stay in front.",
    )
    tag_dropout: float = _setting(
        0.05,
        "images",
        "advanced",
        "Tag dropout",
        "Chance that a tag is dropped at each step; names are never dropped. "
        "Raise it if prompts only work with the whole caption.",
        low=0.0,
        high=0.9,
    )
    name_only: float = _setting(
        0.1,
        "images",
        "advanced",
        "Trigger-only captions",
        "Chance that a caption is reduced to its concept names at each step, so that the names work on their own.",
        low=0.0,
        high=1.0,
    )
    caption_dropout: float = _setting(
        0.03,
        "images",
        "advanced",
        "Caption dropout",
        "Chance that a caption is left empty at each step, which keeps guidance (CFG) working.",
        low=0.0,
        high=0.5,
    )
    cache_to_disk: bool = _setting(
        False,
        "images",
        "expert",
        "Cache latents to disk",
        "Store the encoded images in the cache folder next to the runs and reuse them next time.",
    )

    # Training
    steps: int = _setting(
        0,
        "training",
        "basic",
        "Steps",
        "Optimizer steps; 0 chooses 20 per image, at least 600 and at most 1500.",
        low=0,
        high=100_000,
    )
    batch_size: int = _setting(
        2, "training", "basic", "Batch size", "Images per batch; lower it if memory runs out.", low=1, high=64
    )
    unet_lr: float = _setting(
        2e-4,
        "training",
        "basic",
        "UNet learning rate",
        "Learning rate of the LoRA. Lower it (1e-4) for fewer than 20 images.",
        low=0.0,
        high=1.0,
    )
    embedding_lr: float = _setting(
        5e-3,
        "training",
        "basic",
        "Embedding learning rate",
        "Learning rate of the embeddings; 5e-3 suits SD1, 1e-3 suits SDXL.",
        low=0.0,
        high=1.0,
    )
    seed: int = _setting(
        1234,
        "training",
        "basic",
        "Seed",
        "The same seed, images and settings give the same result.",
        low=0,
        high=2**31 - 1,
    )
    accumulation: int = _setting(
        1,
        "training",
        "advanced",
        "Gradient accumulation",
        "Batches per step: batch size 2 with 2 accumulated trains like batch size 4 in the memory of 2.",
        low=1,
        high=64,
    )
    memory: str = _setting(
        "auto",
        "training",
        "advanced",
        "GPU memory",
        "fast uses all the memory it needs; save recomputes activations and offloads idle networks, and takes about a "
        "third longer; auto chooses save when fast would not fit.",
        choices=("auto", "fast", "save"),
    )
    gradient_checkpointing: bool = _setting(
        False,
        "training",
        "advanced",
        "Gradient checkpointing",
        "Saves a lot of memory and takes about a third longer.",
    )
    precision: str = _setting(
        "auto",
        "training",
        "advanced",
        "Precision",
        "Precision of the forward pass; trained values are always fp32. auto follows the model.",
        choices=("auto", "fp32", "fp16", "bf16"),
    )
    clip_skip: int = _setting(
        1,
        "training",
        "advanced",
        "Clip skip",
        "The same as in the webui's settings; 1 is the last layer. Use the value you generate with.",
        low=1,
        high=4,
    )

    # LoRA
    rank: int = _setting(
        16,
        "lora",
        "basic",
        "LoRA rank",
        "Rank of the LoRA, which sets its size; 0 trains embeddings only. Raise it for styles (32).",
        low=0,
        high=256,
    )
    alpha: float = _setting(
        8.0,
        "lora",
        "basic",
        "LoRA alpha",
        "Effective strength is alpha / rank; half the rank is a good value.",
        low=0.0,
        high=512.0,
    )
    conv_rank: int = _setting(
        0,
        "lora",
        "advanced",
        "Convolution rank",
        "Also train the UNet's convolutions at this rank (LoCon); 0 does not train them. Helps with styles.",
        low=0,
        high=256,
    )
    text_encoder_rank: int = _setting(
        0,
        "lora",
        "advanced",
        "Text encoder rank",
        "Also train a LoRA of the text encoder; 0 leaves it unchanged, which is the point of pivotal tuning.",
        low=0,
        high=256,
    )
    text_encoder_lr: float = _setting(
        6e-5,
        "lora",
        "advanced",
        "Text encoder learning rate",
        "Learning rate of the text encoder's LoRA.",
        low=0.0,
        high=1.0,
    )

    # Optimizer
    schedule: str = _setting(
        "cosine",
        "optimizer",
        "advanced",
        "LR schedule",
        "How the learning rates fall during training.",
        choices=("cosine", "constant"),
    )
    warmup: float = _setting(
        0.05,
        "optimizer",
        "advanced",
        "Warm-up",
        "Fraction of the steps over which the LoRA's learning rate rises from 0 once it starts.",
        low=0.0,
        high=0.5,
    )
    lora_start: float = _setting(
        0.2,
        "optimizer",
        "advanced",
        "LoRA starts at",
        "Fraction of the steps in which only the embeddings train, so they learn the subject before the LoRA starts. "
        "0 trains both from the start. Without concepts the LoRA starts right away.",
        low=0.0,
        high=0.9,
    )
    weight_decay: float = _setting(
        1e-3,
        "optimizer",
        "advanced",
        "Weight decay",
        "Applied to the LoRA only; embeddings have no weight decay.",
        low=0.0,
        high=1.0,
    )
    clip_norm: float = _setting(
        1.0,
        "optimizer",
        "advanced",
        "Gradient clipping",
        "Maximum gradient norm of the LoRA and of each embedding; 0 turns clipping off.",
        low=0.0,
        high=100.0,
    )
    loss_weighting: str = _setting(
        "min_snr",
        "optimizer",
        "advanced",
        "Loss weighting",
        "How much each noise level counts: min_snr caps the weight of nearly clean images, debiased weighs them even "
        "less, none weighs all levels equally.",
        choices=("min_snr", "debiased", "none"),
    )
    min_snr_gamma: float = _setting(
        5.0,
        "optimizer",
        "advanced",
        "Min-SNR gamma",
        "Caps the weight of nearly clean images; 0 weighs all noise levels equally.",
        low=0.0,
        high=100.0,
    )
    norm_band: bool = _setting(
        True,
        "optimizer",
        "advanced",
        "Limit embedding norms",
        "Gently pulls a vector back when its norm leaves the range of 0.5 to 1.5 times its initial norm.",
    )

    # Samples
    sample_every: int = _setting(
        100,
        "samples",
        "basic",
        "Sample every",
        "Make preview images every N steps, and before step 1; 0 makes none.",
        low=0,
        high=100_000,
        unit="steps",
    )
    sample_prompts: str = _setting(
        "",
        "samples",
        "basic",
        "Sample prompts",
        "One prompt per line; empty uses one prompt per concept.",
    )
    sample_negative: str = _setting(
        "", "samples", "advanced", "Sample negative prompt", "Negative prompt of all preview images."
    )
    sample_steps: int = _setting(
        20, "samples", "advanced", "Sample steps", "Sampling steps per preview image.", low=1, high=150
    )
    sample_cfg: float = _setting(
        7.0, "samples", "advanced", "Sample CFG scale", "CFG scale of the preview images.", low=1.0, high=30.0
    )
    sample_seed: int = _setting(
        1,
        "samples",
        "advanced",
        "Sample seed",
        "Seed of the preview images; it stays the same so that they can be compared.",
        low=0,
        high=2**31 - 1,
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
        "refuse reports it before training starts; number adds a number to the name; overwrite replaces the file.",
        choices=("refuse", "number", "overwrite"),
    )
    save_every: int = _setting(
        0,
        "output",
        "advanced",
        "Save every",
        "Also save a numbered bundle and a resume state every N steps; 0 saves at the end only.",
        low=0,
        high=100_000,
        unit="steps",
    )
    save_precision: str = _setting(
        "fp16",
        "output",
        "advanced",
        "LoRA precision in the file",
        "fp16 halves the file size; fp32 keeps exactly what was trained. Embeddings are always fp32.",
        choices=("fp16", "fp32"),
    )
    keep_states: int = _setting(
        2, "output", "expert", "States to keep", "How many resume states to keep in the run folder.", low=1, high=1000
    )
    checkpoint: str = _setting(
        "",
        "model",
        "headless",
        "Checkpoint",
        "Model to train on: in a webui the name of a checkpoint, or empty for the loaded one; "
        "without a webui a file or a folder.",
    )


def field_info() -> dict[str, dict[str, Any]]:
    """Settings (without ``concepts``) by name, in order: default, type name and field metadata."""
    return {name: info for name, info in _info(TrainConfig).items() if name != "concepts"}


def concept_field_info() -> dict[str, dict[str, Any]]:
    """Like :func:`field_info`, for the fields of a concept."""
    return _info(Concept)


def _info(owner: type) -> dict[str, dict[str, Any]]:
    return {
        # ``tuple[str, ...]`` is called ``tuple``.
        item.name: {"default": item.default, "type": str(item.type).partition("[")[0], **item.metadata}
        for item in fields(owner)
    }
