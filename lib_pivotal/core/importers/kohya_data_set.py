"""The data set files of kohya's scripts, and folders named ``N_text``.

Source: https://github.com/kohya-ss/sd-scripts, docs/config_README-en.md and library/config_util.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.config.subset import REGULARIZATION, TRAIN
from lib_pivotal.core.importers.found import Found, mapping, objects
from lib_pivotal.core.importers.section import Section, as_number
from lib_pivotal.core.printable import printable

__all__ = ["add_repeat_folders", "read_data_set", "repeat_folders", "side_length"]

_OWN = {
    "image_dir",
    "metadata_file",
    "num_repeats",
    "is_reg",
    "class_tokens",
    "caption_extension",
    "keep_tokens",
    "caption_prefix",
    "caption_suffix",
    "alpha_mask",
    "conditioning_data_dir",
}
"""Keys that become fields of a subset."""
_SHARED = {
    "shuffle_caption": ("shuffle_tags", Section.flag, False),
    "caption_tag_dropout_rate": ("tag_dropout", Section.number, 0.0),
    "caption_dropout_rate": ("caption_dropout", Section.number, 0.0),
    "flip_aug": ("flip", Section.flag, False),
    "enable_wildcard": ("random_choices", Section.flag, False),
    "keep_tokens_separator": ("keep_separator", Section.text, ""),
    "secondary_separator": ("group_separator", Section.text, ""),
    "batch_size": ("batch_size", Section.whole, None),
    "prior_loss_weight": ("regularization_weight", Section.number, None),
    "validation_split": ("validation_share", Section.number, None),
}
"""Key → our setting for the whole data set, how it is read, and what its absence means in a data set file."""
_SPECIAL = {"resolution", "token_warmup_step", "caption_separator", "enable_bucket", "bucket_no_upscale"}
_KNOWN = {*_OWN, *_SHARED, *_SPECIAL}

_REPEATS = re.compile(r"(\d{1,9})_(.*)", re.DOTALL)


def read_data_set(values: Mapping[str, Any], found: Found) -> None:
    """Read a data set file; a value of a subset counts more than one of its data set, and that more than a general one.

    Args:
        values: contents of the file.
        found: receives the result.
    """
    found.kind = found.kind or "data set file of kohya's scripts"
    found.put("folder_repeats", "no")
    general = _known(found, mapping(values.get("general")), "general.")
    for key in values:
        if key not in ("general", "datasets"):
            found.leave(key)
    sections = []
    for data_set in objects(values.get("datasets")):
        common = {**general, **_known(found, data_set, "datasets.", ("subsets",))}
        for subset in objects(data_set.get("subsets")):
            own = {**common, **_known(found, subset, "datasets.subsets.")}
            sections.append(Section(found, own, "datasets.subsets."))
    sections = [section for section in sections if _add_subset(found, section)]
    _share(found, sections)
    if not sections:
        found.warn("datasets", "The file has no folder of images.", "Add one in the settings.")


def _known(found: Found, values: Mapping[str, Any], where: str, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys that have a meaning here; the others are reported."""
    for key in values:
        if key not in (*_KNOWN, *also):
            found.leave(where + key)
    return {key: value for key, value in values.items() if key in _KNOWN}


def _add_subset(found: Found, section: Section) -> bool:
    folder = section.path("image_dir")
    repeats = section.number("num_repeats")
    if folder is None or (repeats is not None and repeats < 1):
        reason = "A subset without image_dir" if folder is None else f"{folder} with num_repeats below 1"
        found.warn(
            "datasets.subsets", f"{reason} is left out, as in kohya's scripts.", "Add the folder if you need it."
        )
        return False
    is_regularization = bool(section.flag("is_reg"))
    subset: dict[str, Any] = {
        "folder": folder,
        "kind": REGULARIZATION if is_regularization else TRAIN,
        "repeats": 1.0 if repeats is None else repeats,
        "captions": section.choice("caption_extension", {".txt": "txt", ".caption": "caption"}),
        "default_caption": section.text("class_tokens"),
        "keep_first": _keep_first(section),
        "caption_prefix": section.text("caption_prefix"),
        "caption_suffix": section.text("caption_suffix"),
        # These scripts do not look into subfolders.
        "subfolders": False,
    }
    _add_masks(found, section, subset)
    _check_metadata(found, section, subset)
    found.subsets.append({name: value for name, value in subset.items() if value is not None})
    if is_regularization:
        # These scripts show a regularization image for each training image.
        found.put("regularization_share", 0.5)
    _explain_repeats(found, folder)
    return True


def _keep_first(section: Section) -> int | None:
    kept = section.whole("keep_tokens")
    # These scripts put the prefix before the caption, with only a space between, and then count the tags.
    return None if kept is None else max(0, kept - (section.text("caption_prefix") or "").count(","))


def _add_masks(found: Found, section: Section, subset: dict[str, Any]) -> None:
    folder = section.path("conditioning_data_dir")
    if section.flag("alpha_mask"):
        subset["masks"] = "alpha"
    elif folder is not None:
        subset.update(masks="folder", mask_folder=folder)
    if "masks" in subset:
        found.put("mask_floor", 0.0)
        found.put("unmasked_share", 0.0)


def _check_metadata(found: Found, section: Section, subset: dict[str, Any]) -> None:
    metadata = section.path("metadata_file")
    if metadata is None:
        return
    subset.pop("captions")
    if Path(metadata).parent != Path(subset["folder"]):
        hint = f"Copy {printable(metadata, None)} into {printable(subset['folder'], None)}."
        section.leave("metadata_file", "Metadata files are read from the folder of their images.", hint)


def _explain_repeats(found: Found, folder: str) -> None:
    if _REPEATS.fullmatch(re.split(r"[/\\]", folder.rstrip("/\\"))[-1]):
        text = "The number in the name of this folder has no meaning, as in kohya's scripts: num_repeats counts."
        found.warn(folder, text, "Change the repeats of the subset if you prefer the number.")


def _share(found: Found, sections: list[Section]) -> None:
    """Set what is one setting for the whole data set here."""
    for key, (name, read, missing) in _SHARED.items():
        values = [read(section, key) for section in sections]
        found.agree(name, key, [missing if value is None else value for value in values])
    found.agree("resolution", "resolution", [side_length(section, "resolution") for section in sections])
    found.agree("tag_warmup", "token_warmup_step", [_warmup(section) for section in sections])
    for section in sections:
        separator = section.text("caption_separator")
        if separator is not None and separator.strip() != ",":
            section.leave("caption_separator", f"Tags are separated by commas here, not by {shown(separator)}.")
        if section.flag("enable_bucket") is False:
            section.leave("enable_bucket", "Images always keep their shape here.", "Crop them if they must be square.")
        if section.flag("bucket_no_upscale"):
            section.leave(
                "bucket_no_upscale", "Small images are enlarged here.", "Leave out images that are too small."
            )


def _warmup(section: Section) -> float | None:
    steps = section.number("token_warmup_step")
    if steps is not None and steps >= 1:
        text = "It counts steps, and the file does not say how many there are."
        section.leave("token_warmup_step", text, "Set tag_warmup to a fraction of the steps.")
        return None
    return steps


def side_length(section: Section, key: str) -> int | None:
    """Side length in px of a square with the area of a resolution: 768, "512,768", or [512, 768]."""
    value = section.raw(key)
    if value is None:
        return None
    parts = value if isinstance(value, list) else re.split(r"[,x×]", str(value))
    sides = [as_number(part) for part in parts]
    if not 1 <= len(sides) <= 2 or any(side is None or not 0 < side < 1e6 for side in sides):
        section.leave(key, f"{shown(value)} is not a resolution.", "Set the resolution.")
        return None
    return round(math.sqrt((sides[0] or 0) * (sides[-1] or 0)))


def repeat_folders(root: Path) -> list[tuple[Path, int, str]]:
    """The folders directly in ``root`` that are named ``N_text``, with N and the text, sorted by name."""
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        return []
    matches = [(path, _REPEATS.fullmatch(path.name)) for path in folders]
    return [(path, int(match[1]), match[2].strip()) for path, match in matches if match and int(match[1])]


def add_repeat_folders(found: Found, root: Path, kind: str) -> bool:
    """Add a subset for each folder ``N_text`` in ``root``; images elsewhere in ``root`` are reported.

    The text is the caption of images that have none, as in kohya's scripts.

    Returns:
        Whether there is such a folder.
    """
    folders = repeat_folders(root)
    for path, repeats, text in folders:
        subset = {"folder": str(path), "kind": kind, "repeats": float(repeats), "subfolders": False}
        found.subsets.append({**subset, "default_caption": text} if text else subset)
    if folders:
        found.put("folder_repeats", "no")
        if kind == REGULARIZATION:
            found.put("regularization_share", 0.5)
        used = {path for path, _, _ in folders}
        for other in sorted(root.iterdir()):
            if other not in used:
                found.leave(other.name)
    return bool(folders)
