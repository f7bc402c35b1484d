"""Loading a LoRA file: its embeddings are ours, all else is the webui's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_pivotal.host.bundle_prompts.files import FileState, file_state
from lib_pivotal.host.bundle_prompts.hooks import Hooks, guarded
from lib_pivotal.host.bundle_prompts.networks import lora_extension
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.bundle_prompts.state import LoaderState

__all__ = ["add_takeover_hooks", "give_back", "reload_outdated"]

_READ_NAME = "pivotal_read"
"""Attribute on the webui's own LoRA object: the file as it was read, and the keys that were left out."""
_REPLACED = (("replaced by pivotal tuning", 0.0, 0.0, None),)
"""Never among the LoRAs that a layer should have, so the webui restores the layer and applies them anew."""


def add_takeover_hooks(hooks: Hooks, state: LoaderState) -> None:
    """Keep embeddings out of the webui's own handling of LoRA files.

    Args:
        hooks: takes the hooks.
        state: reads the embeddings instead.

    Host: extensions-builtin/Lora/networks.py, ``load_network``, A1111 1.6.1-1.10.1: one odd embedding key loses the
        whole LoRA there, and a name that is empty to the tokenizer blocks all LoRAs until a restart.
    """
    extension = lora_extension()
    if extension is None:
        return
    reads_file = _reads_file(extension)
    last: dict[str, FileState | None] = {}

    def load_network(original: Any, name: Any, network_on_disk: Any, *rest: Any) -> Any:
        path = str(network_on_disk.filename)
        found = file_state(path)
        keys = guarded("reading a bundle", lambda: _keys_left_out(state, path), frozenset())
        net = _load_without(original, extension, keys, name, network_on_disk, *rest) if keys and reads_file else None
        if net is None:
            net = original(name, network_on_disk, *rest)
        elif getattr(net, "bundle_embeddings", None):
            net.bundle_embeddings = {}
        setattr(net, _READ_NAME, (found, keys))
        if reads_file and last.setdefault(path, found) != found:
            last[path] = found
            guarded("replacing a LoRA", _apply_anew, None)
        return net

    hooks.wrap(extension, "load_network", load_network)
    _add_forge_hook(hooks, state, extension)


def _reads_file(extension: Any) -> bool:
    """Whether ``load_network`` reads the file.

    Host: networks.py, ``load_network``, Forge and its kin: does not, ``load_lora_state_dict`` does.
    """
    return not hasattr(extension, "load_lora_state_dict")


def _add_forge_hook(hooks: Hooks, state: LoaderState, extension: Any) -> None:
    """Keep our keys from Forge's loader, too.

    Host: networks.py, ``load_lora_state_dict``, Forge, old Forge, reForge, Forge-classic: an ``lru_cache`` by file
        name, whatever has become of the file; what it returns goes to a loader that drops the whole LoRA when more
        than 12 keys fit nothing.
    """
    cached = getattr(extension, "load_lora_state_dict", None)
    if cached is None:
        return
    last: dict[str, FileState | None] = {}

    def load_lora_state_dict(original: Any, filename: Any) -> Any:
        found = file_state(str(filename))
        if last.setdefault(str(filename), found) != found:
            last[str(filename)] = found
            cached.cache_clear()
        read = original(filename)
        keys = guarded("reading a bundle", lambda: _keys_left_out(state, str(filename)), frozenset())
        return {key: value for key, value in read.items() if key not in keys} if keys else read

    hooks.wrap(extension, "load_lora_state_dict", load_lora_state_dict)
    extension.load_lora_state_dict.cache_clear = cached.cache_clear


def _keys_left_out(state: LoaderState, path: str) -> frozenset[str]:
    """Keys of a file that the webui is not shown, by the settings as they are now."""
    settings = read_settings()
    # Forge handles no bundles of its own, so there is nothing to stand back for.
    leaves_out = settings.is_on and (settings.takes_over or not _reads_file(lora_extension()))
    return state.files.read(path).keys if leaves_out else frozenset()


def _load_without(original: Any, extension: Any, keys: frozenset[str], *arguments: Any) -> Any:
    """Load a LoRA as if its file did not have ``keys``.

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
    """The module ``sd_models``, whose reader leaves some keys out."""

    def __init__(self, module: Any, keys: frozenset[str]) -> None:
        self._module = module
        self._keys = keys

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def read_state_dict(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """The file without the keys."""
        read: Mapping[str, Any] = self._module.read_state_dict(*arguments, **options)
        return {key: value for key, value in read.items() if key not in self._keys}


def reload_outdated(state: LoaderState) -> None:
    """Have LoRAs loaded anew whose files were replaced since, or that the settings now want read otherwise.

    Host: networks.py, ``load_networks``, A1111 1.6.1-1.10.1: takes what acts or is in ``networks_in_memory`` unless the
        file is newer than ``mtime``.
    """
    from modules import sd_models

    extension = lora_extension()
    if extension is None:
        return
    kept = getattr(extension, "networks_in_memory", {})
    for name, net in list(kept.items()):
        if _is_outdated(net, state):
            kept.pop(name, None)
    outdated = [net for net in list(extension.loaded_networks) if _is_outdated(net, state)]
    for net in outdated:
        net.mtime = 0
    if outdated and not _reads_file(extension):
        # Host: networks.py, ``load_networks``, Forge and its kin: does nothing while this text is the same.
        extension.load_lora_state_dict.cache_clear()
        sd_models.model_data.sd_model.current_lora_hash = ""


def _is_outdated(net: Any, state: LoaderState) -> bool:
    path = getattr(getattr(net, "network_on_disk", None), "filename", None)
    read = getattr(net, _READ_NAME, None)
    return read is not None and (file_state(str(path)), _keys_left_out(state, str(path))) != read


def _apply_anew() -> None:
    """Have every layer that has a LoRA in it restored and filled again when it is used next.

    Host: networks.py, ``network_apply_weights``, A1111 1.6.1-1.10.1: compares names and multipliers in
        ``network_current_names`` only, so a replaced file would go on acting with its old weights, in all models that
        are kept in memory. A layer with names there has a backup.
    """
    from modules import sd_models

    data = sd_models.model_data
    for model in [data.sd_model, *data.loaded_sd_models]:
        for module in model.modules() if hasattr(model, "modules") else ():
            if getattr(module, "network_current_names", ()) != ():
                module.network_current_names = _REPLACED


def give_back() -> None:
    """Let the webui read all LoRAs anew by itself, as it would have without us."""
    extension = lora_extension()
    if extension is not None:
        getattr(extension, "networks_in_memory", {}).clear()
        for net in list(extension.loaded_networks):
            net.mtime = 0
