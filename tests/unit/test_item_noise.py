"""The random values of an item: what an offset adds, which timesteps are drawn, and what does not depend on either."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.diffusion.item_random import item_seed
from lib_pivotal.core.diffusion.noise import item_noise

SHAPE = (4, 8, 8)
SEEDS = [item_seed(1, step, 0) for step in range(400)]


def test_an_offset_moves_whole_channels_and_nothing_else():
    plain = [item_noise(seed, SHAPE, 1000) for seed in SEEDS]
    moved = [item_noise(seed, SHAPE, 1000, offset=0.5) for seed in SEEDS]
    added = torch.stack([new.noise - old.noise for (new, _), (old, _) in zip(moved, plain, strict=True)])
    assert torch.allclose(added, added[:, :, :1, :1].expand_as(added), atol=1e-5)
    offsets = added[:, :, 0, 0]
    assert abs(float(offsets.mean())) < 0.05
    assert float(offsets.std()) == pytest.approx(0.5, rel=0.1)
    for (new, new_rng), (old, old_rng) in zip(moved, plain, strict=True):
        assert torch.equal(new.posterior, old.posterior) and new.timestep == old.timestep
        assert new_rng.random() == old_rng.random()


def test_timesteps_are_drawn_evenly_from_their_range_alone():
    pairs = [item_noise(seed, SHAPE, 1000, timestep_range=(0.2, 0.6)) for seed in SEEDS]
    drawn = [item.timestep for item, _ in pairs]
    assert min(drawn) >= 200 and max(drawn) < 600
    counts = torch.histc(torch.tensor(drawn).float(), bins=4, min=200, max=600)
    assert (counts > 70).all()
    for (item, rng), seed in zip(pairs, SEEDS, strict=True):
        plain, plain_rng = item_noise(seed, SHAPE, 1000)
        assert torch.equal(item.noise, plain.noise) and rng.random() == plain_rng.random()


def test_strata_divide_the_range_and_change_nothing_else():
    for count in (1, 3, 8):
        for index in range(count):
            pairs = [item_noise(seed, SHAPE, 1000, timestep_range=(0.5, 1.0), stratum=(index, count)) for seed in SEEDS]
            drawn = [item.timestep for item, _ in pairs]
            low, high = (500 + 500 * edge / count for edge in (index, index + 1))
            assert low - 1 <= min(drawn) < low + 20 and high - 20 < max(drawn) < high + 1
    for (item, rng), seed in zip(pairs, SEEDS, strict=True):
        plain, plain_rng = item_noise(seed, SHAPE, 1000)
        assert torch.equal(item.noise, plain.noise) and rng.random() == plain_rng.random()
    # A single part is the whole.
    assert (
        item_noise(SEEDS[0], SHAPE, 1000, stratum=(0, 1))[0].timestep == item_noise(SEEDS[0], SHAPE, 1000)[0].timestep
    )


def test_the_whole_range_is_every_timestep_as_drawn():
    drawn = {item_noise(seed, SHAPE, 4)[0].timestep for seed in SEEDS}
    assert drawn == {0, 1, 2, 3}
