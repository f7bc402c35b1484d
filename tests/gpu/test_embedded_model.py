"""The embedded small model on a GPU: it trains, resumes, saves memory and draws, and its weights stay as they were."""

from __future__ import annotations

import hashlib

import pytest
import torch

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.errors import OutOfMemory
from lib_pivotal.core.events import Control, MemoryEstimated
from lib_pivotal.core.ports import SampleRequest
from lib_pivotal.core.train.out_of_memory import explaining
from lib_pivotal.demo.characters import CHARACTERS, write_dataset
from tests.gpu.no_waiting import train_without_waiting
from tests.runs.harness import Listener, folders, run

diffusers = pytest.importorskip("diffusers")
from lib_pivotal.demo.assets import materialize  # noqa: E402
from lib_pivotal.host.diffusers.model import load_model  # noqa: E402
from lib_pivotal.host.diffusers.sample import DiffusersSampler  # noqa: E402

PRECISIONS = ("fp32", "fp16", "bf16")
NAME = next(iter(CHARACTERS))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    write_dataset(folder / "data", NAME)
    return materialize(folder / "model").a, folder / "data"


def config(data, **changed) -> TrainConfig:
    settings = {
        "concepts": (Concept(NAME, "circle", vectors=4),),
        "data_folder": str(data),
        "resolution": 64,
        "steps": 24,
        "batch_size": 4,
        "rank": 4,
        "conv_rank": 4,
        "text_encoder_rank": 4,
        "lora_start": 0.25,
        "sample_every": 0,
        "output_name": "gpu",
        **changed,
    }
    return TrainConfig(**settings)


def digest(model) -> str:
    result = hashlib.sha256()
    for part in (model.unet, model.vae._vae, *(encoder.text_model for encoder in model.text_encoders)):
        for name, value in sorted(part.state_dict().items()):
            result.update(name.encode())
            result.update(value.detach().contiguous().view(torch.uint8).cpu().numpy().tobytes())
    return result.hexdigest()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_run_learns_as_on_a_cpu_and_leaves_the_weights_alone(tmp_path, files, precision):
    checkpoint, data = files
    _, here = run(config(data), folders(tmp_path, "cpu"), load_model(checkpoint, device="cpu"))
    model = load_model(checkpoint, precision=precision)
    before = digest(model)
    outcome, there = run(config(data), folders(tmp_path, "gpu"), model)
    assert outcome.outcome == "done"
    assert digest(model) == before
    tolerance = 0.01 if precision == "fp32" else 0.05
    assert sum(there.losses) == pytest.approx(sum(here.losses), rel=tolerance)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_saving_memory_changes_no_loss(tmp_path, files, precision):
    checkpoint, data = files
    losses = {}
    for memory in ("fast", "save"):
        model = load_model(checkpoint, precision=precision)
        _, listener = run(config(data, memory=memory), folders(tmp_path, memory), model)
        losses[memory] = listener.losses
        assert listener.of(MemoryEstimated)[0].saves == (memory == "save")
    assert losses["save"] == pytest.approx(losses["fast"], rel=2e-3)


def test_a_stopped_run_goes_on_where_it_was(tmp_path, files):
    checkpoint, data = files
    _, straight = run(config(data), folders(tmp_path, "whole"), load_model(checkpoint, precision="fp16"))
    where, control = folders(tmp_path, "parts"), Control()
    listener = Listener(control, 10)
    _, first = run(config(data), where, load_model(checkpoint, precision="fp16"), listener, control)
    model = load_model(checkpoint, precision="fp16")
    _, second = run(config(data), where, model, resume_from=where.run)
    assert first.losses + second.losses == pytest.approx(straight.losses, rel=5e-3)


def test_previews_are_images_and_those_of_a_cpu(files):
    checkpoint, _ = files
    request = SampleRequest("circle, large, red background", "", 64, 64, 10, 4.0, seed=3)
    images = []
    for device, precision in (("cpu", "fp32"), ("cuda", "fp16")):
        sample = DiffusersSampler(load_model(checkpoint, device=device, precision=precision)).make(request, {})
        assert sample is not None
        images.append(torch.frombuffer(bytearray(sample.image.tobytes()), dtype=torch.uint8).float())
    here, there = images
    assert here.std() > 10 and (here - there).abs().mean() < 8


def test_running_out_of_memory_is_reported_with_a_remedy(device):
    with pytest.raises(OutOfMemory) as raised, explaining(lambda: "training"):
        torch.empty(2**50, dtype=torch.uint8, device=device)
    assert raised.value.hint


def test_a_step_never_waits_for_the_gpu_for_its_results(tmp_path, files):
    """Reading a value in a step (``item``, ``bool``) would wait until the GPU has finished everything before it."""
    checkpoint, data = files
    for precision in ("fp16", "bf16"):
        train_without_waiting(config(data, lora_start=0.0), load_model(checkpoint, precision=precision), tmp_path)
