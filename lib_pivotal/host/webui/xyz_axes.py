"""Axes for the webui's X/Y/Z plot: parts, steps, names and weight of a bundle."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

from lib_pivotal.core.printable import printable
from lib_pivotal.core.prompt_names.lora_tags import PART_TITLES, PARTS, LoraTag, change_tags, find_tags
from lib_pivotal.core.train.run_bundles import newest_bundles
from lib_pivotal.host.webui.folders import data_folder, lora_folder

__all__ = ["add_axes"]

_log = logging.getLogger("pivotal.xyz_axes")

_PREFIX = "[Pivotal] "
_COST = 0.3
"""More than a seed and less than a checkpoint: a change applies the LoRA again, so it is not in the innermost loop."""
_LAST = "last"
_PROMPTS = ("prompt", "hr_prompt")
_ALL_PROMPTS = (*_PROMPTS, "negative_prompt", "hr_negative_prompt")
_TAG = re.compile(r"(<\w+:[^>]+>)")

NamesOfTag = Callable[[str], Sequence[tuple[str, int]]]
"""Content of a LoRA tag without ``lora:`` → names of the embeddings in the file."""


def add_axes(names_of_tag: NamesOfTag) -> None:
    """Add the axes to the X/Y/Z plot, once; call when all scripts are loaded and before the page is built.

    Args:
        names_of_tag: tells bundles from other LoRAs.

    Host: scripts/xyz_grid.py, ``AxisOption``, ``axis_options``, A1111 1.6.1-1.10.1, Forge, reForge: the page shows the
        list as it is when it is built, and asks for the choices of an axis when it is selected; objects of any other
        class must say whether they are for img2img.
    """
    module = _xyz_module()
    if module is None:
        _log.info("This webui has no X/Y/Z plot.")
        return
    known = {option.label for option in module.axis_options}
    bundles = _Bundles(names_of_tag)
    # Runs end while the page is open, so the axis of steps is there even if no run has saved any yet.
    axes = [_parts(bundles), _name(), _weight(bundles), _step()]
    for label, kind, apply, options in axes:
        if _PREFIX + label not in known:
            module.axis_options.append(module.AxisOption(_PREFIX + label, kind, apply, cost=_COST, **options))


def _xyz_module() -> Any:
    """The script's module.

    Host: modules/script_loading.py, ``load_module``, A1111 1.6.1-1.10.1, Forge, reForge: a script's module has the name
        of its file and is not in ``sys.modules``.
    Host: modules/scripts.py, ``scripts_data``, A1111 1.6.1-1.10.1, Forge, reForge: filled again when the page is
        reloaded, with new modules.
    """
    from modules import scripts

    for data in scripts.scripts_data:
        if data.script_class.__module__.removesuffix(".py") == "xyz_grid":
            return data.module
    return None


_Axis = tuple[str, type, Callable[[Any, Any, Any], None], dict[str, Any]]
"""Label, type of the values, what a value does to a task, and further options."""


class _Bundles:
    """Finds the tag of a bundle in a prompt."""

    def __init__(self, names_of_tag: NamesOfTag) -> None:
        self._names_of_tag = names_of_tag

    def first(self, prompt: str) -> str | None:
        """Label of the first LoRA in a prompt that has embeddings."""
        return next((tag.label for tag in find_tags(prompt) if self._names_of_tag(tag.label)), None)

    def require(self, task: Any) -> None:
        """Raise an error that says what to do if the prompt has no bundle."""
        if self.first(task.prompt) is None:
            labels = ", ".join(tag.label for tag in find_tags(task.prompt))
            found = f"it has only LoRAs without embeddings: {labels}" if labels else "it has no <lora:NAME:1>"
            raise RuntimeError(f"The prompt must contain the tag of a bundle, but {printable(found, None)}.")

    def change(self, task: Any, change: Callable[[LoraTag], object]) -> None:
        """Change the tags of the first bundle in every prompt of a task.

        Host: modules/processing.py, ``hr_prompt``, A1111 1.6.1-1.10.1: the prompt of the second pass; img2img has none.
        """
        label = self.first(task.prompt)
        for name in _PROMPTS:
            text = getattr(task, name, None)
            if label is not None and text:
                setattr(task, name, change_tags(text, label, change))


def _parts(bundles: _Bundles) -> _Axis:
    keys = {key: key for key in PARTS} | {title.lower(): key for key, title in PART_TITLES.items()}

    def confirm(task: Any, values: Sequence[str]) -> None:
        for value in values:
            if value.strip().lower() not in keys:
                raise RuntimeError(f"{value!r} is not a part of a bundle. Use {', '.join(PART_TITLES.values())}.")
        bundles.require(task)

    def apply(task: Any, value: str, _values: Any) -> None:
        bundles.change(task, lambda tag: tag.part(keys[value.strip().lower()]))

    options = {"confirm": confirm, "choices": lambda: list(PART_TITLES.values()), "format_value": _as_it_is}
    return "Parts of a bundle", str, apply, options


def _weight(bundles: _Bundles) -> _Axis:
    def confirm(task: Any, _values: Sequence[float]) -> None:
        bundles.require(task)

    def apply(task: Any, value: float, _values: Any) -> None:
        bundles.change(task, lambda tag: tag.weighted(value))

    def shown(_task: Any, _axis: Any, value: float) -> str:
        return f"weight {value:g}"

    return "Bundle weight", float, apply, {"confirm": confirm, "format_value": shown}


def _name() -> _Axis:
    def confirm(task: Any, values: Sequence[str]) -> None:
        if not values or not values[0].strip():
            raise RuntimeError("Enter names, separated by commas; the first one must be in the prompt.")
        if not any(_has_name(getattr(task, name, None) or "", values[0]) for name in _ALL_PROMPTS):
            raise RuntimeError(f"{values[0]!r} is not in the prompt. The first value must be a name that is in it.")

    def apply(task: Any, value: str, values: Sequence[str]) -> None:
        for name in _ALL_PROMPTS:
            text = getattr(task, name, None)
            if text:
                setattr(task, name, _renamed(text, values[0], value))

    return "Name", str, apply, {"confirm": confirm, "format_value": _as_it_is}


def _as_it_is(_task: Any, _axis: Any, value: str) -> str:
    return value


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)


def _has_name(prompt: str, name: str) -> bool:
    return _word(name).search(_TAG.sub(" ", prompt)) is not None


def _renamed(prompt: str, old: str, new: str) -> str:
    """The prompt with another name as a whole word; tags, which may contain the same word, stay as they are."""
    # At odd positions are the tags.
    pieces = _TAG.split(prompt)
    pieces[::2] = [_word(old).sub(lambda _: new, piece) for piece in pieces[::2]]
    return "".join(pieces)


def _numbered_files() -> dict[str, str]:
    """Step of the newest run, as a text, → name of its bundle in prompts; with the last one if there are others."""
    newest = newest_bundles(data_folder(), lora_folder())
    if newest is None or not newest.steps:
        return {}
    files = {str(step): stem for step, stem in newest.steps.items()}
    is_final = (lora_folder() / f"{newest.name}.safetensors").is_file()
    return {**files, **({_LAST: newest.name} if is_final else {})}


def _step() -> _Axis:
    def label_in(prompt: str) -> str | None:
        labels = _numbered_files().values()
        return next((tag.label for tag in find_tags(prompt) if tag.label in labels), None)

    def confirm(task: Any, values: Sequence[str]) -> None:
        files = _numbered_files()
        for value in values:
            if value.strip() not in files:
                steps = ", ".join(files) or "none; the setting Save every saves some"
                raise RuntimeError(f"The newest run has saved no bundle at step {value!r}. Saved: {steps}.")
        if label_in(task.prompt) is None:
            name = files.get(_LAST) or next(iter(files.values()), "NAME")
            raise RuntimeError(f"The prompt must contain the tag of the newest run's bundle, such as <lora:{name}:1>.")

    def apply(task: Any, value: str, _values: Any) -> None:
        label, new = label_in(task.prompt), _numbered_files()[value.strip()]
        for name in _PROMPTS:
            text = getattr(task, name, None)
            if label is not None and text:
                setattr(task, name, change_tags(text, label, lambda tag: tag.relabeled(new)))

    def shown(_task: Any, _axis: Any, value: str) -> str:
        return value if value == _LAST else f"step {value}"

    options = {"confirm": confirm, "choices": lambda: list(_numbered_files()), "format_value": shown}
    return "Step of the newest run", str, apply, options
