"""What a step trains on: repeats of kohya folders, aliases, and noise that follows the seed."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
import torch

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.data.latents import encode_all
from lib_pivotal.core.train.batches import Batcher, latent_entries
from tests.unit.toy import ToyVae, toy_config, write_images

PINNED = ["018cd9124745fd0f", "f6e246596c2f3166", "13628846ea32f846"]
"""Digests of timesteps, captions and noise."""


def batcher_of(folder, rank=0, processes=1, **changes) -> Batcher:
    plain = {"shuffle_tags": False, "tag_dropout": 0.0, "name_only": 0.0, "caption_dropout": 0.0}
    config = toy_config(folder, **{**plain, **changes})
    images = read_dataset(TrainConfig(data_folder=str(folder))).usable
    entries = latent_entries(images, config.resolution, flip=config.flip)
    items = encode_all(
        entries, ToyVae(), batch_size=4, folder=None, progress=lambda *_: None, stopped=lambda: False
    )  # fmt: skip
    return Batcher(
        images, entries, items, config, timestep_count=1000, device=torch.device("cpu"), rank=rank, processes=processes
    )


def captions(batcher: Batcher, steps: int) -> list[str]:
    return [caption for number in range(steps) for batch in batcher.step(number) for caption in batch.captions]


def test_images_of_a_repeat_folder_are_used_as_often_as_its_name_says(tmp_path):
    write_images(tmp_path / "3_zog", 2, "zog_x")
    write_images(tmp_path / "1_sitting", 2, "zog_x sits")
    shown = Counter(caption.split(",")[0] for caption in captions(batcher_of(tmp_path), 40))
    assert shown == {"zog_x": 60, "zog_x sits": 20}


def test_aliases_are_shown_as_the_name(tmp_path):
    write_images(tmp_path, 3, "teal hexagon")
    concepts = (Concept("zog_x", vectors=2, aliases=("teal hexagon",)),)
    shown = captions(batcher_of(tmp_path, concepts=concepts), 6)
    assert {caption.split(",")[0] for caption in shown} == {"zog_x"}
    assert not any("hexagon" in caption for caption in shown)


def test_noise_and_timesteps_follow_the_seed_the_step_and_the_position(tmp_path):
    write_images(tmp_path, 1)
    same, again, other = (batcher_of(tmp_path, seed=seed) for seed in (1, 1, 2))
    (one,), (two,), (three,) = same.step(4), again.step(4), other.step(4)
    assert torch.equal(one.noise, two.noise)
    assert torch.equal(one.latents, two.latents)
    assert torch.equal(one.timesteps, two.timesteps)
    assert not torch.equal(one.noise, three.noise)
    assert not torch.equal(one.timesteps, three.timesteps)
    # One image, so only the sampled part of the latents can differ.
    assert not torch.equal(one.latents, three.latents)
    assert not torch.equal(one.noise, same.step(5)[0].noise)
    assert not torch.equal(one.noise[0], one.noise[1])


def test_by_default_a_step_draws_what_it_always_drew(tmp_path):
    """If these digests change, every user's results change: raise the version and mention it in the changelog."""
    write_images(tmp_path)
    names = ("shuffle_tags", "tag_dropout", "name_only", "caption_dropout")
    batcher = batcher_of(tmp_path, **{name: getattr(TrainConfig(), name) for name in names})
    digests = [hashlib.sha256() for _ in range(3)]
    for number in range(6):
        for batch in batcher.step(number):
            # Signs are the same on every processor, and last digits are not.
            drawn = (batch.timesteps.tolist(), batch.captions, (batch.noise > 0).long().flatten().tolist())
            for digest, values in zip(digests, drawn, strict=True):
                digest.update(repr(values).encode())
    assert [digest.hexdigest()[:16] for digest in digests] == PINNED


def test_the_order_of_images_follows_the_seed(tmp_path):
    write_images(tmp_path, 6)
    orders = [captions(batcher_of(tmp_path, seed=seed), 12) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_noise_is_standard_normal_and_timesteps_span_the_schedule(tmp_path):
    write_images(tmp_path, 2)
    batcher = batcher_of(tmp_path, batch_size=8)
    batches = [batcher.step(number)[0] for number in range(40)]
    noise = torch.cat([batch.noise.flatten() for batch in batches])
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1.0, abs=0.02)
    times = torch.cat([batch.timesteps for batch in batches])
    assert int(times.min()) < 50
    assert int(times.max()) > 950
    assert float(times.float().mean()) == pytest.approx(500, abs=60)


def test_noise_levels_of_a_step_can_be_spread_evenly(tmp_path):
    write_images(tmp_path, 3)
    changes = {"batch_size": 4, "accumulation": 2, "stratified_timesteps": True}
    plain, spread = batcher_of(tmp_path, batch_size=4, accumulation=2), batcher_of(tmp_path, **changes)
    firsts = set()
    for number in range(12):
        levels = torch.cat([batch.timesteps for batch in spread.step(number)])
        parts = levels * 8 // 1000
        assert sorted(parts.tolist()) == list(range(8)), "one of each eighth"
        firsts.add(int(parts[0]))
        before = torch.cat([batch.noise.flatten() for batch in plain.step(number)])
        assert torch.equal(before, torch.cat([batch.noise.flatten() for batch in spread.step(number)]))
    assert len(firsts) > 4, "not always the same position"
    again = batcher_of(tmp_path, **changes).step(3)[1].timesteps
    assert torch.equal(again, spread.step(3)[1].timesteps)


def test_processes_share_the_noise_levels_of_a_step(tmp_path):
    write_images(tmp_path, 4)
    both = batcher_of(tmp_path, batch_size=4, stratified_timesteps=True)
    halves = [batcher_of(tmp_path, rank=rank, processes=2, stratified_timesteps=True) for rank in (0, 1)]
    together = torch.cat([batch.timesteps for half in halves for batch in half.step(5)])
    assert torch.equal(together, torch.cat([batch.timesteps for batch in both.step(5)]))
