"""The concept lists and the training settings of OneTrainer.

Source: https://github.com/Nerogar/OneTrainer, modules/util/config/ConceptConfig.py and TrainConfig.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_pivotal.core.config.subset import REGULARIZATION, TRAIN, VALIDATION
from lib_pivotal.core.importers.found import Found, mapping, objects
from lib_pivotal.core.importers.kohya_data_set import side_length
from lib_pivotal.core.importers.length import image_count, steps_per_epoch
from lib_pivotal.core.importers.section import Section
from lib_pivotal.core.importers.source_file import parse

__all__ = ["read_concepts", "read_training"]

_KINDS = {"standard": TRAIN, "validation": VALIDATION, "prior_prediction": REGULARIZATION}
_CAPTIONS = {"sample": "txt", "filename": "filename", "concept": "template"}
_OLD_KEYS = {"repeats": "balancing"}
_WITHOUT_MEANING = ("name", "seed", "__version")
_SETTINGS = {
    "base_model_name": ("checkpoint", Section.path),
    "learning_rate": ("unet_lr", Section.number),
    "embedding_learning_rate": ("embedding_lr", Section.number),
    "lora_rank": ("rank", Section.whole),
    "lora_alpha": ("alpha", Section.number),
    "batch_size": ("batch_size", Section.whole),
    "gradient_accumulation_steps": ("accumulation", Section.whole),
    "clip_grad_norm": ("clip_norm", Section.number),
    "unmasked_weight": ("mask_floor", Section.number),
    "masked_prior_preservation_weight": ("mask_prior", Section.number),
}


def read_concepts(values: list[Any], found: Found) -> None:
    """Read a list of concepts, which are folders in our words.

    Args:
        values: contents of ``concepts.json``.
        found: receives the result.
    """
    found.kind = found.kind or "concept list of OneTrainer"
    found.put("folder_repeats", "no")
    texts, images = [], []
    for values_of_one in objects(values):
        migrated = {_OLD_KEYS.get(key, key): value for key, value in values_of_one.items()}
        section = Section(found, migrated, "concepts.")
        text = Section(found, mapping(section.raw("text")), "concepts.text.")
        image = Section(found, mapping(section.raw("image")), "concepts.image.")
        if _add_concept(found, section, text):
            texts.append(text)
            images.append(image)
        for part in (section, text, image):
            part.close()
    _share(found, texts, images)
    for part in (*texts, *images):
        part.close()


def _add_concept(found: Found, section: Section, text: Section) -> bool:
    """Add a folder; returns whether it is one that is trained."""
    for key in _WITHOUT_MEANING:
        section.raw(key)
    folder = section.path("path")
    if section.flag("enabled") is False or folder is None:
        found.leave(f"concept {section.raw('name') or folder or 'without a path'}")
        return False
    kind = section.choice("type", _KINDS) or TRAIN
    if section.flag("validation_concept"):
        kind = VALIDATION
    if kind == REGULARIZATION:
        found.put("regularization_target", "prior")
    subset: dict[str, Any] = {
        "folder": folder,
        "kind": kind,
        "captions": text.choice("prompt_source", _CAPTIONS) or "txt",
        # OneTrainer looks into subfolders only where the file says so.
        "subfolders": bool(section.flag("include_subdirectories")),
        "loss_weight": section.number("loss_weight"),
    }
    if text.flag("enable_tag_shuffling"):
        subset["keep_first"] = text.whole("keep_tags_count")
    subset["repeats"] = _repeats(section, subset)
    found.subsets.append({name: value for name, value in subset.items() if value is not None})
    return kind == TRAIN


def _repeats(section: Section, subset: dict[str, Any]) -> float | None:
    """How often its images count; OneTrainer can also take a number of images from a folder."""
    amount = section.number("balancing")
    is_count = section.choice("balancing_strategy", {"repeats": False, "samples": True})
    if not is_count or amount is None:
        return amount
    count = image_count(subset)
    if count:
        return amount / count
    section.leave("balancing", "It counts images, and the folder does not exist here.", "Set the repeats.")
    return None


def _share(found: Found, texts: list[Section], images: list[Section]) -> None:
    """Set what is one setting for the whole data set here."""
    found.agree("flip", "concepts.image.enable_random_flip", [image.flag("enable_random_flip") for image in images])
    shuffle = [bool(text.flag("enable_tag_shuffling")) for text in texts]
    found.agree("shuffle_tags", "concepts.text.enable_tag_shuffling", shuffle)
    templates = [text.path("prompt_path") for text in texts if text.raw("prompt_source") == "concept"]
    found.agree("caption_template", "concepts.text.prompt_path", templates)
    dropout, by_position, protected = [], [], []
    for text in texts:
        is_on = text.flag("tag_dropout_enable")
        mode = str(text.raw("tag_dropout_mode") or "FULL").upper()
        chance = text.number("tag_dropout_probability")
        if is_on and mode == "FULL":
            text.leave("tag_dropout_mode", "It drops all tags at once.", "Set name_only for captions of names alone.")
            is_on = False
        dropout.append(chance if is_on else 0.0)
        by_position.append(bool(is_on and mode == "RANDOM WEIGHTED"))
        protected.append(_protected(text) if is_on else ())
    found.agree("tag_dropout", "concepts.text.tag_dropout_probability", dropout)
    found.agree("tag_dropout_by_position", "concepts.text.tag_dropout_mode", by_position)
    found.agree("protected_tags", "concepts.text.tag_dropout_special_tags", protected)


def _protected(text: Section) -> tuple[str, ...]:
    """Tags that are never dropped."""
    mode = str(text.raw("tag_dropout_special_tags_mode") or "NONE").upper()
    tags = text.text("tag_dropout_special_tags") or ""
    if mode == "NONE" or not tags:
        return ()
    if mode != "WHITELIST" or text.flag("tag_dropout_special_tags_regex"):
        text.leave("tag_dropout_special_tags", "Only lists of tags that are never dropped can be used.")
        return ()
    return tuple(tag.strip() for tag in tags.split(",") if tag.strip())


def read_training(values: Mapping[str, Any], found: Found) -> None:
    """Read training settings, with the concept list and the embeddings that they name.

    Args:
        values: contents of the file.
        found: receives the result.
    """
    found.kind = "training settings of OneTrainer"
    section = Section(found, values)
    for key, (name, read) in _SETTINGS.items():
        found.put(name, read(section, key))
    found.put("resolution", side_length(section, "resolution"))
    found.put("schedule", section.choice("learning_rate_scheduler", {"cosine": "cosine", "constant": "constant"}))
    destination = section.text("output_model_destination")
    if destination:
        found.put("output_name", destination.replace("\\", "/").rpartition("/")[2].removesuffix(".safetensors"))
    if section.flag("masked_training"):
        found.put("masks", "masklabel")
        found.put("unmasked_share", 0.0)
    _read_skip(found, section)
    _read_folders(found, section)
    _read_length(found, section)
    _read_embeddings(found, section)
    section.close()


def _read_skip(found: Found, section: Section) -> None:
    skipped = section.whole("text_encoder_layer_skip")
    if skipped and "XL" in str(section.raw("model_type")):
        section.leave("text_encoder_layer_skip", "The layer of SDXL is fixed here.")
    elif skipped is not None:
        found.put("clip_skip", skipped + 1)


def _read_folders(found: Found, section: Section) -> None:
    concepts = section.raw("concepts")
    name = section.path("concept_file_name")
    if isinstance(concepts, list):
        read_concepts(concepts, found)
    elif name is not None and Path(name).is_file():
        contents = parse(Path(name))
        read_concepts(contents if isinstance(contents, list) else [], found)
    elif name is not None:
        section.leave("concept_file_name", f"The file {name} does not exist here.", "Import it by itself.")


def _read_length(found: Found, section: Section) -> None:
    epochs, per_epoch = section.number("epochs"), steps_per_epoch(found)
    if epochs and per_epoch:
        found.put("steps", round(epochs * per_epoch))
    elif epochs:
        text = "The number of steps of an epoch depends on folders that do not exist here."
        section.leave("epochs", text, "Set the steps; 0 chooses them.")
    steps, warmup = found.settings.get("steps", 0), section.number("learning_rate_warmup_steps")
    if warmup is not None and warmup >= 1 and not steps:
        section.leave("learning_rate_warmup_steps", "It counts steps.", "Set warmup to a fraction.")
    elif warmup is not None:
        found.put("warmup", warmup if warmup < 1 else warmup / steps)


def _read_embeddings(found: Found, section: Section) -> None:
    epochs = section.number("epochs")
    embeddings = objects(section.raw("additional_embeddings"))
    if str(section.raw("training_method")).upper() == "EMBEDDING":
        embeddings = [*objects([section.raw("embedding")]), *embeddings]
        found.put("rank", 0)
    for values in embeddings:
        _add_embedding(found, Section(found, values, "additional_embeddings."), epochs)


def _add_embedding(found: Found, section: Section, epochs: float | None) -> None:
    for key in ("uuid", "__version"):
        section.raw(key)
    placeholder = section.text("placeholder") or ""
    if section.flag("train") is False:
        found.leave(f"embedding {placeholder or 'without a placeholder'}")
        return
    name = placeholder.strip().removeprefix("<").removesuffix(">").strip()
    start = section.text("initial_embedding_text") or ""
    # A star stands for noise.
    concept: dict[str, Any] = {"name": name, "init_text": "" if start.strip() == "*" else start}
    if name != placeholder.strip():
        concept["aliases"] = [placeholder.strip()]
    vectors = section.whole("token_count")
    # Without a number, there are as many as the text has tokens.
    concept["vectors"] = 0 if vectors is None and concept["init_text"] else vectors or 1
    stop = _stop(found, section, epochs)
    if stop is not None:
        concept["stop_at"] = stop
    if section.flag("is_output_embedding"):
        text = "OneTrainer adds this embedding to the output of the text encoder; prompts cannot use such a file."
        section.leave("is_output_embedding", text, "Here it is trained as an ordinary embedding.")
    found.concepts.append(concept)
    section.close()


def _stop(found: Found, section: Section, epochs: float | None) -> float | None:
    """The fraction of the training after which it stops."""
    after = section.number("stop_training_after")
    unit = str(section.raw("stop_training_after_unit") or "NEVER").upper()
    if unit == "NEVER" or after is None:
        return 1.0
    total = {"EPOCH": epochs, "STEP": found.settings.get("steps")}.get(unit)
    if not total or after <= 0:
        section.leave(
            "stop_training_after", f"It counts in {unit.lower()}s, whose number is not known.", "Set stop_at."
        )
        return None
    return min(after / total, 1.0)
