"""Keeps the parts of the model on the device, through Forge's own memory management only."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.ports import ModelPart
from lib_pivotal.core.train.out_of_memory import is_out_of_memory
from lib_pivotal.host.webui.plain_tensors import use_plain_tensors

__all__ = ["ForgeMemory"]

_TRAINED: tuple[ModelPart, ...] = ("unet", "text_encoders")


class ForgeMemory:
    """Loads and unloads parts of one model; implements ``core.ports.Offloading``.

    Args:
        engine: Forge's model.

    Host: backend/memory_management.py, ``load_models_gpu``, ``current_loaded_models``, ``LoadedModel.model_unload``,
        Forge: loading any model may unload others, also those that are being trained; in Forge-Neo also parts of them.
    """

    def __init__(self, engine: Any) -> None:
        objects = engine.forge_objects_original
        self._patchers: dict[ModelPart, Any] = {
            "unet": objects.unet,
            "text_encoders": objects.clip.patcher,
            "vae": objects.vae.patcher,
        }
        self._offloaded: set[ModelPart] = set()
        self._in_use: list[ModelPart] = []

    def free_everything(self) -> None:
        """Unload all of Forge's models, so that the most memory is free for training.

        Host: backend/memory_management.py, ``unload_all_models``, Forge.
        """
        from backend import memory_management

        memory_management.unload_all_models()

    def settle(self) -> None:
        """Load what training needs now, and make its weights usable by autograd; after everything that Forge has done.

        Raises:
            HostError: the device has too little memory for the whole weights.
        """
        from backend import memory_management

        for part in (self._offloaded | {"vae"}) - set(self._in_use):
            # A preview has loaded it.
            self._unload(part)
        needed = self._needed()
        patchers = [self._patchers[part] for part in needed]
        memory_management.load_models_gpu(patchers)
        if not self._are_whole(needed):
            self.free_everything()
            _load_all_of(patchers)
        if not self._are_whole(needed):
            # Everything else was unloaded, so the next generation starts as usual.
            self.free_everything()
            text = "The GPU has too little free memory for the whole model, and training cannot swap weights."
            raise HostError(text, hint=_more_memory())
        use_plain_tensors(*(patcher.model for patcher in patchers))

    def is_offloaded(self, part: ModelPart) -> bool:
        """Whether a part is in main memory between uses; the VAE is, unless the last use has left it on the device."""
        return part in self._offloaded or (part == "vae" and self._loaded(part) is None)

    def offload(self, part: ModelPart) -> None:
        """Move a part to main memory; from now on it is on the device only within :meth:`on_device`."""
        self._offloaded.add(part)
        if part not in self._in_use:
            self._unload(part)

    def keep_on_device(self, part: ModelPart) -> None:
        """Move an offloaded part to the device, where it stays; does nothing if it stays there already."""
        if part in self._offloaded:
            self._offloaded.remove(part)
            self.settle()

    def weight_bytes(self, part: ModelPart) -> int:
        """Size of the weights of a part in bytes, as they are stored."""
        return sum(weight.numel() * weight.element_size() for weight in self._patchers[part].model.parameters())

    @contextlib.contextmanager
    def on_device(self, part: ModelPart) -> Iterator[None]:
        """Within the context a part is on the device; may be nested."""
        self._in_use.append(part)
        try:
            if not self._are_whole([part]):
                self.settle()
            yield
        finally:
            self._in_use.remove(part)
            if part in self._offloaded and part not in self._in_use:
                self._unload(part)
            # Loading this part may have unloaded others.
            if not self._are_whole(self._needed()):
                self.settle()

    def _needed(self) -> list[ModelPart]:
        """The VAE is needed only in use: Forge itself loads it for its own work."""
        kept = [part for part in _TRAINED if part not in self._offloaded]
        return [*kept, *dict.fromkeys(part for part in self._in_use if part not in kept)]

    def _loaded(self, part: ModelPart) -> Any:
        from backend import memory_management

        patcher = self._patchers[part]
        return next((item for item in memory_management.current_loaded_models if item.model is patcher), None)

    def _are_whole(self, parts: Sequence[ModelPart]) -> bool:
        """Whether all weights of parts are on the device."""
        loaded = [self._loaded(part) for part in parts]
        return all(item is not None and not _is_swapped(item) for item in loaded)

    def _unload(self, part: ModelPart) -> None:
        from backend import memory_management

        loaded = self._loaded(part)
        if loaded is not None:
            memory_management.current_loaded_models.remove(loaded)
            loaded.model_unload()
            memory_management.soft_empty_cache()


def _load_all_of(patchers: Sequence[Any]) -> None:
    """Load models without the memory that Forge reserves for images, since a run plans its own.

    Where memory does not suffice, some of them are not loaded.

    Host: backend/memory_management.py, ``current_inference_memory``, Forge: how much is reserved.
    Host: backend/memory_management.py, ``load_models_gpu``, Forge-Neo: reserves nothing if all is to be loaded.
    """
    from backend import memory_management

    can_force = "force_full_load" in inspect.signature(memory_management.load_models_gpu).parameters
    reserved = getattr(memory_management, "current_inference_memory", None)
    try:
        if can_force:
            memory_management.load_models_gpu(patchers, force_full_load=True)
        else:
            memory_management.current_inference_memory = 0
            memory_management.load_models_gpu(patchers)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    finally:
        if not can_force:
            memory_management.current_inference_memory = reserved


def _is_swapped(loaded: Any) -> bool:
    """Whether some weights of a loaded model come from main memory in every step.

    Host: backend/memory_management.py, ``LoadedModel.model_accelerated``, Forge: then the weights of some modules stay
        there.
    Host: backend/patcher/base.py, ``model_lowvram``, Forge-Neo: the same, as an attribute of the network.
    """
    return bool(getattr(loaded, "model_accelerated", False) or getattr(loaded.model.model, "model_lowvram", False))


def _more_memory() -> str:
    """How to give training more memory.

    Host: modules_forge/main_entry.py, ``ui_forge_inference_memory``, Forge: "GPU Weights" at the top of the page;
        Forge-Neo has no such slider.
    """
    from modules_forge import main_entry

    if hasattr(main_entry, "ui_forge_inference_memory"):
        return "Move GPU Weights at the top of the page to the right, or close other programs that use the GPU."
    return "Close other programs that use the GPU."
