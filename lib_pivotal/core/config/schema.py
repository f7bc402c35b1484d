"""Every setting of a training run: the single source for JSON, tab, API, docs and metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lib_pivotal.core.config.concept import Concept
from lib_pivotal.core.config.data_settings import DataSettings
from lib_pivotal.core.config.setting import setting, setting_info
from lib_pivotal.core.config.subset import Subset

__all__ = [
    "CONFIG_VERSION",
    "LISTS",
    "Concept",
    "Subset",
    "TrainConfig",
    "concept_field_info",
    "field_info",
    "subset_field_info",
]

CONFIG_VERSION = 1


@dataclass(frozen=True)
class TrainConfig(DataSettings):
    """All settings of a run. Field name = JSON key = element id = API name."""

    concepts: tuple[Concept, ...] = ()
    subsets: tuple[Subset, ...] = ()
    """Folders in addition to ``data_folder``."""

    # Training
    steps: int = setting(
        0,
        "training",
        "basic",
        "Steps",
        "Optimizer steps; 0 chooses them by the number of concepts and images: about 2400 samples per concept for SD1 "
        "and SD2, 1200 for SDXL, and 20 to 200 per image.",
        low=0,
        high=100_000,
    )
    batch_size: int = setting(
        2, "training", "basic", "Batch size", "Images per batch; lower it if memory runs out.", low=1, high=64
    )
    unet_lr: float = setting(
        2e-4,
        "training",
        "basic",
        "UNet learning rate",
        "Learning rate of the LoRA. Lower it (1e-4) for fewer than 20 images.",
        low=0.0,
        high=1.0,
    )
    embedding_lr: float = setting(
        5e-3,
        "training",
        "basic",
        "Embedding learning rate",
        "Learning rate of the embeddings; 5e-3 suits SD1, 1e-3 suits SDXL.",
        low=0.0,
        high=1.0,
    )
    seed: int = setting(
        1234,
        "training",
        "basic",
        "Seed",
        "The same seed, images and settings give the same result.",
        low=0,
        high=2**31 - 1,
    )
    start_from: str = setting(
        "",
        "training",
        "advanced",
        "Start from weights",
        "Path of a bundle, a run folder or a state: a new run starts from its embeddings and LoRA and trains both from "
        "the first step, with the same names, vectors and ranks. Empty starts from the initialization texts.",
    )
    keep_names: float = setting(
        0.0,
        "training",
        "advanced",
        "Keep the other names",
        "Adds concepts to the bundle in Start from weights: its names that this run does not train stay in the new "
        "bundle, and this is the weight of keeping what its LoRA does for them, 1 for example. 0 trains only names "
        "that the bundle has, and drops its other ones.",
        low=0.0,
        high=10.0,
    )
    accumulation: int = setting(
        1,
        "training",
        "advanced",
        "Gradient accumulation",
        "Batches per step: batch size 2 with 2 accumulated trains like batch size 4 in the memory of 2.",
        low=1,
        high=64,
    )
    memory: str = setting(
        "auto",
        "training",
        "advanced",
        "GPU memory",
        "fast uses all the memory it needs; save recomputes activations and offloads idle networks, so that a step "
        "takes a third longer, or twice as long where the CPU is the limit; auto is fast where that fits, then keeps "
        "less at nearly the same speed, and saves if it must.",
        choices=("auto", "fast", "save"),
    )
    gradient_checkpointing: bool = setting(
        False,
        "training",
        "advanced",
        "Gradient checkpointing",
        "Saves a lot of memory; a step takes a third longer, or nearly twice as long where the CPU is the limit.",
    )
    cuda_graphs: bool = setting(
        True,
        "training",
        "expert",
        "CUDA graphs",
        "Records the forward and backward passes of a step once for each image size and repeats them without Python, "
        "which is faster where the CPU is the limit. Used only on NVIDIA GPUs with enough memory for the activations "
        'twice, and not with recomputed blocks, negative embeddings or "Keep outside masks". Where recording fails, '
        "steps run as usual.",
    )
    precision: str = setting(
        "auto",
        "training",
        "advanced",
        "Precision",
        "Precision of the forward pass; trained values are always fp32. auto follows the model.",
        choices=("auto", "fp32", "fp16", "bf16"),
    )
    clip_skip: int = setting(
        1,
        "training",
        "advanced",
        "Clip skip",
        "The same as in the webui's settings; 1 is the last layer. Use the value you generate with.",
        low=1,
        high=4,
    )

    # LoRA
    lora_kind: str = setting(
        "lora",
        "lora",
        "advanced",
        "Kind of LoRA",
        "lora suits most data sets. loha has a higher rank in the same file size: more flexible with several concepts, "
        "weaker in fine details. lokr learns from whole matrices whose size the LoKr factor sets; rank and alpha only "
        "decide which layers it trains. All webuis and Forge read these three. dora also trains the strength of every "
        "input, which helps at low ranks, and ignores alpha; only A1111 from 1.9 on, Forge and ComfyUI read it.",
        choices=("lora", "loha", "lokr", "dora"),
    )
    lokr_factor: int = setting(
        8,
        "lora",
        "advanced",
        "LoKr factor",
        "The file shrinks with its square: 4 to 8 for subjects that are hard to learn, 16 for easy ones; 0 makes it as "
        "small as possible, which transfers badly to other models.",
        low=0,
        high=64,
    )
    lora_layers: str = setting(
        "blocks",
        "lora",
        "advanced",
        "LoRA layers",
        "Layers of the UNet that get the LoRA rank. blocks: attention and feed-forward; attention: without "
        "feed-forward; cross_kv: only what the prompt passes through, for a small file that changes little else; "
        "content or style: only the block of SDXL that draws what is shown, or how.",
        choices=("blocks", "attention", "cross_kv", "content", "style"),
    )
    rank: int = setting(
        16,
        "lora",
        "basic",
        "LoRA rank",
        "Rank of the LoRA, which sets its size; change alpha with it, and use 32 for styles. With 0, no LoRA is "
        "trained in the attention and feed-forward layers.",
        low=0,
        high=256,
    )
    alpha: float = setting(
        8.0,
        "lora",
        "basic",
        "LoRA alpha",
        "Effective strength is alpha / rank; half the rank is a good value.",
        low=0.0,
        high=512.0,
    )
    conv_rank: int = setting(
        0,
        "lora",
        "advanced",
        "Convolution rank",
        "Also train the UNet's convolutions at this rank (LoCon), with the other layers of its residual blocks and the "
        "projections around its attention; 0 does not train them. Helps with styles.",
        low=0,
        high=256,
    )
    text_encoder_rank: int = setting(
        0,
        "lora",
        "advanced",
        "Text encoder rank",
        "Also train a LoRA of the text encoder; 0 leaves it unchanged, which is the point of pivotal tuning.",
        low=0,
        high=256,
    )
    text_encoder_lr: float = setting(
        6e-5,
        "lora",
        "advanced",
        "Text encoder learning rate",
        "Learning rate of the text encoder's LoRA.",
        low=0.0,
        high=1.0,
    )

    negative_rank: int = setting(
        0,
        "lora",
        "expert",
        "Negative LoRA rank",
        "Rank of a second LoRA, which acts only on the prediction for the negative prompt. It is saved as NAME-neg, "
        "and only webuis with this extension apply it to the negative prompt alone. 0 trains none.",
        low=0,
        high=256,
    )

    # Optimizer
    optimizer: str = setting(
        "adamw",
        "optimizer",
        "advanced",
        "Optimizer",
        "Trains the LoRA; embeddings always use AdamW. adamw8bit needs an NVIDIA GPU and saves memory at high ranks; "
        "prodigy-plus finds the learning rate itself (set it to 1); lion wants a fifth of the usual learning rate. All "
        "but adamw must be installed; module:Class uses any other installed optimizer.",
        choices=("adamw", "adamw8bit", "prodigy-plus", "lion"),
        allows_others=True,
    )
    optimizer_args: str = setting(
        "",
        "optimizer",
        "advanced",
        "Optimizer arguments",
        "Arguments of the LoRA's optimizer as name=value, separated by spaces, such as betas=0.9,0.99 d_coef=0.8.",
    )
    schedule: str = setting(
        "cosine",
        "optimizer",
        "advanced",
        "LR schedule",
        "cosine lowers the learning rates to 0: that of the LoRA by the last step, those of the embeddings where their "
        "training stops. constant keeps them.",
        choices=("cosine", "constant"),
    )
    warmup: float = setting(
        0.05,
        "optimizer",
        "advanced",
        "Warm-up",
        "Fraction of the steps over which the LoRA's learning rate rises from 0 once it starts.",
        low=0.0,
        high=0.5,
    )
    lora_start: float = setting(
        0.2,
        "optimizer",
        "advanced",
        "LoRA starts at",
        "Fraction of the steps in which only the embeddings train, so they learn the subject before the LoRA starts. "
        "0 trains both from the start. Without concepts the LoRA starts right away.",
        low=0.0,
        high=0.9,
    )
    weight_decay: float = setting(
        1e-3,
        "optimizer",
        "advanced",
        "Weight decay",
        "Applied to the LoRA only; embeddings have no weight decay.",
        low=0.0,
        high=1.0,
    )
    clip_norm: float = setting(
        1.0,
        "optimizer",
        "advanced",
        "Gradient clipping",
        "Maximum gradient norm of the LoRA and of each embedding; 0 turns clipping off.",
        low=0.0,
        high=100.0,
    )
    max_weight_change: float = setting(
        0.0,
        "optimizer",
        "advanced",
        "Largest weight change",
        "Limits how far the LoRA may change a layer, as the norm of the change: against overcooked images, and for a "
        "LoRA that is to be combined with others (1 is common). 0 turns it off.",
        low=0.0,
        high=1000.0,
    )
    loss_weighting: str = setting(
        "min_snr",
        "optimizer",
        "advanced",
        "Loss weighting",
        "How much each noise level counts. min_snr caps the weight of nearly clean images. debiased also weighs the "
        "noisiest levels up to fifteen times as much, so that composition is learned first, but small data sets are "
        "soon learned by heart; for models that predict velocity it only lowers the weight of the other levels. none "
        "weighs all levels equally.",
        choices=("min_snr", "debiased", "none"),
    )
    min_snr_gamma: float = setting(
        5.0,
        "optimizer",
        "advanced",
        "Min-SNR gamma",
        "Caps the weight of nearly clean images; 0 weighs all noise levels equally.",
        low=0.0,
        high=100.0,
    )
    huber_c: float = setting(
        0.0,
        "optimizer",
        "advanced",
        "Huber c",
        "Errors above about this size count linearly instead of squared, so that single bad images do less harm; 0 "
        "turns it off. 0.1 keeps a style apart from the characters of a cast, but costs details of a single character.",
        low=0.0,
        high=10.0,
    )
    noise_offset: float = setting(
        0.0,
        "optimizer",
        "advanced",
        "Noise offset",
        "Shifts the brightness of the noise at random, so that a style can be very dark or bright (0.03 to 0.05); "
        "shifts the brightness of everything else a little, too. 0 turns it off.",
        low=0.0,
        high=0.5,
    )
    min_timestep: float = setting(
        0.0,
        "optimizer",
        "advanced",
        "Lowest noise level",
        "Fraction of the noise schedule below which nothing is trained; the lowest levels only hold fine grain.",
        low=0.0,
        high=0.95,
    )
    max_timestep: float = setting(
        1.0,
        "optimizer",
        "advanced",
        "Highest noise level",
        "Fraction of the noise schedule above which nothing is trained. The highest levels decide the composition, "
        "which is learned by heart first; 0.8 is worth a try with fewer than ten images. In our measurements, 0.9 "
        "brought nothing.",
        low=0.05,
        high=1.0,
    )
    stratified_timesteps: bool = setting(
        False,
        "optimizer",
        "advanced",
        "Spread the noise levels",
        "Spread the noise levels of the images of a step evenly instead of drawing each by itself: with several images "
        "per step, the loss varies less from step to step.",
    )
    embedding_norms: str = setting(
        "band",
        "optimizer",
        "advanced",
        "Embedding norms",
        "How far the norm of a vector may move away from its initial norm: band allows 0.5 to 1.5 times, direction "
        "keeps it and lets only the direction change, free sets no limit.",
        choices=("band", "direction", "free"),
    )
    negative_guidance: float = setting(
        3.0,
        "optimizer",
        "expert",
        "Negative guidance",
        "CFG scale with which a concept and its negative embedding are trained; it has no effect without negative "
        "vectors.",
        low=1.0,
        high=20.0,
        is_low_excluded=True,
    )
    negative_with_lora: bool = setting(
        False,
        "optimizer",
        "expert",
        "LoRA on the negative",
        "Also apply the LoRA to what the negative embedding predicts, as a generation does; without, the negative "
        "embedding learns on the unchanged model. It has no effect without negative vectors.",
    )

    # Samples
    sample_every: int = setting(
        100,
        "samples",
        "basic",
        "Sample every",
        "Make preview images every N steps, and before step 1; 0 makes none.",
        low=0,
        high=100_000,
        unit="steps",
    )
    sample_prompts: str = setting(
        "",
        "samples",
        "basic",
        "Sample prompts",
        "One prompt per line; empty uses one prompt per concept.",
    )
    sample_negative: str = setting(
        "",
        "samples",
        "advanced",
        "Sample negative prompt",
        "Negative prompt of all preview images; empty uses the negative embeddings of the concepts in the prompt.",
    )
    sample_steps: int = setting(
        20, "samples", "advanced", "Sample steps", "Sampling steps per preview image.", low=1, high=150
    )
    sample_cfg: float = setting(
        7.0, "samples", "advanced", "Sample CFG scale", "CFG scale of the preview images.", low=1.0, high=30.0
    )
    sample_seed: int = setting(
        1,
        "samples",
        "advanced",
        "Sample seed",
        "Seed of the preview images; it stays the same so that they can be compared.",
        low=0,
        high=2**31 - 1,
    )

    # Output
    output_name: str = setting(
        "",
        "output",
        "basic",
        "Output name",
        "File name of the bundle, and the NAME in <lora:NAME:1>.",
    )
    if_exists: str = setting(
        "refuse",
        "output",
        "advanced",
        "If the name exists",
        "refuse reports it before training starts; number adds a number to the name; overwrite replaces the file.",
        choices=("refuse", "number", "overwrite"),
    )
    save_every: int = setting(
        0,
        "output",
        "advanced",
        "Save every",
        "Also save a numbered bundle next to the final one and a resume state every N steps; 0 saves at the end only.",
        low=0,
        high=100_000,
        unit="steps",
    )
    step_bundles: int = setting(
        8,
        "output",
        "advanced",
        "Steps to choose from",
        "Keep the bundles of about N steps, spread over the run, in the run folder, so that the best one can be chosen "
        "afterwards; 0 keeps only the last one.",
        low=0,
        high=100,
    )
    save_precision: str = setting(
        "fp16",
        "output",
        "advanced",
        "LoRA precision in the file",
        "fp16 halves the file size; fp32 keeps exactly what was trained. Embeddings are always fp32.",
        choices=("fp16", "fp32"),
    )
    keep_states: int = setting(
        2, "output", "expert", "States to keep", "How many resume states to keep in the run folder.", low=1, high=1000
    )
    checkpoint: str = setting(
        "",
        "model",
        "headless",
        "Checkpoint",
        "Model to train on: in a webui the name of a checkpoint, or empty for the loaded one; "
        "without a webui a file or a folder.",
    )


LISTS = ("concepts", "subsets")
"""Settings that are lists of objects with settings of their own."""


def field_info() -> dict[str, dict[str, Any]]:
    """Settings (without the lists of objects) by name, in order: default, type name and field metadata."""
    return {name: info for name, info in setting_info(TrainConfig).items() if name not in LISTS}


def concept_field_info() -> dict[str, dict[str, Any]]:
    """Like :func:`field_info`, for the fields of a concept."""
    return setting_info(Concept)


def subset_field_info() -> dict[str, dict[str, Any]]:
    """Like :func:`field_info`, for the fields of a subset."""
    return setting_info(Subset)
