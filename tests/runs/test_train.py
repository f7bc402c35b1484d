"""What users rely on in a run: it learns, is repeatable, resumes exactly, and does not change the model."""

from __future__ import annotations

import math

import pytest
import torch

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.errors import ConfigError, TrainingDiverged
from lib_pivotal.core.events import Control, SampleReady, Saved, Warned
from lib_pivotal.core.ports import Sample
from lib_pivotal.core.train.recorder import read_losses
from lib_pivotal.core.train.run import train
from lib_pivotal.core.train.state import load_newest
from tests.runs.harness import Listener, folders, run
from tests.unit.toy import ToyModel, toy_config

USUAL = {"unet_lr": 2e-4 / (320 / 32), "embedding_lr": 5e-3 / (768 / 16) ** 0.5, "min_snr_gamma": 5.0 * 16}
"""With these settings the toy model, which is narrow and draws small images, is trained like others by default."""


def test_loss_sequence_is_pinned(tmp_path, data):
    """If these numbers change, every user's results change: raise the version and mention it in the changelog."""
    _, listener = run(toy_config(data, **USUAL), folders(tmp_path))
    assert [round(loss, 4) for loss in listener.losses] == PINNED


def test_loss_sequence_of_a_text_for_all_vectors_is_pinned(tmp_path, data):
    """None of its vectors starts from noise, so a change to the noise must not change it."""
    concepts = (Concept("zog_x", init_text="teal thing left", vectors=3),)
    _, listener = run(toy_config(data, concepts=concepts, **USUAL), folders(tmp_path))
    assert [round(loss, 4) for loss in listener.losses] == PINNED_WITHOUT_NOISE


def test_learns(tmp_path, data):
    config = toy_config(data, steps=150, unet_lr=5e-3, embedding_lr=2e-2, batch_size=4)
    _, listener = run(config, folders(tmp_path))
    assert sum(listener.losses[-40:]) < 0.85 * sum(listener.losses[:40])


def test_same_seed_same_file(tmp_path, data):
    first, _ = run(toy_config(data), folders(tmp_path, "a"))
    second, _ = run(toy_config(data), folders(tmp_path, "b"))
    a, b = read_bundle(first.bundle_path), read_bundle(second.bundle_path)
    assert all(torch.equal(a.lora[key], b.lora[key]) for key in a.lora)
    assert torch.equal(a.embeddings["zog_x"]["clip_l"], b.embeddings["zog_x"]["clip_l"])


@pytest.mark.parametrize("kind", ["done", "stopped", "error"])
def test_model_is_left_alone(tmp_path, data, kind):
    model = ToyModel()
    before = model.tensors()
    hooks = [len(module._forward_hooks) for module in model.unet.modules()]
    control = Control()
    listener = Listener(control, 3 if kind == "stopped" else 0)
    if kind == "error":
        model.verify = lambda: (_ for _ in ()).throw(RuntimeError("pulled the plug"))
        with pytest.raises(RuntimeError):
            run(toy_config(data, text_encoder_rank=2), folders(tmp_path), model, listener, control)
    else:
        run(toy_config(data, text_encoder_rank=2), folders(tmp_path), model, listener, control)
    after = model.tensors()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())
    assert hooks == [len(module._forward_hooks) for module in model.unet.modules()]


@pytest.mark.parametrize(("kind", "lora_start"), [("lora", 0.0), ("lora", 0.75), ("loha", 0.2), ("lokr", 0.2)])
def test_a_run_stopped_and_resumed_equals_one_without_a_stop(tmp_path, data, kind, lora_start):
    ranks = {"text_encoder_rank": 2, "conv_rank": 2, "lokr_factor": 4}
    config = toy_config(data, steps=20, flip=True, lora_kind=kind, lora_start=lora_start, **ranks)
    _whole, straight = run(config, folders(tmp_path, "whole"))
    where, control = folders(tmp_path, "parts"), Control()
    stopped, first = run(config, where, listener=Listener(control, 10), control=control)
    assert (stopped.outcome, stopped.step) == ("stopped", 10)
    resumed, second = run(config, where, resume_from=where.run)
    assert resumed.step == 20 and resumed.bundle_path == stopped.bundle_path
    assert first.losses + second.losses == straight.losses
    a, b = load_newest(tmp_path / "whole" / "states"), load_newest(where.run / "states")
    assert a.tensors.keys() == b.tensors.keys()
    assert all(torch.equal(a.tensors[key], b.tensors[key]) for key in a.tensors)
    assert [step for step, _ in read_losses(where.run)] == list(range(1, 21))


def test_resume_refuses_another_run(tmp_path, data):
    where, control = folders(tmp_path), Control()
    run(toy_config(data, steps=20), where, listener=Listener(control, 5), control=control)
    (data / "00.txt").write_text("zog_x, something else")
    with pytest.raises(ConfigError) as caught:
        run(toy_config(data, steps=20, unet_lr=1e-3, seed=9), where, resume_from=where.run)
    assert {problem.field for problem in caught.value.problems} == {"unet_lr", "seed", "data"}


def test_previews_do_not_change_training(tmp_path, data):
    class Sampler:
        def __init__(self):
            self.requests = []

        def make(self, request, embeddings):
            torch.manual_seed(5)
            torch.rand(3)
            self.requests.append(request.prompt)
            assert embeddings["zog_x"]["clip_l"].shape == (3, 16)
            from PIL import Image

            return Sample(Image.new("RGB", (8, 8)), "info")

    _, plain = run(toy_config(data), folders(tmp_path, "a"))
    sampler = Sampler()
    config = toy_config(data, sample_every=3, sample_prompts="zog_x\nzog_x, left")
    outcome, with_samples = run(config, folders(tmp_path, "b"), sampler=sampler)
    assert plain.losses == with_samples.losses
    assert [event.step for event in with_samples.of(SampleReady)] == [0, 0, 3, 3, 6, 6, 8, 8]
    assert (tmp_path / "b" / "samples" / "step-000003-1.png").exists()
    assert outcome.bundle_path.with_suffix(".png").exists()


def test_batch_packing_changes_nothing_but_rounding(tmp_path, data):
    _, once = run(toy_config(data, batch_size=4), folders(tmp_path, "a"))
    _, packed = run(toy_config(data, batch_size=2, accumulation=2), folders(tmp_path, "b"))
    assert once.losses == pytest.approx(packed.losses, rel=1e-4)


def test_embeddings_freeze_at_their_fraction(tmp_path, data):
    seen = {}

    class Spy(Listener):
        def handle(self, event) -> None:
            super().handle(event)
            if isinstance(event, Saved) and event.kind == "state":
                state = load_newest(event.path.parent)
                seen[event.step] = state.tensors["table/clip_l"]

    concepts = (Concept("zog_x", vectors=2, stop_at=0.5), Concept("tag 1", vectors=1, stop_at=1.0))
    config = toy_config(data, concepts=concepts, save_every=1, keep_states=1)
    run(config, folders(tmp_path), listener=Spy())
    assert not torch.equal(seen[3][:2], seen[4][:2])
    assert torch.equal(seen[4][:2], seen[8][:2])
    assert not torch.equal(seen[7][2:], seen[6][2:])


def test_lora_waits_for_its_start(tmp_path, data):
    seen = {}

    class Spy(Listener):
        def handle(self, event) -> None:
            super().handle(event)
            if isinstance(event, Saved) and event.kind == "state":
                seen[event.step] = load_newest(event.path.parent).tensors

    config = toy_config(data, lora_start=0.5, save_every=1, keep_states=1)
    _, listener = run(config, folders(tmp_path, "a"), listener=Spy())
    assert torch.equal(seen[1]["lora/unet"], seen[4]["lora/unet"])
    assert not torch.equal(seen[4]["lora/unet"], seen[5]["lora/unet"])
    assert not torch.equal(seen[1]["table/clip_l"], seen[2]["table/clip_l"])
    # Its optimizer starts fresh: it gathered no moments while it waited.
    assert not any(key.startswith("optimiser/unet/") for key in seen[4])
    assert any(key.startswith("optimiser/unet/") for key in seen[5])
    _, alone = run(toy_config(data, rank=0), folders(tmp_path, "b"))
    assert listener.losses[:4] == alone.losses[:4]


def test_without_concepts_the_lora_starts_at_once(tmp_path, data):
    _, late = run(toy_config(data, concepts=(), lora_start=0.5), folders(tmp_path, "a"))
    _, early = run(toy_config(data, concepts=(), lora_start=0.0), folders(tmp_path, "b"))
    assert late.losses == early.losses


def test_lora_rank_zero_trains_embeddings_only(tmp_path, data):
    outcome, _ = run(toy_config(data, rank=0), folders(tmp_path))
    bundle = read_bundle(outcome.bundle_path)
    assert not bundle.lora and list(bundle.embeddings) == ["zog_x"]


def test_diverged_run_keeps_the_last_good_values(tmp_path, data):
    model = ToyModel()
    model.broken_at = 5
    with pytest.raises(TrainingDiverged) as caught:
        run(toy_config(data), folders(tmp_path), model)
    assert caught.value.step == 5
    bundle = read_bundle(tmp_path / "run-bundles" / "toy.safetensors")
    assert all(torch.isfinite(value).all() for value in bundle.lora.values())
    assert torch.isfinite(bundle.embeddings["zog_x"]["clip_l"]).all()


def test_run_that_breaks_keeps_what_it_has_learned(tmp_path, data):
    model = ToyModel()
    calls = iter(range(100))

    def pull_the_plug() -> None:
        if next(calls) == 4:
            raise RuntimeError

    model.verify = pull_the_plug
    with pytest.raises(RuntimeError):
        run(toy_config(data), folders(tmp_path), model)
    assert load_newest(tmp_path / "run" / "states").step == 4
    assert read_bundle(tmp_path / "run-bundles" / "toy.safetensors").lora


def test_discard_writes_no_bundle(tmp_path, data):
    control = Control()
    outcome, _ = run(toy_config(data), folders(tmp_path), listener=Listener(control, 2, discard=True), control=control)
    assert outcome.outcome == "discarded" and not (tmp_path / "run-bundles").exists()


def test_existing_bundle_is_not_overwritten_without_permission(tmp_path, data):
    where = folders(tmp_path)
    first, _ = run(toy_config(data), where)
    kept = first.bundle_path.read_bytes()
    with pytest.raises(ConfigError, match="already exists"):
        run(toy_config(data, seed=2), where)
    second, _ = run(toy_config(data, seed=2, if_exists="number"), where)
    assert second.bundle_path.name == "toy-2.safetensors"
    assert first.bundle_path.read_bytes() == kept
    third, _ = run(toy_config(data, seed=2, if_exists="overwrite"), where)
    assert third.bundle_path == first.bundle_path and third.bundle_path.read_bytes() != kept


def test_a_failing_sampler_is_a_warning_and_does_not_end_the_run(tmp_path, data):
    from lib_pivotal.core.errors import HostError

    class Sampler:
        def make(self, request, embeddings):
            raise HostError("no")

    outcome, listener = run(toy_config(data, sample_every=4), folders(tmp_path), sampler=Sampler())
    assert outcome.outcome == "done" and listener.of(Warned)


def test_a_failing_sink_does_not_end_the_run(tmp_path, data):
    class Bad:
        def handle(self, event):
            raise ValueError

    control = Control()
    outcome = train(toy_config(data), ToyModel(), None, [Bad()], control, folders(tmp_path))
    assert outcome.outcome == "done"


def test_losses_are_finite(tmp_path, data):
    _, listener = run(toy_config(data, conv_rank=2, min_snr_gamma=0.0, schedule="constant"), folders(tmp_path))
    assert all(math.isfinite(loss) for loss in listener.losses)


PINNED = [1.156, 0.9732, 1.1976, 0.9858, 1.0518, 0.9861, 1.093, 1.0095]
PINNED_WITHOUT_NOISE = [1.1558, 0.9731, 1.1962, 0.9867, 1.0519, 0.9857, 1.0927, 1.009]
