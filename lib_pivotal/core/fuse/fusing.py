"""Fuses bundles: records the inputs of each one's layers, solves layer by layer, and writes the result.

The text encoders come first, because the keys and values of cross-attention read what the fused ones put out. Layers
are handled in groups whose Gram matrices fit into memory; the model runs once per group and bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib_pivotal.core.bundle.file import refuse_existing
from lib_pivotal.core.bundle.forge_limit import check_key_count
from lib_pivotal.core.errors import Interrupted, Problem
from lib_pivotal.core.fuse.inputs import images_of, prompts_of
from lib_pivotal.core.fuse.layer_rows import LayerRows
from lib_pivotal.core.fuse.model_run import ModelRun, TrainedImage, call_count, run_images, run_samples
from lib_pivotal.core.fuse.output import write_fused
from lib_pivotal.core.fuse.recorder import InputRecorder
from lib_pivotal.core.fuse.report import BundleReport
from lib_pivotal.core.fuse.solution import fuse_layer, output_energy
from lib_pivotal.core.fuse.source import FuseSource, model_problems, read_sources
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.ports import DiffusionModel, LoraTarget
from lib_pivotal.core.printable import printable
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.train.memory import free_bytes

__all__ = ["FuseResult", "Progress", "fuse"]

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

_GRAM_BYTES = 2 * 2**30
"""Bytes of Gram matrices that are kept at a time."""
_FREE_SHARE = 0.4
"""Of a GPU's free memory, if that is less."""


@dataclass(frozen=True)
class FuseResult:
    """Result of :func:`fuse`.

    Attributes:
        path: the new bundle.
        problems: warnings for the user.
        report: one per bundle.
    """

    path: Path
    problems: list[Problem]
    report: list[BundleReport]


@torch.no_grad()
def fuse(
    paths: Sequence[Path],
    model: DiffusionModel,
    out: Path,
    *,
    rank: int = 0,
    data_folder: str = "",
    overwrite: bool = False,
    progress: Progress = lambda _stage, _done, _total: None,
    stopped: Callable[[], bool] = lambda: False,
) -> FuseResult:
    """Fuse bundles into one with all their names and a plain LoRA.

    Args:
        paths: bundles of the model's family.
        model: the model that they were trained on; it is not changed.
        out: the new bundle.
        rank: of the new LoRA; 0 is the sum of the bundles' ranks, which loses nothing more.
        data_folder: training images whose captions mention the names; without, samples of the names are used.
        overwrite: whether to replace an existing file.
        progress: see :data:`Progress`.
        stopped: polled regularly; returns whether to stop.

    Raises:
        BundleError: a file cannot be read, fused or written.
        ConfigError: names clash, families differ, or the images cannot be used; lists all problems.
        DatasetError: an image cannot be used.
        HostError: the model produces NaN, or was replaced in the meantime.
        Interrupted: ``stopped`` returned True.
    """
    refuse_existing([out], overwrite=overwrite)
    sources, problems = read_sources(paths, model)
    images = [
        images_of(
            source,
            data_folder,
            model,
            progress=lambda done, total: progress("encoding images", done, total),
            stopped=stopped,
        )
        if data_folder
        else None
        for source in sources
    ]
    work = _Work(model, sources, images, rank, progress, stopped)
    lora = work.run()
    inputs = "images" if data_folder else "samples"
    written = write_fused(out, lora, sources, model, work.report, inputs=inputs, overwrite=overwrite)
    problems += [Problem(printable(written.path.name), "warning", text, "") for text in written.warnings]
    names = sum(len(source.names) for source in sources)
    problems += check_key_count(out.name, names * len(model.text_encoders)) + model_problems(sources, model)
    return FuseResult(written.path, problems, work.report)


class _Work:
    """Solves all layers.

    Args:
        model: the borrowed model.
        sources: the bundles.
        images: training images of each bundle, or None for samples.
        rank: see :func:`fuse`.
        progress: see :data:`Progress`.
        stopped: see :func:`fuse`.

    Attributes:
        report: one per bundle.
    """

    def __init__(
        self,
        model: DiffusionModel,
        sources: Sequence[FuseSource],
        images: Sequence[list[TrainedImage] | None],
        rank: int,
        progress: Progress,
        stopped: Callable[[], bool],
    ) -> None:
        self._model = model
        self._sources = sources
        self._images = images
        self._progress = progress
        self._stopped = stopped
        self.report = [BundleReport(source.path.stem, source.names) for source in sources]
        self._prompts = [prompts_of(source) for source in sources]
        self._weights = [EmbeddingWeights.of(source.bundle.embeddings, model.device) for source in sources]
        ranks = [source.ranks() for source in sources]
        keys = dict.fromkeys(key for own in ranks for key in own)
        self._ranks = {key: rank or sum(own.get(key, 0) for own in ranks) for key in keys}
        targets = [target for target in model.lora_targets() if target.key in keys]
        budget = _gram_bytes(model.device) // len(sources)
        self._text = list(_groups([target for target in targets if target.part != "unet"], budget))
        self._unet = list(_groups([target for target in targets if target.part == "unet"], budget))
        self._calls = self._calls_of_all()
        self._called = 0
        self._layers = len(targets)
        self._solved = 0

    def run(self) -> dict[str, torch.Tensor]:
        """The fused LoRA: kohya key → tensor."""
        lora: dict[str, torch.Tensor] = {}
        for targets in self._text:
            lora.update(self._group(targets, [], self._encode))
        text = [
            AdapterSet.from_state(part, self._model.lora_targets(), lora, self._model.device)
            for part in dict.fromkeys(target.part for targets in self._text for target in targets)
        ]
        for targets in self._unet:
            lora.update(self._group(targets, text, self._denoise))
        return lora

    def _calls_of_all(self) -> int:
        text = len(self._text) * len(self._sources)
        unet = sum(
            call_count(len(images or prompts), has_images=images is not None)
            for images, prompts in zip(self._images, self._prompts, strict=True)
        )
        return text + len(self._unet) * unet

    def _group(
        self, targets: Sequence[LoraTarget], text: Sequence[AdapterSet], run: Callable[[int, ModelRun], None]
    ) -> dict[str, torch.Tensor]:
        """Record the inputs of some layers and solve them.

        Args:
            targets: layers of the text encoders, or of the UNet.
            text: the fused adapters of the text encoders; empty while these are fused.
            run: runs the model with the names of the bundle of this number.
        """
        recorders = []
        for number, source in enumerate(self._sources):
            parts = {target.part for target in targets}
            own = [adapters for part, adapters in source.adapters.items() if part in parts]
            recorder = InputRecorder(targets)
            with ExitStack() as stack:
                # First, because a DoRA changes the input of its layer.
                stack.enter_context(recorder.attached())
                stack.enter_context(attach([*own, *text]))
                run(number, ModelRun(self._model, self._weights[number], recorder, self._tick, self._stopped))
            recorders.append(recorder)
        lora: dict[str, torch.Tensor] = {}
        for target in targets:
            lora.update(self._solve(target, recorders))
        return lora

    def _encode(self, number: int, run: ModelRun) -> None:
        images = self._images[number]
        run.encode([image.caption for image in images] if images is not None else self._prompts[number])

    def _denoise(self, number: int, run: ModelRun) -> None:
        images = self._images[number]
        if images is not None:
            run_images(run, images)
        else:
            run_samples(run, self._prompts[number])

    def _solve(self, target: LoraTarget, recorders: Sequence[InputRecorder]) -> dict[str, torch.Tensor]:
        """The tensors of a layer in the file; also adds the layer to the reports."""
        if self._stopped():
            raise Interrupted("Fusing was stopped; no file was written.")
        rows = LayerRows(target.module)
        device = _solving_device(self._model.device)
        grams = [recorder.gram(target).to(device) for recorder in recorders]
        deltas = [_moved(source.delta(target.key), device) for source in self._sources]
        fused = fuse_layer(rows, deltas, grams, self._ranks[target.key])
        plain = torch.stack([delta for delta in deltas if delta is not None]).sum(0)
        for item, delta, gram in zip(self.report, deltas, grams, strict=True):
            own = torch.zeros_like(plain) if delta is None else delta
            energies = [output_energy(rows, change, gram) for change in (own, fused.delta - own, plain - own)]
            item.add(target, *energies)
        self._solved += 1
        self._progress("fusing layers", self._solved, self._layers)
        return {
            f"{target.key}.lora_down.weight": fused.down.cpu(),
            f"{target.key}.lora_up.weight": fused.up.cpu(),
            f"{target.key}.alpha": torch.tensor(float(len(fused.down))),
        }

    def _tick(self) -> None:
        self._progress("recording inputs", self._called, self._calls)
        self._called += 1


def _groups(targets: Sequence[LoraTarget], budget: int) -> Iterator[list[LoraTarget]]:
    """Successive layers whose Gram matrices fit into a number of bytes; a single one may be larger."""
    group: list[LoraTarget] = []
    used = 0
    for target in targets:
        size = 4 * LayerRows(target.module).width ** 2
        if group and used + size > budget:
            yield group
            group, used = [], 0
        group.append(target)
        used += size
    if group:
        yield group


def _gram_bytes(device: torch.device) -> int:
    free = free_bytes(device)
    return _GRAM_BYTES if free is None else min(_GRAM_BYTES, int(_FREE_SHARE * free))


def _solving_device(device: torch.device) -> torch.device:
    """Where there is double precision, which the solution needs."""
    return device if device.type == "cuda" else torch.device("cpu")


def _moved(delta: torch.Tensor | None, device: torch.device) -> Any:
    return None if delta is None else delta.to(device)
