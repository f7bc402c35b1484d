"""Where the parts of the model are during a run: on the device only while they are needed, if memory is short."""

from __future__ import annotations

from collections.abc import Sequence

from lib_pivotal.core.config.negative import has_negatives
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.latents import LatentItem
from lib_pivotal.core.ports import DiffusionModel, ModelPart
from lib_pivotal.core.train.memory import MemoryPlan, encoding_batch, has_room_to_encode, plan_memory
from lib_pivotal.core.train.memory_estimate import changes_captions

__all__ = ["Placement"]


class Placement:
    """Moves the parts of the model to where each stage of a run needs them.

    Args:
        config: the settings.
        model: the borrowed model.

    Attributes:
        moves_trained_parts: whether parts that are trained are moved during the steps or for previews; known after
            :meth:`for_steps`.
        may_offload_text: whether to offload the text encoders once nothing that their output depends on is trained any
            more; known after :meth:`for_steps`.
    """

    def __init__(self, config: TrainConfig, model: DiffusionModel) -> None:
        self._config = config
        self._model = model
        # On such a host little is free on the device, whatever the plan will say.
        self._is_small = model.offloading.is_offloaded("unet")
        self.may_offload_text = False
        self.moves_trained_parts = False

    def for_encoding(self) -> int:
        """Make room to encode images, if memory is to be saved or is short.

        Returns:
            The number of images to encode together.
        """
        config, model = self._config, self._model
        cells = (config.resolution // model.vae.scale_factor) ** 2
        weights = self._bytes_to_move(["vae"])
        if config.memory == "save" or not has_room_to_encode(model.device, cells, weights=weights):
            model.offloading.offload("unet")
            model.offloading.offload("text_encoders")
        return encoding_batch(model.device, config.batch_size, cells, weights=weights)

    def for_steps(self, items: Sequence[LatentItem], *, trained_count: int, trains_text: bool) -> MemoryPlan:
        """Move the parts to where the steps need them.

        Args:
            items: latents of the images.
            trained_count: number of trained values.
            trains_text: whether the output of the text encoders depends on anything that is trained.

        Returns:
            How the steps use the device's memory.
        """
        config, offloading = self._config, self._model.offloading
        needed: list[ModelPart] = ["unet"]
        if trains_text or changes_captions(config):
            needed.append("text_encoders")
        plan = plan_memory(
            self._model.family,
            self._model.device,
            mode=config.memory,
            checkpoints=config.gradient_checkpointing or self._model.must_recompute,
            trained_count=trained_count,
            cells=max(item.mean.shape[-2] * item.mean.shape[-1] for item in items),
            # With negative captions each item is predicted twice.
            batch_size=config.batch_size * (2 if has_negatives(config.concepts) else 1),
            weights=self._bytes_to_move(needed),
            text=offloading.weight_bytes("text_encoders") if "text_encoders" in needed else 0,
        )
        saves = plan.saves or self._is_small
        if saves:
            offloading.offload("vae")
        if plan.swaps_text:
            offloading.offload("text_encoders")
            needed.remove("text_encoders")
        for part in needed:
            offloading.keep_on_device(part)
        self.moves_trained_parts = self._is_small or plan.swaps_text
        # Captions that change at every step need the text encoders until the end.
        self.may_offload_text = saves and not changes_captions(config)
        return plan

    def _bytes_to_move(self, parts: Sequence[ModelPart]) -> int:
        """Size of the weights that are not on the device yet."""
        offloading = self._model.offloading
        return sum(offloading.weight_bytes(part) for part in parts if offloading.is_offloaded(part))
