"""Writes the fused bundle, with metadata that says what it was made of."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lib_pivotal import __version__
from lib_pivotal.core.bundle.metadata import BUNDLE_KEY, own_metadata
from lib_pivotal.core.bundle.values import embedding_hash
from lib_pivotal.core.bundle.writer import WrittenBundle, write_bundle
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.fuse.report import BundleReport
from lib_pivotal.core.fuse.source import FuseSource
from lib_pivotal.core.ports import DiffusionModel

__all__ = ["write_fused"]

_SAME_FOR_ALL = ("ss_clip_skip",)
_MODEL_KEYS = ("ss_sd_model_name", "ss_new_sd_model_hash")


def write_fused(
    out: Path,
    lora: Mapping[str, torch.Tensor],
    sources: Sequence[FuseSource],
    model: DiffusionModel,
    report: Sequence[BundleReport],
    *,
    inputs: str,
    overwrite: bool,
) -> WrittenBundle:
    """Write the bundle.

    Args:
        out: the file.
        lora: kohya key → tensor.
        sources: the bundles that were fused.
        model: the model on which they were fused.
        report: one per bundle.
        inputs: what was recorded, ``images`` or ``samples``.
        overwrite: whether to replace an existing file.

    Raises:
        BundleError: the file exists and must not be replaced, or cannot be written.
    """
    embeddings = {name: dict(item) for source in sources for name, item in source.bundle.embeddings.items()}
    words = ", ".join(embeddings)
    metadata = {
        **_network(lora, out.stem, model),
        **{key: sources[0].bundle.metadata[key] for key in _SAME_FOR_ALL if key in sources[0].bundle.metadata},
        "modelspec.trigger_phrase": words,
        BUNDLE_KEY: json.dumps(_own(embeddings, sources, report, inputs), ensure_ascii=False),
    }
    title = FAMILIES[model.family].title
    return write_bundle(out, lora, embeddings, metadata, words=words, title=title, overwrite=overwrite)


def _network(lora: Mapping[str, torch.Tensor], name: str, model: DiffusionModel) -> dict[str, str]:
    """Kohya's and modelspec's fields."""
    family = FAMILIES[model.family]
    rank = str(max(value.shape[0] for key, value in lora.items() if key.endswith("lora_down.weight")))
    values = {
        "ss_base_model_version": family.base_version,
        "ss_v2": str(family.is_v2),
        "ss_output_name": name,
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
        "ss_sd_model_name": model.model_name,
        "ss_new_sd_model_hash": model.model_hash,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{family.v_architecture if model.is_v_prediction else family.architecture}/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": name,
        "modelspec.date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "modelspec.prediction_type": "v" if model.is_v_prediction else "epsilon",
    }
    return {key: value for key, value in values.items() if value}


def _own(
    embeddings: Mapping[str, Mapping[str, torch.Tensor]],
    sources: Sequence[FuseSource],
    report: Sequence[BundleReport],
    inputs: str,
) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for source in sources:
        before = own_metadata(source.bundle.metadata).get("embeddings")
        for name in source.names:
            known = before.get(name) if isinstance(before, dict) else None
            vectors = embeddings[name]
            facts[name] = {
                **(known if isinstance(known, dict) else {}),
                "vectors": int(next(iter(vectors.values())).shape[0]),
                "sha256": embedding_hash(vectors),
            }
    made_of = [
        {
            **item.as_dict(),
            **{key: source.bundle.metadata[key] for key in _MODEL_KEYS if key in source.bundle.metadata},
        }
        for source, item in zip(sources, report, strict=True)
    ]
    return {"version": 1, "written_by": __version__, "embeddings": facts, "fused": {"inputs": inputs, "from": made_of}}
