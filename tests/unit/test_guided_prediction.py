"""A caption and its negative caption are predicted together, each with its own rows of the LoRA and its own gradient."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from lib_pivotal.core.lora.adapter_set import AdapterSet, attach, disabled
from lib_pivotal.core.negative_rows import with_same_rows
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.guided_prediction import GuidedPrediction
from lib_pivotal.core.train.prediction import CaptionPrediction
from tests.unit.test_prediction import LONG, some_batch
from tests.unit.toy import ToyModel

CPU = torch.device("cpu")
CAPTIONS = ["zog_x, left", LONG + "zog_x", "a hat", "zog_x, right"]
NEGATIVES = ["neg_zog_x", "neg_zog_x", "", "neg_zog_x"]
LAYOUT = {"zog_x": (0, 2), "neg_zog_x": (2, 3)}
GUIDANCE = 3.0


class RowPrediction:
    """Each row's prediction is a tensor of its own."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def __call__(self, noisy, batch):
        return self.rows[: len(noisy)]

    def captions(self, noisy, timesteps, captions, sizes, **options):
        assert len(noisy) == len(timesteps) == len(captions) == len(sizes) == len(self.rows)
        return self.rows


def guided_batch(**changes):
    return dataclasses.replace(some_batch(CAPTIONS), **{"negatives": NEGATIVES, **changes})


def test_guidance_1_is_the_prediction_of_the_captions_to_the_bit():
    batch = guided_batch()
    rows = torch.randn(7, 4, 8, 8)
    assert torch.equal(GuidedPrediction(RowPrediction(rows), 1.0)(batch.latents, batch), rows[:4])


def test_both_captions_have_gradients_in_the_ratio_of_the_guidance():
    batch = guided_batch()
    rows = torch.randn(7, 4, 8, 8, requires_grad=True)
    predicted = GuidedPrediction(RowPrediction(rows), GUIDANCE)(batch.latents, batch)
    expected = rows.detach()[[4, 5, 6]] + GUIDANCE * (rows.detach()[[0, 1, 3]] - rows.detach()[[4, 5, 6]])
    assert torch.allclose(predicted[[0, 1, 3]], expected, atol=1e-5)
    predicted.sum().backward()
    assert rows.grad.mean(dim=(1, 2, 3)).tolist() == [GUIDANCE, GUIDANCE, 1.0, GUIDANCE, *[1.0 - GUIDANCE] * 3]


def test_a_batch_without_negative_captions_is_predicted_once():
    model = ToyModel()
    predict = CaptionPrediction(model, TextConditioner(model))
    batch = some_batch()
    assert torch.equal(GuidedPrediction(predict, GUIDANCE)(batch.latents, batch), predict(batch.latents, batch))


class RecomputingModel(ToyModel):
    """Recomputes in the backward pass, as the hosts' blocks do."""

    def __init__(self, *, recomputes: bool) -> None:
        super().__init__()
        self.recomputes = recomputes

    def predict(self, noisy, timesteps, condition):
        if not self.recomputes:
            return super().predict(noisy, timesteps, condition)
        run = with_same_rows(self.unet)
        return checkpoint(run, noisy, timesteps, condition, use_reentrant=False, preserve_rng_state=False)


def adapters_of(model: ToyModel, kind: str) -> list[AdapterSet]:
    """Adapters with random values on the UNet and the text encoder."""
    targets, found = model.lora_targets(), []
    for part in ("unet", "clip_l"):
        chosen = [(target, 4) for target in targets if target.part == part and target.role != "other"]
        adapters = AdapterSet.with_ranks(part, chosen, 0.5, 1, CPU, kind=kind, lokr_factor=4)
        adapters.flat.values.data.copy_(torch.randn(len(adapters.flat.values), generator=torch.Generator()) * 0.1)
        found.append(adapters)
    return found


def table() -> torch.Tensor:
    return torch.randn(5, 16, generator=torch.Generator().manual_seed(3)).requires_grad_()


def gradients(kind, predict_with, *, recomputes=False):
    """Prediction, and the gradients of adapters and embeddings for some loss of it."""
    model = RecomputingModel(recomputes=recomputes)
    adapters, vectors = adapters_of(model, kind), table()
    conditioner = TextConditioner(model, EmbeddingWeights(LAYOUT, {"clip_l": vectors}), adapters[1:])
    with attach(adapters):
        predicted = predict_with(CaptionPrediction(model, conditioner), adapters)
        (predicted * torch.linspace(-1, 1, predicted.numel()).view(predicted.shape)).sum().backward()
    return [predicted.detach(), vectors.grad, *(part.flat.gradient for part in adapters)]


def together(predict, _adapters):
    batch = guided_batch()
    return GuidedPrediction(predict, GUIDANCE)(batch.latents, batch)


def one_by_one(predict, adapters, negative_lora=None):
    """The formula, with a prediction of its own for each caption."""
    batch, rows = guided_batch(), []
    for index, negative in enumerate(NEGATIVES):
        one = slice(index, index + 1)
        noisy, timesteps, size = batch.latents[one], batch.timesteps[one], batch.sizes[one]
        row = predict.captions(noisy, timesteps, [CAPTIONS[index]], size)
        if negative:
            with disabled(adapters), attach([negative_lora] if negative_lora else []):
                against = predict.captions(noisy, timesteps, [negative], size)
            row = against + GUIDANCE * (row - against)
        rows.append(row)
    return torch.cat(rows)


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr", "dora"])
@pytest.mark.parametrize("recomputes", [False, True], ids=["kept", "recomputed"])
def test_the_lora_leaves_negative_rows_alone(kind, recomputes):
    # Two groups of captions, because they differ in length: with recomputation each needs rows of its own.
    found = gradients(kind, together, recomputes=recomputes)
    for value, expected in zip(found, gradients(kind, one_by_one), strict=True):
        assert expected.abs().max() > 1e-4
        assert torch.allclose(value, expected, atol=1e-4, rtol=1e-3)


def test_the_lora_can_act_on_negative_captions_too():
    def predict_with(predict, _adapters):
        batch = guided_batch()
        return GuidedPrediction(predict, GUIDANCE, negative_with_lora=True)(batch.latents, batch)

    def without_disabling(predict, _adapters):
        return one_by_one(predict, [])

    for value, expected in zip(gradients("lora", predict_with), gradients("lora", without_disabling), strict=True):
        assert torch.allclose(value, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("spares", [True, False])
def test_a_negative_lora_acts_on_negative_captions_only(spares):
    def with_negative_lora(how):
        def predict_with(predict, adapters):
            model = predict._model
            chosen = [
                (target, 4) for target in model.lora_targets() if target.part == "unet" and target.role != "other"
            ]
            negative = AdapterSet.with_ranks("negative", chosen, 0.5, 2, CPU)
            negative.flat.values.data.normal_(0, 0.1, generator=torch.Generator())
            negative.only_negative = how == "together"
            adapters.append(negative)
            if how == "together":
                batch = guided_batch()
                with attach([negative]):
                    return GuidedPrediction(predict, GUIDANCE, negative_with_lora=not spares)(batch.latents, batch)
            return one_by_one(predict, adapters[:-1] if spares else [], negative)

        return predict_with

    found = gradients("lora", with_negative_lora("together"))
    for value, expected in zip(found, gradients("lora", with_negative_lora("one by one")), strict=True):
        assert expected.abs().max() > 1e-4
        assert torch.allclose(value, expected, atol=1e-4, rtol=1e-3)


def test_negative_vectors_have_gradients_from_negative_captions_only():
    def only(captions):
        def predict_with(predict, _adapters):
            batch = some_batch(captions)
            return predict(batch.latents, batch)

        return predict_with

    positive = gradients("lora", only(["zog_x, left", "zog_x"]))[1].abs().sum(1)
    negative = gradients("lora", only(["neg_zog_x"]))[1].abs().sum(1)
    assert (positive > 0).tolist() == [True, True, False, False, False]
    assert (negative > 0).tolist() == [False, False, True, True, True]


def test_rows_of_one_prediction_are_not_those_of_the_next():
    model = ToyModel()
    adapters = adapters_of(model, "lora")
    batch = some_batch()
    with attach(adapters):
        predict = CaptionPrediction(model, TextConditioner(model))
        before = predict(batch.latents, batch)
        together(predict, adapters)
        assert torch.equal(predict(batch.latents, batch), before)
