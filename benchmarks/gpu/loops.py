"""Training steps to be measured: the bare UNet, this engine, and plain loops with diffusers and peft.

The plain loops do what the scripts of diffusers do in each step, on cached latents: ``PeftLoop`` trains a LoRA,
``PivotalPeftLoop`` also new tokens, through an optimizer that holds the whole table of token vectors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.gpu.full_size import NAMES, RANK, training_config
from lib_pivotal.core.events import Control
from lib_pivotal.core.families import FAMILIES, Kept
from lib_pivotal.core.ports import ImageSize
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.setup import Setup, prepare
from lib_pivotal.host.diffusers.model import DiffusersModel

__all__ = ["PeftLoop", "PivotalPeftLoop", "bare_joint_step", "bare_step", "captured_step", "engine_loop", "engine_step"]

Step = Callable[[], object]

_CAPTION = "standing in a garden, evening light, number 1"
_PEFT_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]


def _condition(model: DiffusersModel, side: int, batch: int) -> Any:
    """Random conditioning of one chunk; its text takes a gradient."""
    width = sum(encoder.width for encoder in model.text_encoders)
    text = torch.randn(batch, 77, width, device=model.device).requires_grad_(True)
    if not FAMILIES[model.family].has_size_conditioning:
        return text
    time_ids = torch.tensor([[side, side, 0, 0, side, side]] * batch, dtype=torch.float32, device=model.device)
    return text, {"text_embeds": torch.randn(batch, 1280, device=model.device), "time_ids": time_ids}


def bare_step(model: DiffusersModel, side: int, batch: int) -> Step:
    """Forward and backward pass of the frozen UNet, to the gradient of its text conditioning."""
    noisy = torch.randn(batch, 4, side // 8, side // 8, device=model.device)
    timesteps = torch.full((batch,), 400, device=model.device)
    condition = _condition(model, side, batch)
    text = condition[0] if isinstance(condition, tuple) else condition

    def step() -> None:
        text.grad = None
        model.predict(noisy, timesteps, condition).pow(2).mean().backward()

    return step


def bare_joint_step(model: DiffusersModel, side: int, batch: int) -> Step:
    """Forward and backward pass of the frozen UNet and text encoders, to the gradient of a name's vectors."""
    noisy = torch.randn(batch, 4, side // 8, side // 8, device=model.device)
    timesteps = torch.full((batch,), 400, device=model.device)
    vectors = {
        encoder.name: torch.randn(1, encoder.width, device=model.device).requires_grad_(True)
        for encoder in model.text_encoders
    }
    conditioner = TextConditioner(model, EmbeddingWeights({NAMES[0]: (0, 1)}, vectors))
    sizes = [ImageSize((side, side), (0, 0), (side, side))] * batch

    def step() -> None:
        for vector in vectors.values():
            vector.grad = None
        (text,) = conditioner.encode([f"{NAMES[0]}, {_CAPTION}"] * batch, sizes)
        model.predict(noisy, timesteps, text.conditioning).pow(2).mean().backward()

    return step


def captured_step(model: DiffusersModel, side: int, batch: int) -> Step:
    """The bare UNet's step as one CUDA graph: what remains when nothing waits for Python."""
    step = bare_step(model, side, batch)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def engine_loop(
    model: DiffusersModel, data: Path, cache: Path, side: int, batch: int, memory: str, *, graphs: bool = False
) -> tuple[Loop, Setup]:
    """The engine's training loop, ready for its first step; for the arguments see :func:`engine_step`."""
    setup = prepare(
        training_config(data, side, batch, "fast" if memory in ("less", "least") else memory, graphs=graphs),
        model,
        cache=cache,
        group=SingleProcess(),
        progress=lambda *_: None,
        stopped=lambda: False,
    )
    if memory in ("less", "least"):
        # In a run, ``auto`` decides for it by the free memory.
        setup.memory = dataclasses.replace(setup.memory, kept=cast(Kept, memory))
    return Loop(setup, None, lambda _: None, Control(), SingleProcess()), setup


@contextlib.contextmanager
def engine_step(
    model: DiffusersModel, data: Path, cache: Path, side: int, batch: int, memory: str, *, graphs: bool = False
) -> Iterator[tuple[Step, int]]:
    """The engine's complete step and its number of trained values; the LoRA acts within the context.

    Args:
        model: trained on.
        data: folder of images.
        cache: folder for latents.
        side: of the images, in px.
        batch: images per step.
        memory: ``fast``, ``less`` or ``least`` for what layers keep, or ``save`` to recompute activations.
        graphs: whether to record the step as CUDA graphs.
    """
    loop, setup = engine_loop(model, data, cache, side, batch, memory, graphs=graphs)
    model.offloading.offload("vae")
    numbers = itertools.count()
    with setup.attached():
        yield lambda: loop.train_step(next(numbers)), setup.trainable_count


class PeftLoop:
    """A LoRA of peft on the UNet, as in diffusers' text-to-image script.

    Args:
        model: holds the networks; it is as before after :meth:`remove`.
        side: of the images, in px.
        batch: images per step.
        checkpoints: recompute the activations of each block.
    """

    def __init__(self, model: DiffusersModel, side: int, batch: int, *, checkpoints: bool = False) -> None:
        from diffusers.training_utils import cast_training_params
        from peft import LoraConfig

        self._model, self._side, self._batch = model, side, batch
        self._unet = model.unet
        self._unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK // 2, target_modules=_PEFT_LAYERS))
        cast_training_params(self._unet, dtype=torch.float32)
        self._unet.train()
        if checkpoints:
            self._unet.enable_gradient_checkpointing()
        self._latents = torch.randn(batch, 4, side // 8, side // 8, device=model.device)
        self._alphas = model.alphas_cumprod.to(model.device)
        self._texts = [encoder.text_model for encoder in model.text_encoders]
        self.trained = [parameter for parameter in self._unet.parameters() if parameter.requires_grad]
        self._ids = [self._tokens(encoder) for encoder in model.text_encoders]
        self._prepare()
        self._optimizer = torch.optim.AdamW(self.trained, lr=1e-4, weight_decay=1e-2)
        self._scaler = torch.amp.GradScaler(model.device.type, enabled=model.needs_loss_scaling)
        self._sum = 0.0

    @property
    def trained_count(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.trained)

    def step(self) -> None:
        """Encode the captions, predict, and update."""
        latents = self._latents
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (self._batch,), device=latents.device)
        alphas = self._alphas[timesteps].view(-1, 1, 1, 1)
        noisy = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
        with self._model.autocast():
            prediction = self._model.predict(noisy, timesteps, self._condition())
        loss = torch.nn.functional.mse_loss(prediction.float(), noise.float())
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self._optimizer)
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        # The scripts show the loss of each step.
        self._sum += loss.item()

    def remove(self) -> None:
        """Take the LoRA off the UNet again."""
        self._unet.delete_adapters("default")
        self._unet.disable_gradient_checkpointing()
        self._unet.eval()

    def _prepare(self) -> None:
        """Prepare the text encoders; they are frozen here."""

    def _tokens(self, encoder: Any) -> torch.Tensor:
        ids = [encoder.start_id, *encoder.tokenize(f"{NAMES[0]}, {_CAPTION}"), encoder.end_id]
        row = ids + [encoder.pad_id] * (77 - len(ids))
        return torch.tensor([row] * self._batch, device=self._model.device)

    def _condition(self) -> Any:
        with torch.no_grad():
            return self._encode()

    def _encode(self) -> Any:
        outputs = [
            text(input_ids=ids, output_hidden_states=True) for text, ids in zip(self._texts, self._ids, strict=True)
        ]
        if len(outputs) == 1:
            return outputs[0].last_hidden_state
        side = self._side
        time_ids = torch.tensor([[side, side, 0, 0, side, side]] * self._batch, device=self._model.device)
        hidden = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return hidden, {"text_embeds": outputs[1].text_embeds, "time_ids": time_ids.float()}


class PivotalPeftLoop(PeftLoop):
    """Also trains new tokens, as in diffusers' advanced script: other rows get their old values back after a step."""

    def _prepare(self) -> None:
        self._tables, self._originals = [], []
        for text, ids in zip(self._texts, self._ids, strict=True):
            count = text.get_input_embeddings().weight.shape[0]
            text.resize_token_embeddings(count + 2, mean_resizing=False)
            table = text.get_input_embeddings().weight
            table.data = table.data.float()
            table.requires_grad_(True)
            ids[:, 1] = count
            self._tables.append(table)
            self._originals.append(table.detach().clone())
            self.trained.append(table)
        self._new = torch.zeros(count + 2, dtype=torch.bool, device=self._model.device)
        self._new[count:] = True

    def step(self) -> None:
        """A step, and the old values back into all rows but the new tokens', whose spread is kept."""
        super().step()
        with torch.no_grad():
            for table, original in zip(self._tables, self._originals, strict=True):
                table.data[~self._new] = original[~self._new]
                rows = table.data[self._new]
                ratio = original.std() / rows.std()
                table.data[self._new] = rows * ratio**0.1

    def remove(self) -> None:
        """Take LoRA and tokens off the networks again."""
        super().remove()
        for text, original in zip(self._texts, self._originals, strict=True):
            text.resize_token_embeddings(len(original) - 2)
            text.requires_grad_(False)

    def _condition(self) -> Any:
        return self._encode()
