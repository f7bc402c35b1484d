"""What a run writes next to its bundle if it trains a negative LoRA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from lib_pivotal.core.bundle.metadata import RunFacts, build_metadata
from lib_pivotal.core.bundle.negative_lora import NEGATIVE_LORA_KEY, negative_path
from lib_pivotal.core.bundle.writer import write_bundle
from lib_pivotal.core.errors import BundleError
from lib_pivotal.core.train.setup import Setup
from lib_pivotal.core.train.start_from import alpha_ratio

__all__ = ["write_negative"]


def write_negative(
    setup: Setup,
    facts: RunFacts,
    path: Path,
    bundle_name: str,
    *,
    claim: Callable[[Path, Path], None] | None = None,
) -> list[str]:
    """Write the negative LoRA of a run; does nothing if it trains none.

    Args:
        setup: the prepared run.
        facts: those of the bundle, with the name of this file.
        path: where to write; replaced if it exists.
        bundle_name: name of the bundle, without suffix.
        claim: see ``write_bundle``.

    Returns:
        Warnings, since the bundle itself is complete.
    """
    parts = [part for part in setup.adapters if part.only_negative]
    if not parts:
        return []
    with setup.optimizer.averaged():
        tensors = {key: value for part in parts for key, value in part.state_dict().items()}
    config, rank = setup.config, setup.config.negative_rank
    own = replace(config, concepts=(), rank=rank, alpha=alpha_ratio(config) * rank, conv_rank=0, text_encoder_rank=0)
    try:
        written = write_bundle(
            path,
            tensors,
            {},
            {**build_metadata(own, {}, facts), NEGATIVE_LORA_KEY: bundle_name},
            words=None,
            lora_dtype=torch.float32 if config.save_precision == "fp32" else torch.float16,
            overwrite=path.exists(),
            claim=claim,
        )
    except BundleError as error:
        return [str(error)]
    if written.path.stem != negative_path(Path(f"{bundle_name}.safetensors")).stem:
        return [f"The negative LoRA is saved as {written.path.name}.", *written.warnings]
    return written.warnings
