"""What happens when a generation switches its LoRAs on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from lib_pivotal.core.loader.options import NameOptions, parse_name_options
from lib_pivotal.core.loader.table import TokenTable
from lib_pivotal.host.loader.hooks import Hooks, guarded
from lib_pivotal.host.loader.networks import find_file
from lib_pivotal.host.loader.state import LoaderState
from lib_pivotal.host.loader.takeover import reload_overwritten

__all__ = ["add_activation_hooks", "options_by_label", "tagged_loras"]


def add_activation_hooks(hooks: Hooks, state: LoaderState) -> None:
    """Follow every activation of LoRAs, whoever starts it.

    Args:
        hooks: takes the hooks.
        state: is brought in step.

    Host: modules/extra_networks.py, ``activate``, A1111 1.6.1-1.10.1, Forge, reForge: called as a module attribute
        by every pass of every generation (hires and inner passes of other extensions too), before encoding.
    """
    from modules import extra_networks

    def activate(original: Any, task: Any, data: Any, *rest: Any, **options: Any) -> Any:
        guarded("looking for replaced files", reload_overwritten, None)
        guarded("reading tags", lambda: state.set_options(options_by_label(data)), None)
        result = original(task, data, *rest, **options)
        guarded("activating bundles", lambda: _tell(task, state.sync(), state.sleeping_names()), None)
        return result

    hooks.wrap(extra_networks, "activate", activate)


def options_by_label(data: Mapping[str, Iterable[Any]] | None) -> dict[str, NameOptions]:
    """What the tags of a prompt say about names, by the LoRA's label in the prompt.

    Host: modules/extra_networks.py, ``ExtraNetworkParams``, A1111 1.6.1-1.10.1: ``items`` holds all parts of a tag,
        ``positional`` those without ``=``; ``ti=`` is ignored by the host.
    """
    found: dict[str, NameOptions] = {}
    for tags in (data or {}).values():
        for tag in tags:
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


def _tell(task: Any, table: TokenTable, sleeping: Mapping[str, str]) -> None:
    """Put what the user must know beside the picture.

    Host: modules/processing.py, ``StableDiffusionProcessing.comment``, A1111 1.6.1-1.10.1.
    """
    prompts = _prompts(task)
    for notice in table.notices:
        if not notice.name or any(_mentions(prompt, notice.name) for prompt in prompts):
            task.comment(notice.text)
    for name, label in sleeping.items():
        if any(_mentions(prompt, name) for prompt in prompts):
            task.comment(f"{name} is in the LoRA {label}, which is not in this prompt: it is plain text here.")
    if not _notes_hashes():
        used = {entry.name: entry for entry in table.entries if any(_mentions(p, entry.name) for p in prompts)}
        if used:
            # Names are cut as the webui cuts those of its own embeddings.
            pairs = (f"{re.sub('[:,]', '', name)}: {entry.embedding.hash}" for name, entry in used.items())
            task.extra_generation_params["TI hashes"] = ", ".join(pairs)


def _notes_hashes() -> bool:
    """Whether the webui notes the hashes of embeddings while it encodes.

    Host: modules/sd_hijack.py, ``model_hijack.extra_generation_params``: not in Forge since August 2024.
    """
    from modules import sd_hijack

    return hasattr(sd_hijack.model_hijack, "extra_generation_params")


def _prompts(task: Any) -> list[str]:
    """Prompts of the pass that begins.

    Host: modules/processing.py, ``is_hr_pass`` and ``hr_prompts``, A1111 1.6.1-1.10.1.
    """
    second = getattr(task, "is_hr_pass", False) and getattr(task, "hr_prompts", None)
    names = ("hr_prompts", "hr_negative_prompts") if second else ("prompts", "negative_prompts")
    return [text for name in names for text in getattr(task, name, None) or ()]


def _mentions(prompt: str, name: str) -> bool:
    """Whether a prompt holds a name as a word of its own; brackets may be escaped in it."""
    inside = r"(?<![^\W_])" if name[0].isalnum() else "", re.escape(name), r"(?![^\W_])" if name[-1].isalnum() else ""
    return re.search("".join(inside), prompt.replace("\\", ""), re.IGNORECASE) is not None
