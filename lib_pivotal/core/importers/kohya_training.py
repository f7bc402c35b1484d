"""The training settings of kohya's scripts, as TOML or JSON, also as its graphical interfaces save them.

Source: https://github.com/kohya-ss/sd-scripts, library/train_util.py, and
    https://github.com/bmaltais/kohya_ss, kohya_gui/lora_gui.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.config.subset import REGULARIZATION, TRAIN
from lib_pivotal.core.importers.found import Found, objects
from lib_pivotal.core.importers.kohya_data_set import add_repeat_folders, read_data_set, side_length
from lib_pivotal.core.importers.length import steps_per_epoch
from lib_pivotal.core.importers.section import Section
from lib_pivotal.core.importers.source_file import parse

__all__ = ["is_training_file", "read_training"]

_SETTINGS = {
    "pretrained_model_name_or_path": ("checkpoint", Section.path),
    "output_name": ("output_name", Section.text),
    "network_dim": ("rank", Section.whole),
    "network_alpha": ("alpha", Section.number),
    "conv_dim": ("conv_rank", Section.whole),
    "unet_lr": ("unet_lr", Section.number),
    "text_encoder_lr": ("text_encoder_lr", Section.number),
    "train_batch_size": ("batch_size", Section.whole),
    "gradient_accumulation_steps": ("accumulation", Section.whole),
    "gradient_checkpointing": ("gradient_checkpointing", Section.flag),
    "seed": ("seed", Section.whole),
    "clip_skip": ("clip_skip", Section.whole),
    "max_grad_norm": ("clip_norm", Section.number),
    "sample_every_n_steps": ("sample_every", Section.whole),
    "save_every_n_steps": ("save_every", Section.whole),
    "cache_latents_to_disk": ("cache_to_disk", Section.flag),
    "shuffle_caption": ("shuffle_tags", Section.flag),
    "keep_tokens": ("keep_first", Section.whole),
    "keep_tokens_separator": ("keep_separator", Section.text),
    "secondary_separator": ("group_separator", Section.text),
    "enable_wildcard": ("random_choices", Section.flag),
    "caption_prefix": ("caption_prefix", Section.text),
    "caption_suffix": ("caption_suffix", Section.text),
    "caption_dropout_rate": ("caption_dropout", Section.number),
    "caption_tag_dropout_rate": ("tag_dropout", Section.number),
    "flip_aug": ("flip", Section.flag),
    "prior_loss_weight": ("regularization_weight", Section.number),
    "scale_weight_norms": ("max_weight_change", Section.number),
    "noise_offset": ("noise_offset", Section.number),
}
_CHOICES = {
    "mixed_precision": ("precision", {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}),
    "save_precision": ("save_precision", {"fp16": "fp16", "float": "fp32", "fp32": "fp32"}),
    "lr_scheduler": ("schedule", {"cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"}),
    "caption_extension": ("caption_source", {".txt": "txt", ".caption": "caption"}),
}
_OPTIMIZERS = {
    "adamw": "adamw",
    "adamw8bit": "adamw8bit",
    "lion": "lion",
    "prodigy": "prodigyopt:Prodigy",
    "adamwschedulefree": "schedulefree:AdamWScheduleFree",
    "prodigyplus.prodigyplusschedulefree": "prodigy-plus",
    "prodigyplus.prodigy_plus_schedulefree.prodigyplusschedulefree": "prodigy-plus",
}
"""Names in lower case → ours; a name with dots is a module and a class."""
_TIMESTEPS = 1000
_MARKS = {*_SETTINGS, "train_data_dir", "learning_rate", "max_train_epochs", "dataset_config", "network_module"}
_HUBER_C = 0.1
"""The scripts' own value where the file has none."""
_MAX_LEVELS = 3
_MAX_KEYS = 2000


def is_training_file(values: Mapping[str, Any]) -> bool:
    """Whether these are training settings: two keys of kohya's scripts suffice."""
    return len(_MARKS & set(_flat(values))) >= 2


def read_training(values: Mapping[str, Any], found: Found) -> None:
    """Read training settings, and the folders or the data set file that they name.

    Args:
        values: contents of the file.
        found: receives the result.
    """
    found.kind = "training settings of kohya's scripts"
    flat = _flat(values)
    section = Section(found, {**_network_arguments(flat), **flat})
    for key, (name, read) in _SETTINGS.items():
        found.put(name, read(section, key))
    for key, (name, meanings) in _CHOICES.items():
        found.put(name, section.choice(key, meanings))
    found.put("resolution", side_length(section, "resolution") or side_length(section, "max_resolution"))
    _read_rates(found, section)
    _read_network(found, section)
    _read_loss(found, section)
    _read_noise_levels(found, section)
    _read_optimizer(found, section, flat)
    _read_embedding(found, section)
    _read_folders(found, section, values)
    _read_length(found, section)
    section.close()


def _flat(values: Mapping[str, Any], level: int = 1) -> dict[str, Any]:
    """The keys of all sections, whose names have no meaning."""
    flat: dict[str, Any] = {}
    for key, value in list(values.items())[:_MAX_KEYS]:
        if isinstance(value, Mapping) and level <= _MAX_LEVELS:
            flat.update(_flat(value, level + 1))
        elif not (key == "subsets" and isinstance(value, list)):
            flat[key] = value
    return flat


def _network_arguments(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the form ``name=value`` as keys of their own."""
    found = _arguments(flat.get("network_args"))
    decay = _arguments(flat.get("optimizer_args")).get("weight_decay")
    return found if decay is None else {**found, "weight_decay": decay}


def _arguments(given: Any) -> dict[str, str]:
    """Name → value of a list of texts ``name=value``, or of one text with spaces between them."""
    words = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
    pairs = (str(word).partition("=") for word in words[:_MAX_KEYS])
    return {name.strip(): value.strip() for name, _, value in pairs}


def _read_rates(found: Found, section: Section) -> None:
    rate = section.number("learning_rate")
    if rate is not None:
        found.settings.setdefault("unet_lr", rate)
    found.put("weight_decay", section.number("weight_decay"))
    if found.settings.get("text_encoder_lr") and not section.flag("network_train_unet_only"):
        text = "The text encoder would be trained, too; here the embeddings take the place of that."
        found.warn("text_encoder_lr", text, "Set text_encoder_rank to train a LoRA of the text encoder as well.")


def _read_network(found: Found, section: Section) -> None:
    for key in ("network_args", "optimizer_args"):
        section.raw(key)
    kind = section.text("network_module")
    if kind == "lycoris.kohya":
        found.put(
            "lora_kind", section.choice("algo", {"lora": "lora", "locon": "lora", "loha": "loha", "lokr": "lokr"})
        )
        if section.flag("dora_wd") and found.settings.get("lora_kind") == "lora":
            found.put("lora_kind", "dora")
            if section.flag("wd_on_output") is not False:
                text = "The norms of a DoRA would be per output, which no webui computes; here they are per input."
                found.warn("wd_on_output", text)
        factor = section.whole("factor")
        found.put("lokr_factor", factor if factor is None else max(factor, 0))
    elif kind is not None and kind != "networks.lora":
        section.leave("network_module", f"{kind} does not exist here; a LoRA is trained.")
    name = section.text("LoRA_type")
    if name is not None and name not in ("Standard", "Kohya LoCon"):
        section.leave("LoRA_type", f"{name} does not exist here; a LoRA is trained.")
    if "rank" in found.settings:
        # The scripts' own value where the file has none.
        found.settings.setdefault("alpha", 1.0)


def _read_loss(found: Found, section: Section) -> None:
    gamma = section.number("min_snr_gamma")
    if section.flag("debiased_estimation_loss"):
        found.put("loss_weighting", "debiased")
    elif gamma is not None:
        found.put("loss_weighting", "min_snr" if gamma > 0 else "none")
        found.put("min_snr_gamma", gamma if gamma > 0 else None)
    if section.flag("masked_loss") or section.flag("alpha_mask"):
        found.put("masks", "alpha")
        found.put("mask_floor", 0.0)
        found.put("unmasked_share", 0.0)


def _read_noise_levels(found: Found, section: Section) -> None:
    for key in ("min_timestep", "max_timestep"):
        level = section.whole(key)
        found.put(key, None if level is None else min(max(level / _TIMESTEPS, 0.0), 1.0))
    kind, width, schedule = section.text("loss_type"), section.number("huber_c"), section.text("huber_schedule")
    if kind is None or kind == "l2":
        return
    if kind != "huber":
        section.leave("loss_type", f"{shown(kind)} does not exist here.", "Set huber_c for a loss that is less steep.")
        return
    found.put("huber_c", width or _HUBER_C)
    if schedule != "constant":
        text = f"The schedule {schedule or 'snr'} does not exist here; huber_c is the same for all noise levels."
        section.leave("huber_schedule", text)


def _read_optimizer(found: Found, section: Section, flat: Mapping[str, Any]) -> None:
    name = section.text("optimizer_type") or section.text("optimizer")
    module, _, class_name = (name or "").rpartition(".")
    known = _OPTIMIZERS.get((name or "").lower())
    if name and known is None and not module:
        section.leave("optimizer_type", f"{shown(name)} is not offered here.", "Set optimizer to module:Class.")
        return
    found.put("optimizer", known or (f"{module}:{class_name}" if name else None))
    arguments = _arguments(flat.get("optimizer_args"))
    words = [f"{key}={value.replace(' ', '')}" for key, value in arguments.items() if key != "weight_decay"]
    found.put("optimizer_args", " ".join(words) or None)


def _read_embedding(found: Found, section: Section) -> None:
    """The embedding of the scripts' textual inversion."""
    name = section.text("token_string")
    if name is None:
        return
    concept = {"name": name, "init_text": section.text("init_word"), "vectors": section.whole("num_vectors_per_token")}
    found.concepts.append({key: value for key, value in concept.items() if value is not None})
    if "unet_lr" in found.settings:
        found.put("embedding_lr", found.settings.pop("unet_lr"))
        found.put("rank", 0)


def _read_folders(found: Found, section: Section, values: Mapping[str, Any]) -> None:
    data_set = section.path("dataset_config")
    if data_set is not None and Path(data_set).is_file():
        contents = parse(Path(data_set))
        if isinstance(contents, Mapping):
            read_data_set(contents, found)
    elif data_set is not None:
        section.leave("dataset_config", f"The file {data_set} does not exist here.", "Import it by itself.")
    subsets = objects(values.get("subsets"))
    if subsets:
        read_data_set({"datasets": [{"subsets": subsets}]}, found)
    for key, kind in (("train_data_dir", TRAIN), ("reg_data_dir", REGULARIZATION)):
        folder = section.path(key)
        if folder is not None:
            _read_folder(found, section, key, folder, kind)


def _read_folder(found: Found, section: Section, key: str, folder: str, kind: str) -> None:
    if add_repeat_folders(found, Path(folder), kind):
        return
    if kind == REGULARIZATION:
        section.leave(key, f"{folder} does not exist here, or has no folder N_name.", "Add it as a subset.")
        return
    found.put("data_folder", folder)
    found.put("folder_repeats", "yes")
    text = f"{folder} does not exist here, or has no folder N_name, which kohya's scripts need."
    found.warn(key, text, "Check the image folder.")


def _read_length(found: Found, section: Section) -> None:
    epochs = section.number("max_train_epochs") or section.number("epoch")
    steps = section.whole("max_train_steps")
    section.number("epoch")
    per_epoch = steps_per_epoch(found)
    if epochs and per_epoch:
        steps = round(epochs * per_epoch)
    elif epochs and not steps:
        text = "The number of steps of an epoch depends on folders that do not exist here."
        section.leave("max_train_epochs", text, "Set the steps; 0 chooses them.")
    found.put("steps", steps or None)
    every = section.number("save_every_n_epochs")
    if every and per_epoch:
        found.settings.setdefault("save_every", round(every * per_epoch))
    elif every:
        section.leave("save_every_n_epochs", "It counts epochs.", "Set save_every to a number of steps.")
    _read_warmup(found, section, steps)


def _read_warmup(found: Found, section: Section, steps: int | None) -> None:
    percent, warmup = section.number("lr_warmup"), section.number("lr_warmup_steps")
    if warmup is None or (not warmup and percent):
        found.put("warmup", None if percent is None else percent / 100)
    elif warmup < 1:
        found.put("warmup", warmup)
    elif steps:
        found.put("warmup", warmup / steps)
    else:
        section.leave("lr_warmup_steps", "It counts steps, whose number is not known.", "Set warmup to a fraction.")
