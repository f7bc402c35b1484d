"""Metadata of a bundle: kohya's ``ss_*``, ``modelspec.*``, and our own JSON."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from lib_pivotal import __version__
from lib_pivotal.core.bundle.values import embedding_hash
from lib_pivotal.core.config.io import to_dict
from lib_pivotal.core.config.negative import negatives_of, trained_embeddings
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.families import FAMILIES

if TYPE_CHECKING:
    from lib_pivotal.core.bundle.embeddings import BundledEmbedding

__all__ = [
    "BUNDLE_KEY",
    "RunFacts",
    "build_metadata",
    "bundled_core_tags",
    "changed_metadata",
    "own_metadata",
    "trigger_words",
]

BUNDLE_KEY = "pivotal_bundle"

_MAX_CORE_TAGS = 50
"""Maximum number of core tags per embedding that are shown."""

_COVER_SIDE = 256
"""Size in px; small, because previews are stored inside the file."""


def trigger_words(config: TrainConfig, kept: Collection[str] = ()) -> str:
    """The names to type in prompts, separated by commas.

    Args:
        config: has the names of the run.
        kept: names that it keeps without training them.
    """
    names = [*(concept.name for concept in config.concepts), *kept]
    negatives = negatives_of(config.concepts, kept)
    return ", ".join(name for name in names if name not in negatives)


@dataclass(frozen=True)
class RunFacts:
    """What a bundle says about its run in addition to the settings.

    Attributes:
        family: name of the model's family.
        step: number of trained steps.
        output_name: file name without suffix; it must match the file, because the webui uses it as an alias.
        model_name: name of the checkpoint trained on.
        model_hash: sha256 of the checkpoint, or empty.
        is_v_prediction: whether the model predicts velocity.
        image_count: number of images in the dataset.
        date: current time as ISO 8601 in UTC.
        network_module: kohya's name of the kind of adapters.
        network_args: their additional parameters, see ``core.lora.adapter.Adapter.network_args``.
        optimizer: class that trained them.
        kept: names that the run keeps without training them.
    """

    family: str
    step: int
    output_name: str
    model_name: str
    model_hash: str
    is_v_prediction: bool
    image_count: int
    date: str
    network_module: str = "networks.lora"
    network_args: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str = "torch.optim.adamw.AdamW"
    kept: Sequence[str] = ()


def build_metadata(
    config: TrainConfig,
    embeddings: Mapping[str, Mapping[str, torch.Tensor]],
    facts: RunFacts,
    *,
    covers: Sequence[Image.Image] = (),
) -> dict[str, str]:
    """Build the metadata of a bundle; safetensors only allows strings.

    Args:
        config: the settings of the run.
        embeddings: name → encoder → vectors ``(n, width)``.
        facts: everything else.
        covers: preview images; small copies are stored.

    Source: https://github.com/Stability-AI/ModelSpec for ``modelspec.*``.
    Host: modules/ui_extra_networks_lora.py and extensions-builtin/Lora/network.py, A1111 1.6.1-1.10.1: read
        ss_base_model_version, ss_v2, ss_output_name and ssmd_cover_images.
    """
    values = {**_kohya(config, facts), **_modelspec(config, facts), BUNDLE_KEY: _own(config, embeddings, facts)}
    if covers:
        values["ssmd_cover_images"] = [_as_base64(cover) for cover in covers]
    return {key: _as_text(value) for key, value in values.items() if value != ""}


def _kohya(config: TrainConfig, facts: RunFacts) -> dict[str, Any]:
    family = FAMILIES[facts.family]
    return {
        "ss_base_model_version": family.base_version,
        "ss_v2": str(family.is_v2),
        "ss_output_name": facts.output_name,
        "ss_network_module": facts.network_module,
        "ss_network_dim": config.rank,
        # A DoRA has no alpha of its own.
        "ss_network_alpha": config.rank if config.lora_kind == "dora" else config.alpha,
        "ss_network_args": dict(facts.network_args),
        "ss_sd_model_name": facts.model_name,
        "ss_new_sd_model_hash": facts.model_hash,
        "ss_learning_rate": config.unet_lr,
        "ss_unet_lr": config.unet_lr,
        "ss_text_encoder_lr": config.text_encoder_lr if config.text_encoder_rank else 0.0,
        "ss_steps": facts.step,
        "ss_max_train_steps": facts.step,
        "ss_total_batch_size": config.batch_size * config.accumulation,
        "ss_num_train_images": facts.image_count,
        "ss_resolution": f"({config.resolution}, {config.resolution})",
        "ss_clip_skip": config.clip_skip,
        "ss_seed": config.seed,
        "ss_min_snr_gamma": config.min_snr_gamma,
        "ss_lr_scheduler": config.schedule,
        "ss_optimizer": facts.optimizer,
        "ss_training_finished_at": facts.date,
    }


def _modelspec(config: TrainConfig, facts: RunFacts) -> dict[str, Any]:
    family = FAMILIES[facts.family]
    architecture = family.v_architecture if facts.is_v_prediction else family.architecture
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": facts.output_name,
        "modelspec.date": facts.date,
        "modelspec.resolution": f"{config.resolution}x{config.resolution}",
        "modelspec.prediction_type": "v" if facts.is_v_prediction else "epsilon",
        "modelspec.trigger_phrase": trigger_words(config, facts.kept),
    }


def _own(config: TrainConfig, embeddings: Mapping[str, Mapping[str, torch.Tensor]], facts: RunFacts) -> dict[str, Any]:
    settings = to_dict(config)
    # Paths are private and of no use to others.
    for name in ("data_folder", "mask_folder", "caption_template", "start_from"):
        del settings[name]
    settings["subsets"] = [
        {name: value for name, value in subset.items() if name not in ("folder", "mask_folder")}
        for subset in settings["subsets"]
    ]
    negatives = negatives_of(config.concepts, facts.kept)
    concepts = {
        concept.name: {
            "init_text": concept.init_text,
            "vectors": int(next(iter(embeddings[concept.name].values())).shape[0]),
            "sha256": embedding_hash(embeddings[concept.name]),
            # For prompts in which the name alone is too weak.
            **({"core_tags": list(concept.core_tags)} if concept.core_tags else {}),
            # For the negative prompt of prompts with this name.
            **({"negative_of": negatives[concept.name]} if concept.name in negatives else {}),
        }
        for concept in trained_embeddings(config.concepts)
    }
    for name in facts.kept:
        vectors = embeddings[name]
        concepts[name] = {
            "vectors": int(next(iter(vectors.values())).shape[0]),
            "sha256": embedding_hash(vectors),
            **({"negative_of": negatives[name]} if name in negatives else {}),
        }
    values = {"version": 1, "written_by": __version__, "embeddings": concepts, "settings": settings}
    if FAMILIES[facts.family].has_size_conditioning:
        values["size_conditioning"] = ["original", "crop", "bucket"]
    return values


def own_metadata(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Our own part of the metadata of a bundle, which may contain anything; empty if there is none.

    Args:
        metadata: of a file; the webui has parsed the values that are JSON objects.
    """
    own = metadata.get(BUNDLE_KEY)
    try:
        own = json.loads(own) if isinstance(own, str) else own
    except (ValueError, RecursionError):
        return {}
    return own if isinstance(own, Mapping) else {}


def bundled_core_tags(metadata: Mapping[str, Any]) -> dict[str, list[str]]:
    """The core tags of each embedding, from the metadata of a bundle, which may contain anything.

    Args:
        metadata: of a file; the webui has parsed the values that are JSON objects.
    """
    embeddings = own_metadata(metadata).get("embeddings")
    found = {}
    for name, facts in embeddings.items() if isinstance(embeddings, Mapping) else ():
        tags = facts.get("core_tags") if isinstance(facts, Mapping) else None
        if isinstance(tags, list) and tags and all(isinstance(tag, str) for tag in tags):
            found[str(name)] = tags[:_MAX_CORE_TAGS]
    return found


def changed_metadata(
    metadata: Mapping[str, str],
    old_stem: str,
    new_stem: str,
    *,
    added: Mapping[str, BundledEmbedding] | None = None,
    removed: Sequence[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Update the metadata of a bundle whose embeddings were changed.

    Args:
        metadata: previous metadata; entries that concern neither names nor contents are kept.
        old_stem: previous file name without suffix.
        new_stem: new file name without suffix.
        added: name → added embedding.
        removed: names of removed embeddings.
        renamed: old name → new name.

    Host: extensions-builtin/Lora/network.py, ``NetworkOnDisk``, A1111 1.6.1-1.10.1: takes ``ss_output_name`` as the
        file's second name and ``sshs_model_hash`` as its identity without looking at the contents.
    """
    renamed = renamed or {}
    values = {key: value for key, value in metadata.items() if not key.startswith("sshs_")}
    # cloneofsimo's markers of tokens that were removed or now have a key of the common format.
    for name in [*removed, *renamed]:
        if values.get(name) == "<embed>":
            del values[name]
    for key in ("ss_output_name", "modelspec.title"):
        if key in values and (key == "ss_output_name" or values[key] == old_stem):
            values[key] = new_stem
    try:
        own = json.loads(values[BUNDLE_KEY])
        before = own["embeddings"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return values
    if not isinstance(before, dict):
        return values
    after = {renamed.get(name, name): facts for name, facts in before.items() if name not in removed}
    for name, item in (added or {}).items():
        after[name] = {"vectors": item.vector_count, "sha256": embedding_hash(item.encoders)}
    values[BUNDLE_KEY] = _as_text({**own, "embeddings": after})
    # Replaced only if the trainer wrote it; the author's own text is kept.
    if values.get("modelspec.trigger_phrase") == _phrase(before):
        values["modelspec.trigger_phrase"] = _phrase(after)
    return values


def _phrase(embeddings: Mapping[str, Any]) -> str:
    """The trigger phrase of these entries, to which negative embeddings do not belong."""
    return ", ".join(
        name for name, facts in embeddings.items() if not (isinstance(facts, dict) and "negative_of" in facts)
    )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_base64(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((_COVER_SIDE, _COVER_SIDE))
    buffer = io.BytesIO()
    small.convert("RGB").save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()
