"""Forge's loaded model as the engine sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.events import Control
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.naming import ldm_to_diffusers
from lib_pivotal.core.lora.targets import is_lora_layer, lora_target
from lib_pivotal.core.ports import EncodedText, ImageSize, LoraTarget, ModelPart
from lib_pivotal.core.textual_inversion.conditioning import join_encoders
from lib_pivotal.host.forge.blocks import recomputing, text_blocks, unet_blocks
from lib_pivotal.host.forge.family import family_of, is_v_prediction, native_resolution, unet_of
from lib_pivotal.host.forge.memory import ForgeMemory
from lib_pivotal.host.forge.noise_schedule import noise_schedule_of
from lib_pivotal.host.forge.text import encoders_of
from lib_pivotal.host.webui.borrowed_model import verify_borrowed
from lib_pivotal.host.webui.embedded_sizes import EmbeddedSizes
from lib_pivotal.host.webui.progress import must_stop
from lib_pivotal.host.webui.timestep_table import TimestepTable
from lib_pivotal.host.webui.vae import WebuiVae

__all__ = ["ForgeModel"]


class ForgeModel:
    """The borrowed model; implements ``core.ports.DiffusionModel``.

    Args:
        engine: Forge's model after :func:`lib_pivotal.host.forge.lease.borrow` has prepared it.
        config: the settings of the run; precision, clip skip and the text encoders' LoRA rank are used.
        control: asked to stop when the user presses the webui's Interrupt.
        memory: keeps the model on the device.

    Raises:
        HostError: the chosen precision does not fit the loaded weights, or the parts are on different devices.
    """

    def __init__(self, engine: Any, config: TrainConfig, control: Control, memory: ForgeMemory) -> None:
        self._engine = engine
        self.family = family_of(engine)
        family = FAMILIES[self.family]
        self.native_resolution = native_resolution(engine)
        self._unet = unet_of(engine)
        self._control = control
        self._info = engine.sd_checkpoint_info
        self._file = self._info.filename
        self.device = next(self._unet.parameters()).device
        self.must_recompute = any(getattr(part, "parameters_manual_cast", False) for part in self._unet.modules())
        self._dtype = _compute_dtype(config.precision, self._unet, casts_weights=self.must_recompute)
        self.needs_loss_scaling = self._dtype == torch.float16
        self.is_v_prediction = is_v_prediction(engine)
        self.alphas_cumprod = noise_schedule_of(engine)
        self._timesteps = TimestepTable(self._unet, len(self.alphas_cumprod))
        self._sizes = EmbeddedSizes(self._embedded)
        self.model_name = str(self._info.name_for_extra)
        self.model_hash = str(self._info.sha256 or "")
        self.text_encoders = encoders_of(engine, family, config.clip_skip)
        self.offloading = memory
        vae = engine.forge_objects_original.vae.first_stage_model
        self.vae = WebuiVae(vae, _latent_scale(vae), memory, in_fp32=family.needs_fp32_vae)
        self._checked: dict[ModelPart, list[Any]] = {
            "unet": [self._unet],
            "text_encoders": [encoder.module for encoder in self.text_encoders],
        }
        self._require_one_device()

    @property
    def unet(self) -> torch.nn.Module:
        """The UNet itself."""
        network: torch.nn.Module = self._unet
        return network

    def lora_targets(self) -> list[LoraTarget]:
        """Every Linear layer and convolution of the UNet and the text encoders, in the order of the modules.

        Host: backend/nn/clip.py, ``IntegratedCLIP.text_projection``, Forge: a layer outside of the text model, which no
            LoRA of a text encoder has.
        """
        targets = []
        for path, module in self._unet.named_modules():
            if is_lora_layer(module):
                targets.append(lora_target("unet", ldm_to_diffusers(path), module, self.family))
        for encoder in self.text_encoders:
            for path, module in encoder.module.named_modules():
                if path.startswith("text_model.") and is_lora_layer(module):
                    targets.append(lora_target(encoder.name, path, module, self.family))
        return targets

    def condition(
        self, texts: Sequence[EncodedText], chunk_count: int, sizes: Sequence[ImageSize], is_empty: Sequence[bool]
    ) -> Any:
        """The hidden states, shape ``(B, 77 * chunk_count, width)``; with SDXL's vector where the family has one."""
        family = FAMILIES[self.family]
        hidden, pooled = join_encoders(texts, chunk_count, is_empty, zero_empty=family.zero_empty_caption)
        if not family.has_size_conditioning:
            return hidden
        assert pooled is not None, "families with size conditioning have pooled text"
        return hidden, torch.cat([pooled.float(), self._sizes.of(sizes, pooled.device)], dim=1)

    def _embedded(self, size: ImageSize, device: torch.device) -> torch.Tensor:
        """The embedded sizes of an image, fp32, shape ``(1, 1536)``.

        Host: backend/diffusion_engine/sdxl.py, ``get_learned_conditioning``, Forge: pooled text first, then height and
            width, top and left of the crop, and height and width of the target, each through ``embedder``.
        """
        numbers = torch.tensor([*size.original, *size.crop, *size.target], dtype=torch.float32, device=device)
        return self._engine.embedder(numbers).float().reshape(1, -1)

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Any) -> torch.Tensor:
        """The UNet's output for ``noisy`` ``(B, C, h, w)`` at int64 ``timesteps`` ``(B,)``; same dtype as ``noisy``.

        Host: backend/modules/k_model.py, ``KModel.apply_model``, Forge: gives the UNet everything in its computation
            type, and the timesteps as fp32.
        Host: backend/nn/unet.py, ``IntegratedUNet2DConditionModel.forward``, Forge: writes into
            ``transformer_options``, also into the default, so a new one is passed.
        """
        text, vector = condition if isinstance(condition, tuple) else (condition, None)
        with self.autocast(), self._timesteps.in_use():
            output = type(self._unet).forward(
                self._unet,
                noisy.to(self._dtype),
                timesteps.float(),
                context=text.to(self._dtype),
                y=None if vector is None else vector.to(self._dtype),
                transformer_options={},
            )
        return output.to(noisy.dtype)

    def autocast(self) -> AbstractContextManager[Any]:
        """Precision of the UNet's forward pass; a null context in fp32.

        Host: modules/devices.py, ``autocast``, Forge: always a null context, since everything is in the computation
            type; a LoRA is not, so a context of our own is used.
        """
        if self._dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)

    @contextlib.contextmanager
    def checkpointing(self, *, enabled: bool) -> Iterator[None]:
        """Within the context the UNet's transformer and ResNet blocks recompute activations in backward.

        Blocks whose weights are cast always do, text encoders too: autograd would keep every cast weight, which is more
        than the model itself.

        Host: backend/nn/unet.py, ``checkpoint``, Forge: raises if it is enabled.
        Host: backend/operations.py, ``parameters_manual_cast``, ``weights_manual_cast``, Forge: with weights in fp8,
            and for every text encoder.
        """
        with ExitStack() as stack:
            if enabled or self.must_recompute:
                stack.enter_context(recomputing(unet_blocks(self._unet), "_forward"))
            for encoder in self.text_encoders:
                blocks = text_blocks(encoder.module.text_model)
                if next(blocks[0].parameters()).dtype != torch.float32:
                    stack.enter_context(recomputing(blocks, "forward"))
            yield

    def verify(self) -> None:
        """Check that the model is still the borrowed one and on its device.

        Raises:
            HostError: the model was exchanged or moved in the meantime.
        """
        verify_borrowed(self._engine, self._file, self._checked, self.device, self.offloading)

    def poll_requests(self) -> None:
        """Pass on the webui's Interrupt: training stops after the current step and progress is kept."""
        if must_stop():
            self._control.stop()

    def _require_one_device(self) -> None:
        """Refuse a model in two places.

        Host: backend/memory_management.py, ``text_encoder_device``, Forge: the CPU, where the GPU is slow in fp16.
        """
        devices = {str(next(encoder.module.parameters()).device) for encoder in self.text_encoders}
        if devices != {str(self.device)}:
            text = f"The webui runs the text encoder on {devices.pop()} and the UNet on {self.device}."
            raise HostError(text, hint="Start the webui with --always-gpu.")


def _latent_scale(vae: Any) -> float:
    """Factor from the VAE's latents to the UNet's.

    Host: backend/nn/vae.py, ``IntegratedAutoencoderKL.scaling_factor``, Forge.
    Host: backend/nn/_vae.py, ``ProcessLatent.latent_format``, Forge-Neo.
    """
    return float(vae.scaling_factor if hasattr(vae, "scaling_factor") else vae.latent_format.scale_factor)


def _compute_dtype(precision: str, unet: Any, *, casts_weights: bool) -> torch.dtype:
    """The type in which the UNet computes.

    Host: backend/loader.py, ``computation_dtype``, ``storage_dtype``, Forge: attributes of the UNet.
    """
    chosen = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    dtype = chosen.get(precision, unet.computation_dtype)
    if dtype == torch.float32 and unet.storage_dtype != torch.float32 and not casts_weights:
        stored = "bf16" if unet.storage_dtype == torch.bfloat16 else "fp16"
        raise HostError(
            f"The webui has loaded the model in {stored}, so it cannot run in fp32.",
            hint="Choose auto, or start the webui with --all-in-fp32.",
        )
    return dtype
