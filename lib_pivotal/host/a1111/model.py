"""The webui's loaded model behind the engine's port."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.events import Control
from lib_pivotal.core.lora.naming import kohya_key, ldm_to_diffusers, open_clip_to_hf, role_of
from lib_pivotal.core.ports import EncodedText, LoraTarget, PictureSize
from lib_pivotal.core.resting import Resting
from lib_pivotal.host.a1111.codec import VaeCodec
from lib_pivotal.host.a1111.family import family_of, native_resolution, unet_of
from lib_pivotal.host.a1111.packed_attention import PackedAttention
from lib_pivotal.host.a1111.schedule import schedule_of
from lib_pivotal.host.a1111.sdxl import sdxl_vector
from lib_pivotal.host.a1111.text import OpenClipEncoder, WebuiEncoder, encoders_of

__all__ = ["A1111Model"]


class A1111Model:
    """The borrowed model; implements ``core.ports.DiffusionModel``.

    Args:
        model: ``shared.sd_model`` after :func:`lib_pivotal.host.a1111.lease.borrow` has prepared it.
        config: settings; precision and clip skip are used.
        control: asked to stop when the user presses the webui's Interrupt.
    """

    def __init__(self, model: Any, config: TrainConfig, control: Control) -> None:
        from modules import shared

        self._model = model
        self.family = family_of(model)
        self.native_resolution = native_resolution(model)
        self._unet = unet_of(model)
        self._control = control
        self._info = model.sd_checkpoint_info
        self._file = self._info.filename
        parameter = next(self._unet.parameters())
        self.device = parameter.device
        self._dtype = _compute_dtype(config.precision, parameter.dtype)
        self._needs_autocast = self._dtype != torch.float32 or parameter.dtype != torch.float32
        self.needs_loss_scaling = self._needs_autocast and self._dtype == torch.float16
        self.is_v_prediction = getattr(model, "parameterization", "eps") == "v"
        self.alphas_cumprod = schedule_of(model)
        self.model_name = str(self._info.name_for_extra)
        self.model_hash = str(self._info.sha256 or "")
        self.codec = VaeCodec(
            model,
            self.device,
            # Host: modules/shared_options.py, unload_models_when_training, A1111 1.6.1-1.10.1.
            rests_on_cpu=bool(getattr(shared.opts, "unload_models_when_training", False)),
            # SDXL's VAE gives wrong pictures in fp16 long before it gives none.
            in_fp32=self.family == "sdxl",
            heed=self._heed_interrupt,
        )
        self.text_encoders = encoders_of(model, self.family, config.clip_skip, self.autocast)
        self._texts = Resting([encoder.module for encoder in self.text_encoders], self.device)
        self.packed_attentions = _packed(self.text_encoders) if config.text_encoder_rank else {}
        """By module path, for each encoder that has such; what :func:`packed_attention.unpacked` wants."""

    def lora_targets(self) -> list[LoraTarget]:
        """Every Linear and convolution of the UNet and the text encoders, in the order of the modules."""
        targets = []
        for path, module in self._unet.named_modules():
            if _is_target(module):
                targets.append(_target("unet", ldm_to_diffusers(path), module, self.family))
        for encoder in self.text_encoders:
            for path, module in _text_layers(encoder, self.packed_attentions):
                targets.append(_target(encoder.name, path, module, self.family))
        return targets

    def condition(
        self, texts: Sequence[EncodedText], chunk_count: int, sizes: Sequence[PictureSize], is_empty: Sequence[bool]
    ) -> Any:
        """Chunks of a caption side by side, shape ``(B, 77 * chunk_count, width)``; for SDXL with its vector.

        Host: modules/sd_models_xl.py, ``get_learned_conditioning``, A1111 1.6.1-1.10.1: an empty negative prompt is all
        zeros there, text and pooled text.
        """
        joined = torch.cat([text.hidden for text in texts], dim=-1) if len(texts) > 1 else texts[0].hidden
        hidden = joined.reshape(len(sizes), chunk_count * joined.shape[1], joined.shape[2])
        if self.family != "sdxl":
            return hidden
        pooled = texts[1].pooled
        assert pooled is not None, "SDXL's second encoder has one"
        vector = sdxl_vector(self._model.conditioner, pooled[::chunk_count], sizes)
        if any(is_empty):
            kept = torch.tensor([not empty for empty in is_empty], device=hidden.device)
            hidden = hidden * kept[:, None, None]
            vector = torch.cat([vector[:, : pooled.shape[1]] * kept[:, None], vector[:, pooled.shape[1] :]], dim=1)
        return hidden, vector

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Any) -> torch.Tensor:
        """The UNet's output for ``noisy`` ``(B, C, h, w)`` at int64 ``timesteps`` ``(B,)``; same dtype as ``noisy``.

        Host: modules/sd_hijack_unet.py, ``apply_model``, A1111 1.6.1-1.10.1: it casts to the webui's dtype and
        changes the condition in place, so the UNet's own class forward is called instead.
        """
        text, vector = condition if isinstance(condition, tuple) else (condition, None)
        with self.autocast():
            output = type(self._unet).forward(self._unet, noisy, timesteps, context=text, y=vector)
        return output.to(noisy.dtype)

    def autocast(self) -> AbstractContextManager[Any]:
        """Precision of the forward pass; a null context in fp32.

        Host: modules/devices.py, ``autocast``, A1111 1.6.1-1.10.1: with ``--no-half`` or ``--precision`` it is a
        null context whatever the run wants, so the context is our own.
        """
        if not self._needs_autocast:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)

    @contextlib.contextmanager
    def checkpointing(self, *, enabled: bool) -> Iterator[None]:
        """Within the context the UNet's transformer and ResNet blocks recompute activations in backward.

        Host: ldm/modules/diffusionmodules/util.py, ``CheckpointFunction``, A1111 1.6.1-1.10.1: reentrant, it starves
        LoRA hooks of gradients; hence our own wrap around each block's ``_forward``.
        """
        blocks = [module for module in self._unet.modules() if _is_block(module)] if enabled else []
        for block in blocks:
            block.forward = _recomputing(block)
        try:
            yield
        finally:
            for block in blocks:
                block.__dict__.pop("forward", None)

    def save_memory(self) -> None:
        """Keep the VAE in main memory between uses."""
        self.codec.rest()

    def rest_text(self) -> None:
        """Take the text encoders off the device; the lease puts them back at the end."""
        self._texts.rest()

    def text_at_hand(self) -> AbstractContextManager[None]:
        """Within the context the text encoders are on the device."""
        return self._texts.at_hand()

    def verify(self) -> None:
        """Check that the model is still the borrowed one, on its device, and heed the webui's Interrupt.

        Raises:
            HostError: if somebody exchanged or moved the model meanwhile.

        Host: modules/sd_models.py, ``unload_model_weights``, A1111 1.6.1-1.10.1: the unload button and route do not
        wait for the queue.
        """
        from modules import sd_models

        if sd_models.model_data.sd_model is not self._model or self._model.sd_checkpoint_info.filename != self._file:
            raise HostError(
                "The webui changed its checkpoint while training.",
                hint="Start again; do not load another checkpoint meanwhile.",
            )
        # Modules are looked up anew: moving a model keeps the parameter objects.
        texts = () if self._texts.rests else (encoder.module for encoder in self.text_encoders)
        for part in (self._unet, *texts):
            if next(part.parameters()).device != self.device:
                raise HostError(
                    "The model was moved off its device while training.",
                    hint="Start again; do not unload the checkpoint meanwhile.",
                )
        self._heed_interrupt()

    def _heed_interrupt(self) -> None:
        """Take the webui's Interrupt as: finish the step, keep what is trained.

        Host: modules/shared_state.py, ``interrupted``, A1111 1.6.1-1.10.1, and ``stopping_generation``, from 1.8:
        flags of the whole webui, also set by Interrupt on a generation that waits in the queue.
        """
        from modules import shared

        if shared.state.interrupted or getattr(shared.state, "stopping_generation", False):
            self._control.stop()


def _compute_dtype(precision: str, stored: torch.dtype) -> torch.dtype:
    chosen = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    return chosen.get(precision, stored)


def _is_target(module: Any) -> bool:
    """Duck-typed: hosts and extensions bring their own Linear and convolution classes."""
    weight = module.__dict__.get("_parameters", {}).get("weight")
    if weight is None:
        return False
    is_linear = weight.ndim == 2 and hasattr(module, "in_features")
    return is_linear or (weight.ndim == 4 and hasattr(module, "in_channels"))


def _target(part: str, path: str, module: Any, family: str) -> LoraTarget:
    kernel = module.weight.shape[-1] if module.weight.ndim == 4 else 1
    return LoraTarget(kohya_key(part, path, family), part, role_of(path, kernel), module)


def _packed(encoders: Sequence[WebuiEncoder]) -> dict[str, dict[str, PackedAttention]]:
    """The attentions of open_clip's encoders: encoder name → module path → attention."""
    return {
        encoder.name: {
            path: PackedAttention(module)
            for path, module in encoder.module.named_modules()
            if hasattr(module, "in_proj_weight") and "resblocks" in path
        }
        for encoder in encoders
        if isinstance(encoder, OpenClipEncoder)
    }


def _text_layers(
    encoder: WebuiEncoder, packed: Mapping[str, Mapping[str, PackedAttention]]
) -> Iterator[tuple[str, Any]]:
    """Layers of a text encoder that can carry a LoRA, under transformers' paths."""
    if not isinstance(encoder, OpenClipEncoder):
        yield from ((path, module) for path, module in encoder.module.named_modules() if _is_target(module))
        return
    for path, attention in packed.get(encoder.name, {}).items():
        for part in ("q", "k", "v"):
            yield open_clip_to_hf(f"{path}.{part}"), getattr(attention, part)
        yield open_clip_to_hf(f"{path}.out_proj"), attention.out
    for path, module in encoder.module.named_modules():
        if _is_target(module) and ".mlp." in path:
            yield open_clip_to_hf(path), module


def _is_block(module: Any) -> bool:
    """Whether a module is a transformer or ResNet block.

    Host: ldm/modules/attention.py and openaimodel.py, A1111 1.6.1-1.10.1: token merging subclasses the
    transformer block, hence every class in its ancestry is looked at.
    """
    names = {kind.__name__ for kind in type(module).__mro__}
    return bool(names & {"BasicTransformerBlock", "ResBlock"}) and hasattr(module, "_forward")


def _recomputing(block: Any) -> Any:
    def forward(*arguments: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return block._forward(*arguments, **options)
        return checkpoint(block._forward, *arguments, use_reentrant=False, preserve_rng_state=False, **options)

    return forward
