"""The webui's loaded model as the engine sees it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.core.families import FAMILIES
from lib_pivotal.core.lora.naming import ldm_to_diffusers, open_clip_to_hf
from lib_pivotal.core.lora.targets import is_lora_layer, lora_target
from lib_pivotal.core.negative_rows import with_same_rows
from lib_pivotal.core.ports import EncodedText, ImageSize, LoraTarget, ModelPart
from lib_pivotal.core.textual_inversion.conditioning import join_encoders
from lib_pivotal.host.a1111.eight_bits import EIGHT_BIT, is_in_eight_bits
from lib_pivotal.host.a1111.family import family_of, native_resolution, unet_of
from lib_pivotal.host.a1111.noise_schedule import noise_schedule_of
from lib_pivotal.host.a1111.packed_attention import PackedAttention
from lib_pivotal.host.a1111.size_conditioning import embedded_size
from lib_pivotal.host.a1111.text import OpenClipEncoder, WebuiEncoder, encoders_of
from lib_pivotal.host.offload import Offloading
from lib_pivotal.host.webui.borrowed_model import verify_borrowed
from lib_pivotal.host.webui.embedded_sizes import EmbeddedSizes
from lib_pivotal.host.webui.progress import must_stop
from lib_pivotal.host.webui.timestep_table import TimestepTable
from lib_pivotal.host.webui.vae import WebuiVae

__all__ = ["A1111Model", "recomputing_forwards"]


class A1111Model:
    """The borrowed model; implements ``core.ports.DiffusionModel``.

    Args:
        model: ``shared.sd_model`` after :func:`lib_pivotal.host.a1111.lease.borrow` has prepared it.
        config: the settings of the run; precision, clip skip and the text encoders' LoRA rank are used.
        control: asked to stop when the user presses the webui's Interrupt.
        is_offloaded: whether all parts are in main memory, because the webui is in a low-memory mode.
    """

    open_clip: type[WebuiEncoder] = OpenClipEncoder
    """Class of SD2's encoder and of SDXL's second one."""

    def __init__(self, model: Any, config: TrainConfig, control: Control, *, is_offloaded: bool = False) -> None:
        from modules import devices, shared

        self._model = model
        self.family = family_of(model)
        family = FAMILIES[self.family]
        self.native_resolution = native_resolution(model)
        self._unet = unet_of(model)
        self._control = control
        self._info = model.sd_checkpoint_info
        self._file = self._info.filename
        # A tensor's device has an index, which the webui's own may lack.
        self.device = torch.empty(0, device=devices.device).device
        stored = next(self._unet.parameters()).dtype
        self.must_recompute = is_in_eight_bits(self._unet)
        self._dtype = _compute_dtype(config.precision, stored, self.device)
        self._needs_autocast = self._dtype != torch.float32 or stored != torch.float32
        self.needs_loss_scaling = self._needs_autocast and self._dtype == torch.float16
        self.is_v_prediction = getattr(model, "parameterization", "eps") == "v"
        self.alphas_cumprod = noise_schedule_of(model)
        self._timesteps = TimestepTable(self._unet, len(self.alphas_cumprod))
        self._sizes = EmbeddedSizes(lambda size, device: embedded_size(model.conditioner, size, device))
        self.model_name = str(self._info.name_for_extra)
        self.model_hash = str(self._info.sha256 or "")
        self.text_encoders = encoders_of(model, family, config.clip_skip, self.autocast, self.open_clip)
        self._checked: dict[ModelPart, list[Any]] = {
            "unet": [self._unet],
            "text_encoders": [encoder.module for encoder in self.text_encoders],
        }
        parts: dict[ModelPart, list[Any]] = {**self._checked, "vae": [model.first_stage_model]}
        self.offloading = Offloading(parts, self.device, offloaded=parts if is_offloaded else ())
        # Host: modules/shared_options.py, ``unload_models_when_training``, A1111 1.6.1-1.10.1.
        if getattr(shared.opts, "unload_models_when_training", False):
            self.offloading.offload("vae")
        self.vae = WebuiVae(model.first_stage_model, model.scale_factor, self.offloading, in_fp32=family.needs_fp32_vae)
        self.packed_attentions = _packed(self.text_encoders) if config.text_encoder_rank else {}
        """Encoder name → module path → attention; to be unpacked by :func:`packed_attention.unpacked`."""

    @property
    def unet(self) -> torch.nn.Module:
        """The UNet itself."""
        network: torch.nn.Module = self._unet
        return network

    def lora_targets(self) -> list[LoraTarget]:
        """Every Linear layer and convolution of the UNet and the text encoders, in the order of the modules."""
        targets = []
        for path, module in self._unet.named_modules():
            if is_lora_layer(module):
                targets.append(lora_target("unet", ldm_to_diffusers(path), module, self.family))
        for encoder in self.text_encoders:
            for path, module in _text_layers(encoder, self.packed_attentions):
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

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Any) -> torch.Tensor:
        """The UNet's output for ``noisy`` ``(B, C, h, w)`` at int64 ``timesteps`` ``(B,)``; same dtype as ``noisy``.

        Host: modules/sd_hijack_unet.py, ``apply_model``, A1111 1.6.1-1.10.1: casts to the webui's dtype and changes the
        conditioning in place, so the forward of the UNet's own class is called instead.
        """
        text, vector = condition if isinstance(condition, tuple) else (condition, None)
        with self.autocast(), self._timesteps.in_use():
            output = type(self._unet).forward(self._unet, noisy, timesteps, context=text, y=vector)
        return output.to(noisy.dtype)

    def autocast(self) -> AbstractContextManager[Any]:
        """Precision of the forward pass; a null context in fp32.

        Host: modules/devices.py, ``autocast``, A1111 1.6.1-1.10.1: a null context with ``--no-half`` or
        ``--precision full``, whatever precision the run wants, so a context of our own is used.
        """
        if not self._needs_autocast:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._dtype)

    @contextlib.contextmanager
    def checkpointing(self, *, enabled: bool) -> Iterator[None]:
        """Within the context the UNet's transformer and ResNet blocks recompute activations in backward.

        The layers of text encoders whose weights are stored in 8 bits do, too: autograd would keep a copy of each
        weight in the type in which it is used.

        Host: ldm/modules/diffusionmodules/util.py, ``CheckpointFunction``, A1111 1.6.1-1.10.1: it is reentrant, so LoRA
        hooks would get no gradient. Therefore each block's ``_forward`` is wrapped here.
        """
        blocks = [module for module in self._unet.modules() if _is_block(module)] if enabled else []
        layers = [
            layer
            for encoder in self.text_encoders
            for layer in (encoder.layers() if is_in_eight_bits(encoder.module) else [])
        ]
        with recomputing_forwards([*blocks, *layers]):
            yield

    def verify(self) -> None:
        """Check that the model is still the borrowed one and on its device.

        Raises:
            HostError: the model was exchanged or moved in the meantime.
        """
        verify_borrowed(self._model, self._file, self._checked, self.device, self.offloading)

    def poll_requests(self) -> None:
        """Pass on the webui's Interrupt: training stops after the current step and progress is kept."""
        if must_stop():
            self._control.stop()


def _compute_dtype(precision: str, stored: torch.dtype, device: torch.device) -> torch.dtype:
    """Host: modules/devices.py, ``autocast``, A1111 1.8-1.10.1: uses weights in 8 bits in fp16, on a CPU in bf16."""
    chosen = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    if precision == "auto" and stored in EIGHT_BIT:
        return torch.bfloat16 if device.type == "cpu" else torch.float16
    return chosen.get(precision, stored)


def _packed(encoders: Sequence[WebuiEncoder]) -> dict[str, dict[str, PackedAttention]]:
    """The attention layers of open_clip's encoders: encoder name → module path → attention."""
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
    """Paths, as transformers has them, and layers of a text encoder that can carry a LoRA."""
    if not isinstance(encoder, OpenClipEncoder):
        yield from ((path, module) for path, module in encoder.module.named_modules() if is_lora_layer(module))
        return
    for path, attention in packed.get(encoder.name, {}).items():
        for part in ("q", "k", "v"):
            yield open_clip_to_hf(f"{path}.{part}"), getattr(attention, part)
        yield open_clip_to_hf(f"{path}.out_proj"), attention.out
    for path, module in encoder.module.named_modules():
        if is_lora_layer(module) and ".mlp." in path:
            yield open_clip_to_hf(path), module


@contextlib.contextmanager
def recomputing_forwards(blocks: Sequence[Any]) -> Iterator[None]:
    """Within the context modules recompute their activations in the backward pass."""
    for block in blocks:
        block.forward = _recomputing(block)
    try:
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


def _is_block(module: Any) -> bool:
    """Whether a module is a transformer or ResNet block.

    Host: modules/sd_models.py, ``apply_token_merging``, A1111 1.6.1-1.10.1: token merging replaces the class of a
    transformer block by a subclass, so all of its base classes are looked at.
    """
    names = {base.__name__ for base in type(module).__mro__}
    return bool(names & {"BasicTransformerBlock", "ResBlock"})


def _recomputing(block: Any) -> Any:
    """Host: ldm_patched/ldm/modules/attention.py, ``BasicTransformerBlock``, reForge: has no ``_forward``."""
    has_own = hasattr(block, "_forward")

    def original(*arguments: Any, **options: Any) -> Any:
        # Token merging exchanges the class of the block for previews.
        method = block._forward if has_own else functools.partial(type(block).forward, block)
        return method(*arguments, **options)

    def forward(*arguments: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return original(*arguments, **options)
        run = with_same_rows(original)
        return checkpoint(run, *arguments, use_reentrant=False, preserve_rng_state=False, **options)

    return forward
