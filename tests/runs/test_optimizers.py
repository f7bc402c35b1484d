"""Runs whose LoRA is trained by the optimizer of another package."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.events import Control, StepDone
from lib_pivotal.core.train.setup import prepare
from lib_pivotal.core.train.state import load_newest
from lib_pivotal.core.train.step_bundles import kept_bundles
from lib_pivotal.core.train.validation import Validation
from tests.runs.harness import ImageMaker, Listener, folders, run
from tests.unit.toy import toy_config

OFFERED = {
    "adamw8bit": ("bitsandbytes", {}),
    "prodigy-plus": ("prodigyplus", {"unet_lr": 1.0, "text_encoder_lr": 0.5, "optimizer_args": "d0=1e-4"}),
    "lion": ("lion_pytorch", {"unet_lr": 4e-5}),
    "prodigyopt:Prodigy": ("prodigyopt", {"unet_lr": 1.0, "text_encoder_lr": 1.0}),
    "schedulefree:AdamWScheduleFree": ("schedulefree", {"unet_lr": 1e-3}),
    "torch.optim:NAdam": ("torch", {}),
    "adamw": ("torch", {"optimizer_args": "betas=0.9,0.99"}),
}
KINDS = [("prodigy-plus", "lokr"), ("prodigy-plus", "dora"), ("lion", "loha"), ("lion", "dora")]
AVERAGING = ("prodigy-plus", "schedulefree:AdamWScheduleFree")


def settings_of(name: str) -> dict:
    """Settings for a package, or a skipped test."""
    package, changes = OFFERED[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the optional package {package} is not installed")
    if name == "adamw8bit" and not torch.cuda.is_available():
        pytest.skip("adamw8bit needs a GPU")
    return {"optimizer": name, **changes}


@pytest.mark.parametrize(("name", "kind"), [*((name, "lora") for name in OFFERED), *KINDS])
def test_a_run_stopped_and_resumed_equals_one_without_a_stop(tmp_path, data, name, kind):
    shape = {"text_encoder_rank": 2, "lora_kind": kind, "lokr_factor": 4}
    config = toy_config(data, steps=20, lora_start=0.2, **shape, **settings_of(name))
    _whole, straight = run(config, folders(tmp_path, "whole"))
    where, control = folders(tmp_path, "parts"), Control()
    _stopped, first = run(config, where, listener=Listener(control, 10), control=control)
    _resumed, second = run(config, where, resume_from=where.run)
    assert first.losses + second.losses == straight.losses
    a, b = load_newest(tmp_path / "whole" / "states"), load_newest(where.run / "states")
    assert a.tensors.keys() == b.tensors.keys()
    assert all(torch.equal(a.tensors[key], b.tensors[key]) for key in a.tensors)
    # It has learned something, and something else than AdamW does.
    adamw = toy_config(data, steps=20, lora_start=0.2, **shape)
    _, usual = run(adamw, folders(tmp_path, "usual"))
    assert straight.losses[:5] == usual.losses[:5], "until the LoRA starts it is the same run"
    assert straight.losses[-1] != usual.losses[-1]
    rates = [event.learning_rates["unet"] for event in straight.of(StepDone)]
    assert rates[3] == 0.0 and rates[4] > 0.0


@pytest.mark.parametrize("name", AVERAGING)
def test_previews_and_saves_show_the_average_and_do_not_change_the_training(tmp_path, data, name):
    changes = settings_of(name)
    _, plain = run(toy_config(data, **changes), folders(tmp_path, "a"))
    where = folders(tmp_path, "b")
    config = toy_config(data, save_every=2, sample_every=1, validation_share=0.0, save_precision="fp32", **changes)
    outcome, busy = run(config, where, sampler=ImageMaker())
    assert busy.losses == plain.losses
    saved = read_bundle(outcome.bundle_path).lora
    tensors = load_newest(where.run / "states").tensors
    trained, fast = tensors["lora/unet"], next(value for key, value in tensors.items() if key.endswith("/unet/z"))
    # What is trained on lies between the average and z: y = 0.1 z + 0.9 x.
    average = (trained - 0.1 * fast) / 0.9
    values = torch.cat([value.flatten() for key, value in saved.items() if not key.endswith("alpha")])
    assert torch.allclose(values.sort().values, average.sort().values, atol=1e-6)
    assert not torch.allclose(values.sort().values, trained.sort().values, atol=1e-6)
    rates = {event.learning_rates["unet"] for event in plain.of(StepDone)}
    assert len(rates) == 1, "there is no schedule"


@pytest.mark.parametrize("name", AVERAGING)
def test_previews_measurements_and_numbered_bundles_use_the_average(tmp_path, data, monkeypatch, name):
    setups, seen = [], {}
    monkeypatch.setattr(
        "lib_pivotal.core.train.run.prepare",
        lambda *arguments, **options: setups.append(prepare(*arguments, **options)) or setups[-1],
    )

    def note(kind: str) -> None:
        seen.setdefault(kind, []).append(setups[0].adapters[0].flat.values.sort().values)

    class Noting(ImageMaker):
        def make(self, request, embeddings):
            note("preview")
            return super().make(request, embeddings)

    class NotingListener(Listener):
        def handle(self, event):
            super().handle(event)
            if isinstance(event, StepDone):
                note("step")

    measure = Validation.measure
    monkeypatch.setattr(Validation, "measure", lambda validation: note("measured") or measure(validation))
    every = {"sample_every": 4, "validate_every": 4, "step_bundles": 2, "sample_prompts": "zog_x"}
    config = toy_config(data, validation_share=0.2, save_precision="fp32", **every, **settings_of(name))
    where = folders(tmp_path)
    run(config, where, sampler=Noting(), listener=NotingListener())
    (path,) = kept_bundles(where.run)
    assert path.stem.endswith("-000004")
    saved = read_bundle(path).lora
    values = torch.cat([value.flatten() for key, value in saved.items() if not key.endswith("alpha")])
    # Previews and measurements were also made before the first step.
    average = seen["preview"][1]
    assert torch.equal(average, seen["measured"][1]) and torch.equal(average, values.sort().values)
    assert not torch.equal(average, seen["step"][3])


def test_the_file_says_what_trained_it(tmp_path, data):
    outcome, _ = run(toy_config(data, steps=2, optimizer="torch.optim:NAdam"), folders(tmp_path))
    assert read_bundle(outcome.bundle_path).metadata["ss_optimizer"] == "torch.optim.nadam.NAdam"
