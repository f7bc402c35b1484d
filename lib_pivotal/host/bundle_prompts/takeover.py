"""Loading a LoRA file: we read its embeddings, the webui reads everything else."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from lib_pivotal.core.families import FAMILIES
from lib_pivotal.host.bundle_prompts.active_names import ActiveNames
from lib_pivotal.host.bundle_prompts.files import FileState, file_state
from lib_pivotal.host.bundle_prompts.hooks import Hooks, guarded
from lib_pivotal.host.bundle_prompts.negative_loras import negative_keys
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.webui.lora_extension import file_of, lora_extension
from lib_pivotal.host.webui.quirks import load_network_reads_file
from lib_pivotal.host.webui.replaced_loras import apply_again, load_again, read_again

__all__ = ["add_takeover_hooks", "reload_outdated"]

_log = logging.getLogger("pivotal.bundle_prompts")

_READ_NAME = "pivotal_read"
"""Attribute of the webui's own LoRA object: the file's state when it was read, and the keys that were left out."""


def add_takeover_hooks(hooks: Hooks, names: ActiveNames) -> None:
    """Keep embeddings out of the webui's own handling of LoRA files.

    Args:
        hooks: takes the hooks.
        names: reads the embeddings instead.

    Host: extensions-builtin/Lora/networks.py, ``load_network``, A1111 1.6.1-1.10.1: one unexpected embedding key loses
        the whole LoRA there, and a name without tokens blocks all LoRAs until the webui is restarted.
    """
    extension = lora_extension()
    if extension is None:
        return
    reads_file = load_network_reads_file(extension)
    last: dict[str, FileState | None] = {}

    def load_network(original: Any, name: Any, network_on_disk: Any, *rest: Any) -> Any:
        path = str(network_on_disk.filename)
        found = file_state(path)
        keys = guarded("reading a bundle", lambda: _keys_left_out(names, path), frozenset())
        net = _load_without(original, extension, keys, name, network_on_disk, *rest) if keys and reads_file else None
        if net is None:
            net = original(name, network_on_disk, *rest)
        elif getattr(net, "bundle_embeddings", None):
            net.bundle_embeddings = {}
        guarded("remembering what was read", lambda: setattr(net, _READ_NAME, (found, keys)), None)
        if reads_file and last.setdefault(path, found) != found:
            last[path] = found
            guarded("replacing a LoRA", apply_again, None)
        return net

    hooks.wrap(extension, "load_network", load_network)
    _add_forge_hook(hooks, names, extension)


def _add_forge_hook(hooks: Hooks, names: ActiveNames, extension: Any) -> None:
    """Hide our keys from Forge's loader, and keep a file that it cannot read from taking the other LoRAs with it.

    Host: networks.py, ``load_lora_state_dict``, Forge, old Forge, reForge, Forge-classic: an ``lru_cache`` by file
        name, even if the file was replaced; what it returns goes to a loader that drops the whole LoRA when it has more
        than 12 unknown keys. Forge-Neo keeps nothing, and its limit is half of the keys.
    Host: networks.py, ``load_networks``, Forge and its relatives: an error in it ends the activation of all LoRAs of
        the prompt. ``load_lora_for_models`` divides by the number of keys in Forge-Neo.
    """
    cached = getattr(extension, "load_lora_state_dict", None)
    if cached is None:
        return
    clear = getattr(cached, "cache_clear", lambda: None)
    last: dict[str, FileState | None] = {}

    def load_lora_state_dict(original: Any, filename: Any) -> Any:
        path = str(filename)
        found = file_state(path)
        if last.setdefault(path, found) != found:
            last[path] = found
            clear()
            guarded("replacing a LoRA", apply_again, None)
        try:
            read = original(filename)
        except Exception:
            _log.exception("The LoRA file %s cannot be read. The other LoRAs of the prompt work without it.", path)
            names.broken.add(path)
            return {}
        names.merged.note(path, found)
        keys = guarded("reading a bundle", lambda: _keys_left_out(names, path) | _unread_keys(read), frozenset())
        return {key: value for key, value in read.items() if key not in keys} if keys else read

    def load_lora_for_models(original: Any, model: Any, clip: Any, lora: Any, *rest: Any, **options: Any) -> Any:
        return original(model, clip, lora, *rest, **options) if lora else (model, clip)

    hooks.wrap(extension, "load_lora_state_dict", load_lora_state_dict)
    extension.load_lora_state_dict.cache_clear = clear
    hooks.wrap(extension, "load_lora_for_models", load_lora_for_models)


def _unread_keys(keys: Iterable[str]) -> frozenset[str]:
    """Those of layers that nothing reads and Forge's model does not have, which our first version trained.

    Host: backend/diffusion_engine/base.py, ``ForgeDiffusionEngine.is_sd2``, Forge: SD2's text encoder has 23 layers
        there.
    """
    from modules import sd_models

    model = sd_models.model_data.sd_model
    loaded = [family for name, family in FAMILIES.items() if getattr(model, f"is_{name}", False)]
    prefixes = tuple(prefix for family in loaded for prefix in family.unread_layers)
    return frozenset(key for key in keys if key.startswith(prefixes))


def _keys_left_out(names: ActiveNames, path: str) -> frozenset[str]:
    """Keys of a file that the webui does not get to see, by the settings as they are now."""
    settings = read_settings()
    if settings.is_on and (keys := negative_keys(path)):
        return keys
    # Forge has no handling of bundles that could be preferred.
    leaves_out = settings.is_on and (settings.replaces_built_in or not load_network_reads_file(lora_extension()))
    return names.files.read(path).keys if leaves_out else frozenset()


def _load_without(original: Any, extension: Any, keys: frozenset[str], *arguments: Any) -> Any:
    """Load a LoRA as if ``keys`` were not in its file.

    Host: networks.py, ``load_network``, A1111 1.6.1-1.10.1: reads the file by ``sd_models.read_state_dict``, under
        the queue lock. Only the name ``sd_models`` in that one module is exchanged meanwhile.
    """
    kept = extension.sd_models
    extension.sd_models = _Filtered(kept, keys)
    try:
        return original(*arguments)
    finally:
        extension.sd_models = kept


class _Filtered:
    """The module ``sd_models`` with a reader that leaves some keys out."""

    def __init__(self, module: Any, keys: frozenset[str]) -> None:
        self._module = module
        self._keys = keys

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def read_state_dict(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """The file without the keys."""
        read: Mapping[str, Any] = self._module.read_state_dict(*arguments, **options)
        return {key: value for key, value in read.items() if key not in self._keys}


def reload_outdated(names: ActiveNames) -> None:
    """Make the webui read LoRAs again if their files were replaced or the current settings require it."""
    read_again(lambda net: _is_outdated(net, names))
    if names.broken.have_changed():
        load_again()
    if names.merged.have_changed():
        apply_again()
        load_again()


def _is_outdated(net: Any, names: ActiveNames) -> bool:
    read = getattr(net, _READ_NAME, None)
    path = file_of(net)
    return read is not None and (file_state(path), _keys_left_out(names, path)) != read
