"""A model that predicts velocity learns a concept; trained as if it predicted noise, it does not."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.diffusion.objective import Objective
from lib_pivotal.core.events import Control
from lib_pivotal.core.lora.adapter_set import attach
from lib_pivotal.core.ports import ImageSize
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.run import Folders, train
from lib_pivotal.demo import assets
from lib_pivotal.demo.characters import write_dataset
from lib_pivotal.demo.evaluate import held_out, parts_of
from lib_pivotal.host.diffusers.model import load_model

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not assets.BASE_A.exists(), reason="the demo's trained base is not here"),
]
NAME = "zogling"


class VelocityModel:
    """The demo's trained base as a model that predicts velocity: the same knowledge, the other output.

    Velocity and noise are two readings of one prediction: with ``x = a·clean + s·noise``, ``v = (noise - s·x) / a``.

    Source: Salimans & Ho 2022, section 4, https://arxiv.org/abs/2202.00512
    """

    def __init__(self, model, *, is_known: bool) -> None:
        self._model = model
        self.is_v_prediction = is_known
        self._signal = model.alphas_cumprod.sqrt()
        self._noise = (1 - model.alphas_cumprod).sqrt()

    def __getattr__(self, name):
        return getattr(self._model, name)

    def predict(self, noisy, timesteps, condition):
        noise = self._model.predict(noisy, timesteps, condition)
        signal, sigma = (level[timesteps].view(-1, 1, 1, 1) for level in (self._signal, self._noise))
        return (noise - sigma * noisy) / signal


def config(data, name, steps):
    return TrainConfig(
        concepts=(Concept(NAME, "circle", vectors=8, stop_at=1.0),),
        data_folder=str(data),
        resolution=64,
        steps=steps,
        batch_size=8,
        rank=8,
        alpha=8.0,
        lora_start=0.3,
        min_snr_gamma=0.0,
        sample_every=0,
        output_name=name,
    )


def velocity_error(model, data, parts) -> float:
    """Mean squared error of the true velocity at noise levels where content is decided; paired noise."""
    objective = Objective(model.alphas_cumprod, is_v_prediction=True, min_snr_gamma=0.0, device=model.device)
    conditioner = TextConditioner(model, EmbeddingWeights.of(parts.embeddings, model.device))
    count = len(data.captions)
    sizes = [ImageSize((64, 64), (0, 0), (64, 64))] * count
    noise = torch.randn(data.latents.shape, generator=torch.Generator().manual_seed(0))
    total = 0.0
    with torch.no_grad(), attach(parts.loras):
        (text,) = conditioner.encode(data.captions, sizes)
        for level in (500, 700, 850):
            times = torch.full((count,), level)
            output = model.predict(objective.noisy(data.latents, noise, times), times, text.conditioning)
            total += float(objective.losses(output, data.latents, noise, times).mean())
    return total / 3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("velocity")
    write_dataset(folder / "data", NAME)
    write_dataset(folder / "held-out", NAME, "held_out", "a")
    return folder, load_model(assets.materialize(folder / "model").a, device="cpu")


def gain(world, steps, *, is_known: bool) -> float:
    """Fraction of the error that training removes, on images that were not trained on."""
    folder, base = world
    model = VelocityModel(base, is_known=is_known)
    name = "known" if is_known else "mistaken"
    folders = Folders(folder / name, folder / "bundles", folder / "cache")
    folders.run.mkdir()
    outcome = train(config(folder / "data", name, steps), model, None, [], Control(), folders)
    bundle, data = read_bundle(outcome.bundle_path), held_out(folder / "held-out", base)
    velocity_model = VelocityModel(base, is_known=True)
    before = velocity_error(velocity_model, data, parts_of(bundle, base, embeddings=False, loras=[]))
    after = velocity_error(velocity_model, data, parts_of(bundle, base, embeddings=True, loras=["unet"]))
    return 1 - after / before


def test_a_velocity_model_learns_a_concept(world):
    assert gain(world, 16, is_known=True) > 0.1


def test_a_velocity_model_trained_as_a_noise_predictor_does_not_learn(world):
    # It gets worse from the first steps on.
    assert gain(world, 6, is_known=False) < 0.0
