"""Predictions and losses keep the order of the batch, so that weights and masks apply to the right items."""

from __future__ import annotations

import dataclasses

import torch

from lib_pivotal.core.diffusion.objective import Objective
from lib_pivotal.core.events import Control
from lib_pivotal.core.ports import ImageSize
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.batches import Batch
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.prediction import CaptionPrediction
from lib_pivotal.core.train.setup import prepare
from tests.unit.toy import ToyModel, toy_config, write_images

LONG = "word, " * 60
CAPTIONS = ["short", LONG, "other", LONG + "end", "third"]


def some_batch(captions=CAPTIONS, **changes) -> Batch:
    generator = torch.Generator().manual_seed(0)
    shape = (len(captions), 4, 8, 8)
    return Batch(
        latents=torch.randn(shape, generator=generator),
        noise=torch.randn(shape, generator=generator),
        timesteps=torch.arange(len(captions)) * 150 + 20,
        captions=list(captions),
        sizes=[ImageSize((64, 64), (0, 0), (64, 64))] * len(captions),
        **changes,
    )


def pick(batch: Batch, index: int) -> Batch:
    one = slice(index, index + 1)
    return Batch(batch.latents[one], batch.noise[one], batch.timesteps[one], batch.captions[one], batch.sizes[one])


def test_each_item_is_predicted_as_if_it_were_alone_whatever_the_lengths_of_the_captions():
    model = ToyModel()
    predict = CaptionPrediction(model, TextConditioner(model))
    batch = some_batch()
    together = predict(batch.latents, batch)
    assert model.predictions == 2, "one prediction per number of chunks"
    for index in range(len(CAPTIONS)):
        alone = pick(batch, index)
        assert torch.allclose(together[index], predict(alone.latents, alone)[0], atol=1e-6), index


def loss_of(tmp_path, batch: Batch) -> float:
    write_images(tmp_path / "data")
    setup = prepare(
        toy_config(tmp_path / "data", loss_weighting="none"),
        ToyModel(),
        cache=tmp_path,
        group=SingleProcess(),
        progress=lambda *_: None,
        stopped=lambda: False,
    )
    return float(Loop(setup, None, lambda _: None, Control(), SingleProcess())._backward(batch, 1))


def test_weights_and_masks_act_on_their_own_items(tmp_path):
    batch = some_batch()
    alone = [loss_of(tmp_path, pick(batch, index)) for index in range(len(CAPTIONS))]
    weights = torch.tensor([0.0, 1.0, 0.0, 2.0, 0.5])
    weighted = loss_of(tmp_path, dataclasses.replace(batch, weights=weights))
    expected = sum(w * loss for w, loss in zip(weights.tolist(), alone)) / len(CAPTIONS)
    assert abs(weighted - expected) < 1e-5
    masks = torch.zeros(len(CAPTIONS), 1, 8, 8)
    masks[:, :, :4] = 1.0
    model = ToyModel()
    objective = Objective(
        model.alphas_cumprod, is_v_prediction=False, weighting="none", min_snr_gamma=0.0, device=model.device
    )
    noisy = objective.noisy(batch.latents, batch.noise, batch.timesteps)
    error = (CaptionPrediction(model, TextConditioner(model))(noisy, batch) - batch.noise).pow(2)
    masked = loss_of(tmp_path, dataclasses.replace(batch, captions=list(CAPTIONS), masks=masks))
    assert abs(masked - float(error[:, :, :4].mean())) < 1e-4
