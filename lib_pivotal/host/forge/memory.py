"""Keeps the parts of the model on the device, through Forge's own memory management only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.ports import ModelPart
from lib_pivotal.host.webui.plain_tensors import use_plain_tensors

__all__ = ["ForgeMemory"]

_TRAINED: tuple[ModelPart, ...] = ("unet", "text_encoders")


class ForgeMemory:
    """Loads and unloads parts of one model; implements ``core.ports.Offloading``.

    Args:
        engine: Forge's model.

    Host: backend/memory_management.py, ``load_models_gpu``, ``current_loaded_models``, ``LoadedModel.model_unload``,
        Forge: loading any model may unload others, also those that are being trained.
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

        for part in self._offloaded - set(self._in_use):
            # A preview has loaded it.
            self._unload(part)
        patchers = [self._patchers[part] for part in self._needed()]
        memory_management.load_models_gpu(patchers)
        if self._is_swapped(patchers):
            self.free_everything()
            memory_management.load_models_gpu(patchers)
        if self._is_swapped(patchers):
            # Everything else was unloaded, so the next generation starts as usual.
            self.free_everything()
            text = "The GPU has too little free memory for the whole model, and training cannot swap weights."
            hint = "Move GPU Weights at the top of the page to the right, or close other programs that use the GPU."
            raise HostError(text, hint=hint)
        use_plain_tensors(*(patcher.model for patcher in patchers))

    def is_offloaded(self, part: ModelPart) -> bool:
        """Whether a part stays in main memory between uses."""
        return part in self._offloaded

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
            if not self._is_loaded(part):
                self.settle()
            yield
        finally:
            self._in_use.remove(part)
            if part in self._offloaded and part not in self._in_use:
                self._unload(part)
            # Loading this part may have unloaded others.
            if not all(self._is_loaded(other) for other in self._needed()):
                self.settle()

    def _needed(self) -> list[ModelPart]:
        """The VAE is needed only in use: Forge itself loads it for its own work."""
        kept = [part for part in _TRAINED if part not in self._offloaded]
        return [*kept, *dict.fromkeys(part for part in self._in_use if part not in kept)]

    def _loaded(self, part: ModelPart) -> Any:
        from backend import memory_management

        patcher = self._patchers[part]
        return next((item for item in memory_management.current_loaded_models if item.model is patcher), None)

    def _is_loaded(self, part: ModelPart) -> bool:
        return self._loaded(part) is not None

    def _unload(self, part: ModelPart) -> None:
        from backend import memory_management

        loaded = self._loaded(part)
        if loaded is not None:
            memory_management.current_loaded_models.remove(loaded)
            loaded.model_unload()
            memory_management.soft_empty_cache()

    @staticmethod
    def _is_swapped(patchers: Sequence[Any]) -> bool:
        """Whether some weights come from main memory in every step.

        Host: backend/memory_management.py, ``model_accelerated``, Forge: then the weights of some modules stay there.
        """
        from backend import memory_management

        wanted = {id(patcher) for patcher in patchers}
        loaded = memory_management.current_loaded_models
        return any(item.model_accelerated for item in loaded if id(item.model) in wanted)
