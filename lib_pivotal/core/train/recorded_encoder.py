"""Runs the forward and the backward pass of a text encoder as recorded graphs, once they have been made."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lib_pivotal.core.lora.adapter_set import AdapterSet
from lib_pivotal.core.negative_rows import negative_rows
from lib_pivotal.core.ports import EncodedText, TextEncoder
from lib_pivotal.core.train.cuda_graph import Recorder, are_close
from lib_pivotal.core.train.out_of_memory import forget_variables
from lib_pivotal.core.train.recordings import Recordings

__all__ = ["RecordedEncoder"]

logger = logging.getLogger("pivotal.train")


class RecordedEncoder:
    """A text encoder that is recorded per shape of its inputs; implements ``ports.TextEncoder``.

    Graphs are used only while something is trained that the encoding depends on, and only if they have reproduced the
    usual results; otherwise, or if recording fails, the encoder runs as usual.

    Args:
        encoder: the encoder.
        adapters: all trained adapters; those of this encoder get their gradients from the graphs.
        recorder: records graphs. It must not be used for anything else, because whatever else it records may use the
            memory of what a forward pass has kept, before the backward pass begins.
        tolerance: see ``cuda_graph.tolerance_for``.
    """

    def __init__(
        self, encoder: TextEncoder, adapters: Sequence[AdapterSet], recorder: Recorder, tolerance: float
    ) -> None:
        self.name, self.width, self.module = encoder.name, encoder.width, encoder.module
        self.start_id, self.end_id, self.pad_id = encoder.start_id, encoder.end_id, encoder.pad_id
        self._encoder = encoder
        self._adapters = [part for part in adapters if part.part == encoder.name]
        self._flats = [flat for part in self._adapters for flat in part.flats]
        self._recorder = recorder
        self._tolerance = tolerance
        self._recorded: Recordings[_Passes] = Recordings(encoder.module, recorder)
        self._under_way: Callable[[], _Use | None] = lambda: None

    def tokenize(self, text: str) -> list[int]:
        """See ``ports.TextEncoder``."""
        return self._encoder.tokenize(text)

    def token_vectors(self) -> torch.Tensor:
        """See ``ports.TextEncoder``."""
        return self._encoder.token_vectors()

    def encode(
        self, ids: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, vectors: torch.Tensor
    ) -> EncodedText:
        """See ``ports.TextEncoder``.

        Args:
            ids: shape ``(N, 77)``.
            rows: shape ``(K,)``.
            columns: shape ``(K,)``.
            vectors: shape ``(K, width)``.
        """
        passes = self._passes_for(ids, rows, columns, vectors) if self._can_be_recorded(vectors) else None
        if passes is None:
            return self._encoder.encode(ids, rows, columns, vectors)
        passes.take(ids, rows, columns, vectors)
        use = _Use()
        self._under_way = weakref.ref(use)
        # Without an input that requires a gradient, the backward pass would not get here.
        marker = torch.zeros((), requires_grad=True)
        return EncodedText(*_Replayed.apply(marker, vectors, passes, use))  # type: ignore[no-untyped-call]

    def clear(self) -> None:
        """Drop all graphs and their memory; the next captions are recorded again."""
        self._recorded.clear()

    def _can_be_recorded(self, vectors: torch.Tensor) -> bool:
        if not self._recorded.is_usable or not torch.is_grad_enabled() or negative_rows() is not None:
            return False
        use = self._under_way()
        if use is not None and not use.is_over:
            # The backward pass of an earlier use still needs what its forward pass has kept.
            return False
        return vectors.requires_grad or any(part.enabled for part in self._adapters)

    def _passes_for(self, *inputs: torch.Tensor) -> _Passes | None:
        """What is recorded for such inputs, if anything is."""
        described = [(tuple(tensor.shape), tensor.dtype, tensor.requires_grad) for tensor in inputs]
        kind = (*described, *(part.enabled for part in self._adapters))
        passes = self._recorded.find(kind)
        if passes is None and self._recorded.is_due(kind):
            self._record(kind, _Passes(self._encoder, *inputs))
            passes = self._recorded.find(kind)
        return passes

    def _record(self, kind: Any, passes: _Passes) -> None:
        """Record both passes, and keep them if they give what the usual ones give."""
        before = [flat.gradient.clone() for flat in self._flats]
        is_right = False
        try:
            expected = self._tried(passes, lambda: self._recorder.warm_up(passes.run_both))
            passes.start_forward, _ = self._recorder.record(passes.run_forward)
            passes.start_backward, _ = self._recorder.record(passes.run_backward)
            is_right = are_close(expected, self._tried(passes, passes.start_both), self._tolerance)
            if not is_right:
                logger.warning("CUDA graphs of text encoder %s give other results, so it runs as usual.", self.name)
        except Exception as error:
            message = "Text encoder %s cannot be recorded as CUDA graphs, so it runs as usual."
            logger.warning(message, self.name, exc_info=True)
            forget_variables(error)
        passes.forget()
        for flat, earlier in zip(self._flats, before, strict=True):
            flat.gradient.copy_(earlier)
        if is_right:
            self._recorded.keep(kind, passes)
            logger.info("Text encoder %s was recorded as CUDA graphs (%d so far).", self.name, len(self._recorded))
        else:
            self._recorded.give_up()

    def _tried(self, passes: _Passes, run: Callable[[], object]) -> list[torch.Tensor]:
        """Copies of all results of both passes."""
        # So that graphs that do nothing are noticed.
        for earlier in [*passes.outputs, passes.vector_gradients, *(flat.gradient for flat in self._flats)]:
            earlier.zero_()
        run()
        results = [*passes.outputs, passes.vector_gradients, *(flat.gradient for flat in self._flats)]
        return [result.clone() for result in results]


class _Use:
    """A forward pass whose backward pass may follow, as long as anybody holds it."""

    is_over = False


class _Passes:
    """Forward and backward pass for inputs of one shape, on tensors that stay where they are.

    Args:
        encoder: the encoder.
        inputs: ids, rows, columns and vectors, see ``ports.TextEncoder.encode``; they are copied.
    """

    def __init__(self, encoder: TextEncoder, *inputs: torch.Tensor) -> None:
        self._encoder = encoder
        self._inputs = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in inputs]
        self._vectors = self._inputs[-1]
        self.vector_gradients = torch.zeros_like(self._vectors)
        self._encoded: list[torch.Tensor] = []
        self.outputs: list[torch.Tensor] = []
        self.output_gradients: list[torch.Tensor] = []
        self.start_forward: Callable[[], None] = lambda: None
        self.start_backward: Callable[[], None] = lambda: None

    @torch.no_grad()
    def take(self, *inputs: torch.Tensor) -> None:
        """Take over the values of other inputs of the same shapes."""
        for own, value in zip(self._inputs, inputs, strict=True):
            own.copy_(value)

    def run_forward(self) -> torch.Tensor:
        """Encode; returns the first output."""
        text = self._encoder.encode(*self._inputs)
        self._encoded = [text.hidden] if text.pooled is None else [text.hidden, text.pooled]
        if not self.outputs:
            generator = torch.Generator().manual_seed(0)
            self.outputs = [torch.empty_like(tensor).detach() for tensor in self._encoded]
            # Small enough for fp16.
            small = [0.01 * torch.randn(own.shape, generator=generator) for own in self.outputs]
            self.output_gradients = [value.to(own) for value, own in zip(small, self.outputs, strict=True)]
        for own, tensor in zip(self.outputs, self._encoded, strict=True):
            own.copy_(tensor.detach())
        return self.outputs[0]

    def run_backward(self) -> torch.Tensor:
        """Add the gradients of the adapters, and find those of the vectors; returns the latter."""
        self._vectors.grad = None
        pairs = zip(self._encoded, self.output_gradients, strict=True)
        trained = [(output, gradient) for output, gradient in pairs if output.requires_grad]
        # As in a usual step, where the backward pass is not within the context of the step's precision.
        with torch.autocast(self._vectors.device.type, enabled=False):
            torch.autograd.backward(
                [output for output, _ in trained], [gradient for _, gradient in trained], retain_graph=True
            )
        if self._vectors.grad is not None:
            self.vector_gradients.copy_(self._vectors.grad)
        return self.vector_gradients

    def run_both(self) -> torch.Tensor:
        """Both passes as usual."""
        self.run_forward()
        return self.run_backward()

    def start_both(self) -> None:
        """Both passes as they were recorded."""
        self.start_forward()
        self.start_backward()

    def forget(self) -> None:
        """Let go of autograd's side of the passes, which the graphs do not need."""
        self._encoded = []
        self._vectors.grad = None


class _Replayed(torch.autograd.Function):
    """An encoding by recorded passes."""

    @staticmethod
    def forward(ctx: Any, _marker: torch.Tensor, _vectors: torch.Tensor, passes: _Passes, use: _Use) -> tuple[
        torch.Tensor, ...
    ]:  # fmt: skip
        ctx.passes, ctx.use = passes, use
        passes.start_forward()
        return tuple(output.clone() for output in passes.outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor | None, None, None]:
        passes: _Passes = ctx.passes
        for own, gradient in zip(passes.output_gradients, gradients, strict=True):
            own.copy_(gradient)
        passes.start_backward()
        ctx.use.is_over = True
        # Autograd copies what somebody else holds, too.
        return None, passes.vector_gradients if ctx.needs_input_grad[1] else None, None, None
