"""Loading a LoRA file: its embeddings are ours, all else is the webui's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_pivotal.host.loader.files import file_state
from lib_pivotal.host.loader.hooks import Hooks, guarded
from lib_pivotal.host.loader.networks import lora_extension
from lib_pivotal.host.loader.settings import read_settings
from lib_pivotal.host.loader.state import LoaderState

__all__ = ["STATE_NAME", "add_takeover_hooks", "give_back", "reload_overwritten"]

STATE_NAME = "pivotal_file_state"
"""Attribute on the webui's own LoRA object: the file as it was read."""


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

    # Host: networks.py, ``load_network``, Forge and its kin: does not read the file, ``load_lora_state_dict`` does.
    reads_file = not hasattr(extension, "load_lora_state_dict")

    def load_network(original: Any, name: Any, network_on_disk: Any, *rest: Any) -> Any:
        path = str(network_on_disk.filename)
        found = file_state(path)
        keys = guarded("reading a bundle", lambda: _our_keys(state, path), frozenset()) if reads_file else frozenset()
        net = _load_without(original, extension, keys, name, network_on_disk, *rest) if keys else None
        if net is None:
            net = original(name, network_on_disk, *rest)
        elif getattr(net, "bundle_embeddings", None):
            net.bundle_embeddings = {}
        setattr(net, STATE_NAME, found)
        return net

    hooks.wrap(extension, "load_network", load_network)
    _add_forge_hook(hooks, state, extension)


def _add_forge_hook(hooks: Hooks, state: LoaderState, extension: Any) -> None:
    """Keep our keys from Forge's loader, too.

    Host: networks.py, ``load_lora_state_dict``, Forge, old Forge, reForge, Forge-classic: an ``lru_cache`` by file
        name; what it returns goes to a loader that drops the whole LoRA when more than 12 keys fit nothing.
    """
    cached = getattr(extension, "load_lora_state_dict", None)
    if cached is None:
        return

    def load_lora_state_dict(original: Any, filename: Any) -> Any:
        read = original(filename)
        keys = guarded("reading a bundle", lambda: _our_keys(state, str(filename)), frozenset())
        return {key: value for key, value in read.items() if key not in keys} if keys else read

    hooks.wrap(extension, "load_lora_state_dict", load_lora_state_dict)
    extension.load_lora_state_dict.cache_clear = cached.cache_clear


def _our_keys(state: LoaderState, path: str) -> frozenset[str]:
    settings = read_settings()
    return state.files.read(path).keys if settings.is_on and settings.takes_over else frozenset()


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


def reload_overwritten() -> None:
    """Have LoRAs whose files were replaced since they were read loaded anew, weights included.

    Host: networks.py, ``network_apply_weights``, A1111 1.6.1-1.10.1: compares names and multipliers only, so a
        replaced file would go on acting with its old weights; ``networks_in_memory`` looks at the time only.
    """
    from modules import sd_models

    extension = lora_extension()
    if extension is None:
        return
    kept = getattr(extension, "networks_in_memory", {})
    for name, net in list(kept.items()):
        if _is_outdated(net):
            kept.pop(name, None)
    if not any(_is_outdated(net) for net in list(extension.loaded_networks)):
        return
    model = sd_models.model_data.sd_model
    if hasattr(extension, "load_lora_state_dict"):
        # Host: networks.py, ``load_networks``, Forge and its kin: does nothing while this text is the same.
        extension.load_lora_state_dict.cache_clear()
        model.current_lora_hash = ""
    else:
        _unload_all(extension, model)


def _is_outdated(net: Any) -> bool:
    read = getattr(net, STATE_NAME, None)
    return read is not None and file_state(read.path) != read


def _unload_all(extension: Any, model: Any) -> None:
    """Take every LoRA out of the weights now.

    Host: networks.py, ``network_apply_weights``, A1111 1.6.1-1.10.1: restores lazily, and copies in place.
    """
    import torch

    with torch.no_grad():
        extension.load_networks([])
        for module in model.modules() if model is not None else ():
            if getattr(module, "network_current_names", ()) != ():
                extension.network_apply_weights(module)


def give_back() -> None:
    """Let the webui read all LoRAs anew by itself, as it would have without us."""
    extension = lora_extension()
    if extension is not None:
        getattr(extension, "networks_in_memory", {}).clear()
        for net in list(extension.loaded_networks):
            net.mtime = 0
