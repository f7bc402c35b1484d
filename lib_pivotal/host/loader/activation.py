"""What happens when a generation switches its LoRAs on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_pivotal.core.loader.names import mentioned_names
from lib_pivotal.core.loader.options import NameOptions, parse_name_options
from lib_pivotal.core.printable import printable
from lib_pivotal.host.loader.hooks import Hooks, guarded
from lib_pivotal.host.loader.networks import active_loras, find_file, lora_extension
from lib_pivotal.host.loader.settings import read_settings
from lib_pivotal.host.loader.state import LoaderState
from lib_pivotal.host.loader.takeover import reload_outdated

__all__ = ["add_activation_hooks", "options_by_label", "tagged_loras"]


_KINDS = ("lora", "lyco")
"""Tags that name LoRAs; other kinds may use the same labels.

Host: extensions-builtin/Lora/scripts/lora_script.py, A1111 1.6.1-1.10.1, reForge: ``lyco`` is an alias of ``lora``."""


def add_activation_hooks(hooks: Hooks, state: LoaderState) -> None:
    """Follow every activation of LoRAs, whoever starts it.

    Args:
        hooks: takes the hooks.
        state: is brought in step.

    Host: modules/extra_networks.py, ``activate``, A1111 1.6.1-1.10.1, Forge, reForge: called as a module attribute
        by every pass of every generation (hires and inner passes of other extensions too), before encoding.
    Host: modules/sd_models.py, ``get_empty_cond``, A1111 1.6.1-1.10.1: loading a refiner in the middle of a generation
        encodes an empty prompt and switches all LoRAs off for it; the prompt that goes on still has its names.
    """
    from modules import extra_networks, sd_models

    def get_empty_cond(original: Any, *arguments: Any, **options: Any) -> Any:
        guarded("keeping names", state.hold, None)
        try:
            return original(*arguments, **options)
        finally:
            state.is_holding = False

    hooks.wrap(sd_models, "get_empty_cond", get_empty_cond)

    def activate(original: Any, task: Any, data: Any, *rest: Any, **options: Any) -> Any:
        if state.is_holding:
            return original(task, data, *rest, **options)
        state.release()
        guarded("looking for replaced files", lambda: reload_outdated(state), None)
        guarded("reading tags", lambda: state.set_options(options_by_label(data)), None)
        result = original(task, data, *rest, **options)
        guarded("activating bundles", lambda: _tell(task, state, _prompts(task, data)), None)
        guarded("looking for broken files", lambda: _tell_broken(task, data), None)
        return result

    hooks.wrap(extra_networks, "activate", activate)


def options_by_label(data: Mapping[str, Iterable[Any]] | None) -> dict[str, NameOptions]:
    """What the tags of a prompt say about names, by the LoRA's label in the prompt.

    Host: modules/extra_networks.py, ``ExtraNetworkParams``, A1111 1.6.1-1.10.1: ``items`` holds all parts of a tag,
        ``positional`` those without ``=``; ``ti=`` is ignored by the host.
    """
    found: dict[str, NameOptions] = {}
    for kind in _KINDS:
        for tag in (data or {}).get(kind, ()):
            if tag.positional:
                found.setdefault(str(tag.positional[0]), parse_name_options(tag.items))
    return found


def tagged_loras(text: str) -> list[tuple[str, str, NameOptions]]:
    """Label, path and options of the LoRAs that a text names and that exist."""
    from modules import extra_networks

    _, data = extra_networks.parse_prompt(text)
    found = []
    for label, options in options_by_label(data).items():
        path = find_file(label)
        if path is not None:
            found.append((label, path, options))
    return found


def _tell(task: Any, state: LoaderState, prompts: Sequence[str]) -> None:
    """Put what the user must know beside the picture.

    Host: modules/processing.py, ``StableDiffusionProcessing.comment``, A1111 1.6.1-1.10.1.
    """
    table = state.sync()
    entries = {entry.name: entry for entry in table.entries}
    names = {*entries, *(notice.name for notice in table.notices)}
    mentioned = mentioned_names(prompts, names) if names else []
    for notice in table.notices:
        if not notice.name or notice.name in mentioned:
            task.comment(printable(notice.text, None))
    for name, label in state.sleeping_names(prompts).items():
        text = f"{name} is in the LoRA {label}, which is not in this prompt: it is plain text here."
        task.comment(printable(text, None))
    if not _notes_hashes():
        # Names are cut as the webui cuts those of its own embeddings.
        used = [f"{re.sub('[:,]', '', name)}: {entries[name].embedding.hash}" for name in mentioned if name in entries]
        before = task.extra_generation_params.get("TI hashes")
        if used:
            # What an earlier pass of the same picture used stays.
            both = [*(str(before).split(", ") if before else ()), *used]
            task.extra_generation_params["TI hashes"] = ", ".join(dict.fromkeys(both))


def _tell_broken(task: Any, data: Any) -> None:
    """Name the files that the webui found and could not load.

    Host: extensions-builtin/Lora/networks.py, ``load_networks``, A1111 1.6.1-1.10.1: goes on without such a file and
        writes to the console only; of files that do not exist it tells by itself.
    """
    if lora_extension() is None or not read_settings().is_on:
        return
    acting = {lora.label for lora in active_loras()}
    for label in options_by_label(data):
        path = find_file(label) if label not in acting else None
        if path is not None:
            text = f"LoRA {label}: the webui could not load {Path(path).name}; the console says why."
            task.comment(printable(text, None))


def _notes_hashes() -> bool:
    """Whether the webui notes the hashes of embeddings while it encodes.

    Host: modules/sd_hijack.py, ``model_hijack.extra_generation_params``: not in Forge since August 2024.
    """
    from modules import sd_hijack

    return hasattr(sd_hijack.model_hijack, "extra_generation_params")


def _prompts(task: Any, data: Any) -> list[str]:
    """Prompts of the pass whose LoRAs are being activated.

    Host: modules/processing.py, ``hr_extra_network_data`` and ``hr_prompts``, A1111 1.6.1-1.10.1: with --medvram the
        second pass is activated and encoded before ``is_hr_pass`` is set.
    """
    second = data is not None and data is getattr(task, "hr_extra_network_data", None)
    names = ("hr_prompts", "hr_negative_prompts") if second else ("prompts", "negative_prompts")
    return [text for name in names for text in getattr(task, name, None) or ()]
