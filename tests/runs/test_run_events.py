"""What happens around the steps: requests during a run, warnings, and messages when something goes wrong."""

from __future__ import annotations

import base64
import io
import json
import weakref

import pytest
import torch
from PIL import Image

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.errors import OutOfMemory, TrainingDiverged
from lib_pivotal.core.events import Control, Prepared, SampleReady, Saved, StepDone, Warned
from lib_pivotal.core.ports import Sample
from lib_pivotal.core.train.output import Output
from lib_pivotal.core.train.run import Folders, train
from tests.unit.toy import ToyModel, ToyVae, toy_config


class Watcher:
    """Collects events, and calls ``act`` on each."""

    def __init__(self, act=lambda event: None) -> None:
        self.events, self.act = [], act

    def handle(self, event) -> None:
        self.events.append(event)
        self.act(event)

    def of(self, kind) -> list:
        return [event for event in self.events if isinstance(event, kind)]


class Painter:
    """A sampler whose images have one color each: red, then green, then blue and so on."""

    def __init__(self) -> None:
        self.made = 0

    def make(self, request, embeddings):
        color = ((255, 0, 0), (0, 255, 0), (0, 0, 255))[self.made % 3]
        self.made += 1
        return Sample(Image.new("RGB", (64, 64), color), "")


def run(tmp_path, config, *, model=None, watcher=None, control=None, sampler=None):
    (tmp_path / "run").mkdir()
    places = Folders(tmp_path / "run", tmp_path / "bundles", tmp_path / "cache")
    watcher = watcher or Watcher()
    return train(config, model or ToyModel(), sampler, [watcher], control or Control(), places), watcher


def at_step(number, action):
    def act(event) -> None:
        if isinstance(event, StepDone) and event.step == number:
            action()

    return act


# -- requests


def test_save_now_writes_bundle_and_state_once_and_goes_on(tmp_path, data):
    control = Control()
    outcome, seen = run(tmp_path, toy_config(data), watcher=Watcher(at_step(3, control.save_now)), control=control)
    saved = sorted((event.step, event.kind) for event in seen.of(Saved))
    assert saved == [(3, "bundle"), (3, "state"), (8, "bundle"), (8, "state")]
    assert read_bundle(tmp_path / "bundles" / "toy-000003.safetensors").lora
    assert outcome.outcome == "done" and len(seen.of(StepDone)) == 8


def test_sample_now_makes_the_previews_once_and_goes_on(tmp_path, data):
    control = Control()
    config = toy_config(data, sample_prompts="zog_x\nzog_x, left")
    watcher = Watcher(at_step(3, control.sample_now))
    outcome, seen = run(tmp_path, config, watcher=watcher, control=control, sampler=Painter())
    assert [(event.step, event.index) for event in seen.of(SampleReady)] == [(3, 0), (3, 1)]
    assert outcome.outcome == "done" and len(seen.of(StepDone)) == 8


def test_stop_while_images_are_encoded_ends_at_once_and_writes_nothing(tmp_path, data):
    control, model = Control(), ToyModel()

    class SlowVae(ToyVae):
        encoded = 0

        def encode(self, pixels):
            self.encoded += len(pixels)
            control.stop()
            return super().encode(pixels)

    model.vae = SlowVae()
    outcome, seen = run(tmp_path, toy_config(data), model=model, control=control)
    assert (outcome.outcome, outcome.step, outcome.bundle_path) == ("stopped", 0, None)
    assert model.vae.encoded == 2
    assert not seen.of(StepDone) and not (tmp_path / "bundles").exists()


def test_zero_steps_are_chosen_by_the_number_of_images(tmp_path, data):
    control = Control()

    def stop_when_prepared(event) -> None:
        if isinstance(event, Prepared):
            control.stop()

    _, seen = run(tmp_path, toy_config(data, steps=0), watcher=Watcher(stop_when_prepared), control=control)
    assert [event.total_steps for event in seen.of(Prepared)] == [600]


# -- things that go wrong


def broken_at(*predictions: int) -> ToyModel:
    """A model whose output is NaN in these predictions, counted from 1."""

    class Model(ToyModel):
        def predict(self, noisy, timesteps, condition):
            output = super().predict(noisy, timesteps, condition)
            return output * float("nan") if self.predictions in predictions else output

    return Model()


@pytest.mark.parametrize("bad", [(3,), (3, 4), (2, 3, 5, 6), (7, 8)])
def test_a_run_survives_one_or_two_nan_losses_in_a_row(tmp_path, data, bad):
    outcome, seen = run(tmp_path, toy_config(data), model=broken_at(*bad))
    assert outcome.outcome == "done"
    assert [event.step for event in seen.of(StepDone) if event.loss != event.loss] == list(bad)
    bundle = read_bundle(outcome.bundle_path)
    assert all(torch.isfinite(value).all() for value in bundle.lora.values())


@pytest.mark.parametrize("bad", [(4, 5, 6), (1, 2, 4, 5, 6, 7)])
def test_three_nan_losses_in_a_row_end_the_run_and_name_the_first(tmp_path, data, bad):
    with pytest.raises(TrainingDiverged) as caught:
        run(tmp_path, toy_config(data), model=broken_at(*bad))
    assert caught.value.step == 4
    assert "since step 4" in str(caught.value) and "Lower the learning rates" in str(caught.value)


def test_a_group_without_gradients_is_reported_once(tmp_path, data):
    class Deaf(ToyModel):
        def condition(self, texts, chunk_count, sizes, is_empty):
            return super().condition(texts, chunk_count, sizes, is_empty) * 0.0

    config = toy_config(data, steps=45)
    _, seen = run(tmp_path, config, model=Deaf(), watcher=Watcher())
    messages = [event.message for event in seen.of(Warned) if "learned" in event.message]
    assert messages == ["No gradient reaches zog_x clip_l: nothing is learned there."]
    where = [type(event) for event in seen.events].index(Warned, seen.events.index(seen.of(StepDone)[0]))
    assert sum(isinstance(event, StepDone) for event in seen.events[:where]) == 20


def test_a_run_in_which_all_groups_learn_gives_no_warning(tmp_path, data):
    _, seen = run(tmp_path, toy_config(data, steps=45, lora_start=0.2))
    assert not [event for event in seen.of(Warned) if "learned" in event.message]


def test_the_activations_are_free_when_the_result_is_saved(tmp_path, data, monkeypatch):
    """Some optimizers need memory on the GPU for that."""

    class Activations:
        pass

    alive, model = weakref.WeakSet(), ToyModel()
    predict, calls, at_the_save = model.predict, [], []

    def too_large(*arguments):
        output = predict(*arguments)
        calls.append(1)
        if len(calls) > 3:
            activations = Activations()
            alive.add(activations)
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return output

    def save(*_, **__):
        at_the_save.append(len(alive))

    monkeypatch.setattr(Output, "try_to_save", save)
    model.predict = too_large
    with pytest.raises(OutOfMemory):
        run(tmp_path, toy_config(data), model=model)
    assert len(calls) == 4 and at_the_save == [0]


@pytest.mark.parametrize("stage", ["encoding images", "training"])
def test_out_of_memory_is_reported_with_a_remedy(tmp_path, data, stage):
    model = ToyModel()

    def too_large(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    if stage == "training":
        model.predict = too_large
    else:
        model.vae.encode = too_large
    with pytest.raises(OutOfMemory) as caught:
        run(tmp_path, toy_config(data), model=model)
    assert caught.value.stage == stage
    assert str(caught.value).startswith(f"The device ran out of memory while {stage}.")
    assert all(words in str(caught.value) for words in ("GPU memory", "batch size", "resolution"))


# -- the cover


def test_the_last_preview_of_the_first_prompt_becomes_the_bundles_image(tmp_path, data):
    # Previews at 0, 4 and 8, of two prompts each: red green, blue red, green blue.
    config = toy_config(data, sample_every=4, sample_prompts="zog_x\nzog_x, left")
    outcome, _ = run(tmp_path, config, sampler=Painter())
    (cover,) = json.loads(read_bundle(outcome.bundle_path).metadata["ssmd_cover_images"])
    preview = outcome.bundle_path.with_suffix(".png")
    for image in (Image.open(io.BytesIO(base64.b64decode(cover))), Image.open(preview)):
        red, green, blue = image.convert("RGB").getpixel((30, 30))
        assert green > 200 and max(red, blue) < 60


def test_a_run_without_previews_has_no_cover(tmp_path, data):
    outcome, _ = run(tmp_path, toy_config(data), sampler=Painter())
    assert "ssmd_cover_images" not in read_bundle(outcome.bundle_path).metadata
    assert not outcome.bundle_path.with_suffix(".png").exists()


@pytest.mark.parametrize(("ask", "take"), [("save_now", "take_save"), ("sample_now", "take_sample")])
def test_a_request_that_arrives_while_requests_are_taken_is_not_lost(monkeypatch, ask, take):
    control = Control()
    event = control._save if ask == "save_now" else control._sample
    look = event.is_set

    def look_and_be_asked():
        answer = look()
        getattr(control, ask)()
        return answer

    monkeypatch.setattr(event, "is_set", look_and_be_asked)
    assert not getattr(control, take)()
    monkeypatch.undo()
    assert getattr(control, take)()
    assert not getattr(control, take)()
