"""Settings that do not go with the model."""

from __future__ import annotations

from collections.abc import Sequence

from lib_pivotal.core.bundle.forge_limit import MAX_KEYS_ON_FORGE
from lib_pivotal.core.config.negative import trained_embeddings
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.families import FAMILIES, Family

__all__ = ["check_layers", "check_schedule", "family_hints"]

_ZERO_TERMINAL_BELOW = 1e-5
"""The last value of a schedule with zero terminal SNR is below this."""


def check_layers(config: TrainConfig, family: str) -> list[Problem]:
    """Check that the model has the blocks that are to be trained.

    Args:
        config: the settings.
        family: see :func:`family_hints`; empty if it is not known.
    """
    layers = config.lora_layers
    owners = [item for item in FAMILIES.values() if layers in item.block_layers]
    if not family or not owners or layers in FAMILIES[family].block_layers or not config.rank:
        return []
    titles = " and ".join(item.title for item in owners)
    text = f"Only {titles} has {layers} blocks, and the model is {FAMILIES[family].title}."
    return [Problem("lora_layers", "error", text, "Choose other layers, or load another model.")]


def check_schedule(config: TrainConfig, alphas_cumprod: Sequence[float]) -> list[Problem]:
    """Find settings that contradict the model's noise schedule.

    Args:
        config: the settings.
        alphas_cumprod: of all timesteps, the noisiest last.
    """
    if not config.noise_offset or alphas_cumprod[-1] > _ZERO_TERMINAL_BELOW:
        return []
    text = "This model is used with zero terminal SNR, which makes dark and bright images without a noise offset."
    return [Problem("noise_offset", "error", text, "Set it to 0.")]


def family_hints(family: str, native_resolution: int, config: TrainConfig) -> list[Problem]:
    """Warn about settings that work badly with the loaded model.

    Args:
        family: name of the model's family, see ``core.families``.
        native_resolution: side length in px that the model was trained for.
        config: the settings.
    """
    kind = FAMILIES[family]
    problems = _key_hints(kind, len(trained_embeddings(config.concepts)))
    if not 0.7 * native_resolution <= config.resolution <= 1.5 * native_resolution:
        text = f"The model was made for about {native_resolution} px; quality drops at {config.resolution} px."
        problems.append(Problem("resolution", "warning", text, f"Use {native_resolution}, or a little less."))
    if config.concepts and config.embedding_lr > 2 * kind.usual_embedding_lr:
        text = f"{config.embedding_lr:g} is a high learning rate for embeddings of {kind.title}."
        problems.append(Problem("embedding_lr", "warning", text, f"{kind.usual_embedding_lr:g} is usual."))
    if config.clip_skip > 1 and not kind.allows_clip_skip:
        text = f"{kind.title} always uses the text encoder layer it was trained with; clip skip has no effect."
        problems.append(Problem("clip_skip", "warning", text, "Leave it at 1."))
    return problems


def _key_hints(kind: Family, concept_count: int) -> list[Problem]:
    """Warn if Forge without this extension would reject a bundle with this many embeddings, see ``forge_limit``."""
    keys = concept_count * len(kind.text_encoders)
    if keys <= MAX_KEYS_ON_FORGE:
        return []
    most = MAX_KEYS_ON_FORGE // len(kind.text_encoders)
    text = f"Forge without this extension rejects {kind.title} bundles with more than {most} embeddings."
    return [Problem("concepts", "warning", text, f"Train at most {most} per file if Forge users are to load it.")]
