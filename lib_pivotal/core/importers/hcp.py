"""The training settings of HCP-Diffusion.

Source: https://github.com/IrisRainbowNeko/HCP-Diffusion, cfgs/train and hcpdiff/data.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_pivotal.core.config.subset import REGULARIZATION, TRAIN
from lib_pivotal.core.importers.found import Found, mapping, objects
from lib_pivotal.core.importers.hcp_yaml import load_hcp
from lib_pivotal.core.importers.section import Section, as_number
from lib_pivotal.core.printable import printable

__all__ = ["read_hcp"]

_REGULARIZATION = "dataset_class"
"""Name under which HCP-Diffusion's examples keep regularization images."""
_BACKGROUNDS = {(255, 255, 255): "white", (0, 0, 0): "black", (127, 127, 127): "gray", (128, 128, 128): "gray"}
_WITHOUT_MEANING = ("_target_", "_partial_", "cache_latents", "cache_path", "image_transforms")
"""Keys of each folder that only tell HCP-Diffusion how to build its objects."""


def read_hcp(path: Path, found: Found) -> None:
    """Read a training file with its base files.

    Raises:
        ConfigError: a file cannot be read, or is based on itself.
    """
    found.kind = "training settings of HCP-Diffusion"
    values, referenced = load_hcp(path, found)
    root = Section(found, values)
    _read_embeddings(found, mapping(root.raw("tokenizer_pt")))
    _read_data(found, mapping(root.raw("data")))
    _read_model(found, mapping(root.raw("model")))
    _read_training(found, mapping(root.raw("train")))
    _read_lora(found, root, "lora_unet", ("rank", "unet_lr", "alpha"))
    _read_lora(found, root, "lora_text_encoder", ("text_encoder_rank", "text_encoder_lr", ""))
    found.put("seed", root.whole("seed"))
    found.put("precision", root.choice("mixed_precision", {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}))
    for key in referenced:
        root.raw(key)
    root.close()


def _read_embeddings(found: Found, values: Mapping[str, Any]) -> None:
    section = Section(found, values, "tokenizer_pt.")
    trained = [item for item in objects(section.raw("train")) if isinstance(item.get("name"), str)]
    section.close()
    rates = [rate for item in trained if (rate := as_number(item.get("lr"))) is not None and rate > 0]
    # The most frequent rate, and the smallest one of several.
    base = max(sorted(set(rates)), key=Counter(rates).__getitem__, default=None)
    found.put("embedding_lr", base)
    for item in trained:
        rate = as_number(item.get("lr"))
        concept: dict[str, Any] = {"name": item["name"]}
        if rate and base and rate != base:
            concept["lr_multiplier"] = rate / base
        found.concepts.append(concept)
    if trained:
        text = "HCP-Diffusion keeps the number of vectors and what they start from in files of its own."
        found.warn("tokenizer_pt.train", text, "Set vectors and the initialization text of each concept.")


def _read_data(found: Found, data: Mapping[str, Any]) -> None:
    sizes, share = 0, 0
    for name, data_set in data.items():
        if not isinstance(data_set, Mapping):
            continue
        kind = REGULARIZATION if name == _REGULARIZATION else TRAIN
        if kind == REGULARIZATION:
            text = "Its folders are taken as regularization images, because of the name."
            found.warn(f"data.{name}", text, "Change the kind of the subsets if they are to be learned.")
        size = _read_data_set(found, data_set, f"data.{name}.", kind)
        sizes += size
        share += size if kind == REGULARIZATION else 0
    found.put("batch_size", sizes or None)
    if share:
        found.put("regularization_share", share / sizes)
    found.put("folder_repeats", "no" if found.subsets else None)


def _read_data_set(found: Found, values: Mapping[str, Any], where: str, kind: str) -> int:
    """Read the folders of a data set; returns its batch size."""
    section = Section(found, values, where)
    for key in _WITHOUT_MEANING:
        section.raw(key)
    size, weight = section.whole("batch_size") or 0, section.number("loss_weight")
    _read_bucket(found, mapping(section.raw("bucket")), f"{where}bucket.")
    sections = []
    for name, source in mapping(section.raw("source")).items():
        if isinstance(source, Mapping):
            inner = Section(found, source, f"{where}source.{name}.")
            _add_source(found, inner, kind, weight)
            sections.append(inner)
    section.close()
    templates = [found.settings.get("caption_template"), *(inner.path("prompt_template") for inner in sections)]
    found.agree("caption_template", f"{where}prompt_template", templates)
    if kind == TRAIN:
        _read_transforms(found, sections, where)
    for inner in sections:
        inner.close()
    return size


def _add_source(found: Found, section: Section, kind: str, weight: float | None) -> None:
    for key in _WITHOUT_MEANING:
        section.raw(key)
    folder = section.path("img_root")
    if folder is None:
        return
    subset: dict[str, Any] = {
        "folder": folder,
        "kind": kind,
        "repeats": section.number("repeat") or 1.0,
        "captions": _captions(found, section, folder),
        "subfolders": False,
    }
    if weight and weight != 1:
        subset["loss_weight"] = weight
    masks = section.path("att_mask")
    if masks is not None:
        subset.update(masks="folder", mask_folder=masks)
        for name, value in (("mask_scale", "hcp"), ("mask_floor", 0.0), ("unmasked_share", 0.0)):
            found.put(name, value)
    _read_words(found, section, subset)
    color = section.raw("bg_color")
    if isinstance(color, list):
        background = _BACKGROUNDS.get(tuple(color[:4])) if all(isinstance(part, int) for part in color) else None
        if background is None:
            section.leave("bg_color", "There are only white, black and gray backgrounds here.", "Set background.")
        found.put("background", background)
    found.subsets.append(subset)


def _captions(found: Found, section: Section, folder: str) -> str:
    """Where captions come from; without a caption file the template is all there is."""
    value = section.raw("caption_file")
    if value is None:
        return "template"
    target = str(mapping(value).get("_target_", ""))
    place = mapping(value).get("path", value)
    found_at = Path(found.path(place)) if isinstance(place, str) else None
    if found_at is None or Path(folder) not in (found_at, found_at.parent):
        text = f"Captions are read from the folder of the images, {printable(folder, None)}."
        section.leave("caption_file", text, "Copy them there.")
    return "txt" if "TXT" in target else "auto"


def _read_words(found: Found, section: Section, subset: dict[str, Any]) -> None:
    """The words that fill the template: names of embeddings, and what they are."""
    names = {concept["name"]: concept for concept in found.concepts}
    words = mapping(section.raw("word_names"))
    given = {key: value[0] if isinstance(value, list) and value else value for key, value in words.items()}
    always = [value for value in given.values() if isinstance(value, str) and value in names]
    if always:
        subset["always"] = always
    noun = given.get("class")
    if isinstance(noun, str) and noun.strip():
        for name in always:
            names[name].setdefault("class_noun", noun.strip())
    for key, value in given.items():
        if value and value not in always and key != "class":
            text = f"{printable(value)} is not an embedding of the file, so the template is not filled with it."
            section.leave(f"word_names.{key}", text, "Write it into the captions or the template.")


def _read_bucket(found: Found, values: Mapping[str, Any], where: str) -> None:
    section = Section(found, values, where)
    section.raw("_target_")
    area = as_number(values.get("target_area"))
    sides = values.get("target_size")
    if area is not None and 0 < area < 1e12:
        section.raw("target_area")
        found.settings.setdefault("resolution", round(math.sqrt(area)))
    elif isinstance(sides, list) and len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides):
        section.raw("target_size")
        found.settings.setdefault("resolution", round(math.sqrt(min(sides[0], 10**6) * min(sides[1], 10**6))))
    section.close()


def _read_transforms(found: Found, sections: list[Section], where: str) -> None:
    shuffle, dropout, erase = [], [], []
    for section in sections:
        given = section.raw("text_transforms") or section.raw("tag_transforms")
        steps = {
            str(item.get("_target_")).rpartition(".")[2]: item for item in objects(mapping(given).get("transforms"))
        }
        shuffle.append("TagShuffle" in steps)
        dropout.append(as_number(steps.get("TagDropout", {}).get("p", 0.0)))
        erase.append(as_number(steps.get("TagErase", {}).get("p", 0.0)))
        for name in sorted(set(steps) - {"TagShuffle", "TagDropout", "TagErase", "TemplateFill"}):
            section.leave(f"text_transforms.{name}", "It does not exist here.")
    key = f"{where}text_transforms"
    for name, values in (("shuffle_tags", shuffle), ("tag_dropout", dropout), ("caption_dropout", erase)):
        found.agree(name, key, values)


def _read_model(found: Found, values: Mapping[str, Any]) -> None:
    section = Section(found, values, "model.")
    found.put("checkpoint", section.text("pretrained_model_name_or_path"))
    found.put("gradient_checkpointing", section.flag("gradient_checkpointing"))
    skipped = section.whole("clip_skip")
    found.put("clip_skip", None if skipped is None else skipped + 1)
    section.close()


def _read_training(found: Found, values: Mapping[str, Any]) -> None:
    section = Section(found, values, "train.")
    steps = section.whole("train_steps")
    found.put("steps", steps)
    found.put("save_every", section.whole("save_step"))
    found.put("accumulation", section.whole("gradient_accumulation_steps"))
    found.put("clip_norm", section.number("max_grad_norm"))
    optimizer = Section(found, mapping(section.raw("optimizer")), "train.optimizer.")
    found.put("weight_decay", optimizer.number("weight_decay"))
    optimizer.close()
    schedule = Section(found, mapping(section.raw("scheduler")), "train.scheduler.")
    names = {"cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"}
    found.put("schedule", schedule.choice("name", names))
    warmup, total = schedule.number("num_warmup_steps"), schedule.number("num_training_steps") or steps
    if warmup is not None and total:
        found.put("warmup", warmup / total)
    schedule.close()
    section.close()


def _read_lora(found: Found, root: Section, key: str, names: tuple[str, str, str]) -> None:
    """Read the first LoRA of a list; the others may have a rank of their own, which does not exist here."""
    rank_name, rate_name, alpha_name = names
    loras = objects(root.raw(key))
    if not loras:
        if rank_name == "rank" and found.concepts:
            found.put(rank_name, 0)
        return
    section = Section(found, loras[0], f"{key}.")
    rank = section.number("rank")
    if rank is not None and 0 < rank < 1:
        section.leave("rank", "A fraction of a layer's size is not supported as its rank.", f"Set {rank_name}.")
    else:
        found.put(rank_name, None if rank is None else int(rank))
    found.put(rate_name, section.number("lr"))
    alpha = section.number("alpha")
    if alpha_name and rank is not None and rank >= 1:
        # HCP-Diffusion's own value where the file has none.
        found.put(alpha_name, 1.0 if alpha is None else alpha)
    section.close()
    if len(loras) > 1:
        found.leave(f"{key}[1:]")
        found.warn(key, f"There are {len(loras)} LoRAs with settings of their own; those of the first are used.")
