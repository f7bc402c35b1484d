"""What happens when a generation activates its LoRAs."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_pivotal.core.printable import printable
from lib_pivotal.core.prompt_names.names import mentioned_names
from lib_pivotal.core.prompt_names.options import NameOptions, parse_name_options
from lib_pivotal.core.prompt_names.table import Entry
from lib_pivotal.host.bundle_prompts.active_names import ActiveNames
from lib_pivotal.host.bundle_prompts.hooks import Hooks, guarded
from lib_pivotal.host.bundle_prompts.name_tables import TaggedLora
from lib_pivotal.host.bundle_prompts.negative_loras import NegativeLoras
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.bundle_prompts.takeover import reload_outdated
from lib_pivotal.host.webui.lora_extension import active_loras, find_file, list_files_again, lora_extension
from lib_pivotal.host.webui.quirks import load_network_reads_file, records_embedding_hashes

__all__ = ["add_activation_hooks", "options_by_label", "tagged_loras"]

_log = logging.getLogger("pivotal.prompts")
_TAGS = ("lora", "lyco")
"""Tags that name LoRAs; other tags may use the same labels.

Host: extensions-builtin/Lora/scripts/lora_script.py, ``lyco``, A1111 1.6.1-1.10.1, reForge: is an alias of ``lora``."""
_HASHES = "TI hashes"


def add_activation_hooks(hooks: Hooks, names: ActiveNames, negatives: NegativeLoras) -> None:
    """Follow every activation of LoRAs, whoever starts it.

    Args:
        hooks: takes the hooks.
        names: is brought up to date.
        negatives: likewise.

    Host: modules/extra_networks.py, ``activate``, A1111 1.6.1-1.10.1, Forge, reForge: called as a module attribute
        by every pass of every generation (hires and inner passes of other extensions too), before encoding.
    Host: modules/sd_models.py, ``get_empty_cond``, A1111 1.6.1-1.10.1: loading a refiner in the middle of a generation
        encodes an empty prompt and deactivates all LoRAs for it; the prompt that goes on still has its names.
    Host: extensions-builtin/Lora/networks.py, ``load_networks``, A1111 1.6.1-1.10.1, Forge, reForge: called as a module
        attribute for every change of the active LoRAs.
    """
    from modules import extra_networks, sd_models

    def get_empty_cond(original: Any, *arguments: Any, **options: Any) -> Any:
        guarded("keeping names", names.pause, None)
        try:
            return original(*arguments, **options)
        finally:
            names.resume()

    def activate(original: Any, task: Any, data: Any, *rest: Any, **options: Any) -> Any:
        if names.is_paused:
            return original(task, data, *rest, **options)
        names.begin_pass()
        guarded("looking for replaced files", lambda: reload_outdated(names), None)
        guarded("reading tags", lambda: names.set_options(options_by_label(data)), None)
        result = original(task, data, *rest, **options)
        guarded("activating bundles", lambda: _follow(task, names, _prompts(task, data)), None)
        guarded("applying negative LoRAs", lambda: _comment(task, negatives.sync()), None)
        guarded("looking for broken files", lambda: _comment_on_broken(task, data, names), None)
        return result

    def load_networks(original: Any, *arguments: Any, **options: Any) -> Any:
        # Also where no pass begins: a training run removes the LoRAs of the last generation.
        if not names.is_paused:
            names.begin_pass()
        found = guarded("looking for missing files", lambda: _without_missing(arguments), arguments)
        result = original(*found, **options)
        guarded("noting the weights of LoRAs", lambda: _note_multipliers(found), None)
        if not names.is_paused:
            guarded("applying negative LoRAs", negatives.sync, None)
        return result

    hooks.wrap(sd_models, "get_empty_cond", get_empty_cond)
    hooks.wrap(extra_networks, "activate", activate)
    hooks.wrap(lora_extension(), "load_networks", load_networks)


def _comment(task: Any, notices: Iterable[str]) -> None:
    """Put what the user must know next to the image, and into the log.

    Host: modules/processing.py, ``StableDiffusionProcessing.comment``, A1111 1.6.1-1.10.1: the page shows it; the
        webui's API does not return it.
    """
    for notice in notices:
        text = printable(notice, None)
        task.comment(text)
        _log.info("%s", text)


def options_by_label(data: Mapping[str, Iterable[Any]] | None) -> dict[str, NameOptions]:
    """What the tags of a prompt say about names, by the LoRA's label in the prompt.

    Host: modules/extra_networks.py, ``ExtraNetworkParams``, A1111 1.6.1-1.10.1: ``items`` has all parts of a tag,
        ``positional`` those without ``=``; the webui ignores ``ti=``.
    """
    found: dict[str, NameOptions] = {}
    for kind in _TAGS:
        for tag in (data or {}).get(kind, ()):
            if tag.positional:
                found.setdefault(str(tag.positional[0]), parse_name_options(tag.items))
    return found


def tagged_loras(text: str) -> list[TaggedLora]:
    """The LoRAs that a text names and that exist."""
    from modules import extra_networks

    _, data = extra_networks.parse_prompt(text)
    found = []
    for label, options in options_by_label(data).items():
        path = find_file(label)
        if path is not None:
            found.append(TaggedLora(label, path, options))
    return found


def _follow(task: Any, names: ActiveNames, prompts: Sequence[str]) -> None:
    """Bring the names up to date, and tell the user what does not work as written."""
    table = names.sync()
    entries = {entry.name: entry for entry in table.entries}
    wanted = {*entries, *(notice.name for notice in table.notices)}
    mentioned = mentioned_names(prompts, wanted) if wanted else []
    for notice in table.notices:
        if not notice.name or notice.name in mentioned:
            _comment(task, [notice.text])
    for name, label in names.inactive_names(prompts).items():
        _comment(task, [f"{name} is in the LoRA {label}, which is not in this prompt: it is plain text here."])
    if not records_embedding_hashes():
        _add_hashes(task, [entries[name] for name in mentioned if name in entries])


def _add_hashes(task: Any, used: Sequence[Entry]) -> None:
    """Add the hashes of embeddings to the infotext, as the webui does for its own."""
    # The webui removes these characters from the names of its own embeddings.
    new = [f"{re.sub('[:,]', '', entry.name)}: {entry.embedding.hash}" for entry in used]
    before = task.extra_generation_params.get(_HASHES)
    if new:
        # What an earlier pass of the same image used stays.
        both = [*(str(before).split(", ") if before else ()), *new]
        task.extra_generation_params[_HASHES] = ", ".join(dict.fromkeys(both))


def _without_missing(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of ``load_networks`` without the LoRAs of which there is no file.

    Host: extensions-builtin/sd_forge_lora/networks.py, ``load_networks``, Forge, and Lora/networks.py, reForge,
        Forge-classic: lists of labels, multipliers and dimensions; a label without a file is an error there, which ends
        the activation of all LoRAs of the prompt.
    """
    labels = arguments[0] if arguments else ()
    if load_network_reads_file(lora_extension()) or all(find_file(label) is not None for label in labels):
        return arguments
    # A file may have come since the webui has made its list.
    list_files_again()
    kept = [number for number, label in enumerate(labels) if find_file(label) is not None]
    return tuple(column and [column[number] for number in kept] for column in arguments)


def _note_multipliers(arguments: tuple[Any, ...]) -> None:
    """Give the active LoRAs the multipliers of their tags where the webui does not; negative LoRAs act with them.

    Host: extensions-builtin/sd_forge_lora/networks.py, ``load_networks``, Forge, and Lora/networks.py, reForge,
        Forge-classic: takes labels, multipliers for text encoders and for the UNet, and leaves ``te_multiplier`` and
        ``unet_multiplier`` of network.py, ``Network``, at 1.
    """
    extension = lora_extension()
    if load_network_reads_file(extension) or len(arguments) < 3:
        return
    tags = list(zip(*(column or [] for column in arguments[:3]), strict=False))
    for net in extension.loaded_networks:
        while tags and tags[0][0] != net.mentioned_name:
            # It could not be loaded.
            tags.pop(0)
        if tags:
            _, net.te_multiplier, net.unet_multiplier = tags.pop(0)


def _comment_on_broken(task: Any, data: Any, names: ActiveNames) -> None:
    """Name the LoRAs that the webui could not load.

    Host: extensions-builtin/Lora/networks.py, ``load_networks``, A1111 1.6.1-1.10.1: continues without such a file and
        reports it in the console only; it comments on files that do not exist by itself. Forge and its relatives
        comment on neither, and list a file that they cannot read among those that they have loaded.
    """
    if lora_extension() is None or not read_settings().is_on:
        return
    comments_on_missing = load_network_reads_file(lora_extension())
    active = {lora.label for lora in active_loras()}
    for label in options_by_label(data):
        path = find_file(label)
        if path is None and not comments_on_missing:
            _comment(task, [f"LoRA {label}: the webui has no LoRA of this name."])
        if path is not None and (label not in active or names.broken.has(path)):
            new_name = names.broken.new_name(path)
            renamed = f" and has renamed it to {new_name}" if new_name else ""
            text = f"LoRA {label}: the webui could not load {Path(path).name}{renamed}; see the console for the reason."
            _comment(task, [text])


def _prompts(task: Any, data: Any) -> list[str]:
    """Prompts of the pass whose LoRAs are being activated.

    Host: modules/processing.py, ``hr_extra_network_data`` and ``hr_prompts``, A1111 1.6.1-1.10.1: with --medvram the
        second pass is activated and encoded before ``is_hr_pass`` is set.
    """
    second = data is not None and data is getattr(task, "hr_extra_network_data", None)
    names = ("hr_prompts", "hr_negative_prompts") if second else ("prompts", "negative_prompts")
    return [text for name in names for text in getattr(task, name, None) or ()]
