"""Latents beyond a limit are in a temporary file, and training on them is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lib_pivotal.core.data import latent_store
from lib_pivotal.core.data.latent_store import LatentStore
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train import batches
from lib_pivotal.core.train.setup import prepare
from tests.unit.toy import ToyModel, toy_config, write_images

SHAPE = (4, 2, 3)
ITEM_BYTES = 4 * 2 * 24


def items(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [tuple(torch.randn(2, *SHAPE, generator=generator)) for _ in range(count)]


@pytest.fixture
def mapped(monkeypatch) -> list[int]:
    """Sizes of the pieces of the temporary file."""
    sizes: list[int] = []
    original = latent_store._mapped
    monkeypatch.setattr(latent_store, "_mapped", lambda folder, size: sizes.append(size) or original(folder, size))
    return sizes


def test_items_are_copies_with_the_same_values_wherever_they_are(tmp_path, mapped):
    store = LatentStore(tmp_path / "cache", in_memory=3 * ITEM_BYTES, chunk=2 * ITEM_BYTES)
    originals = items(8)
    kept = [store.keep(mean.to(memory_format=torch.contiguous_format), std) for mean, std in originals]
    expected = [(mean.clone(), std.clone()) for mean, std in originals]
    for mean, std in originals:
        mean.zero_(), std.zero_()
    for item, (mean, std) in zip(kept, expected, strict=True):
        assert torch.equal(item.mean, mean) and torch.equal(item.std, std)
    assert mapped == [2 * ITEM_BYTES] * 3, "five items need three pieces of two"
    assert list((tmp_path / "cache").iterdir()) == [], "the file has no name"


def test_an_item_may_be_larger_than_a_piece(tmp_path, mapped):
    store = LatentStore(tmp_path, in_memory=0, chunk=ITEM_BYTES // 2)
    ((mean, std),) = items(1)
    assert torch.equal(store.keep(mean, std).mean, mean) and mapped == [ITEM_BYTES]


def test_without_a_folder_or_when_the_disk_is_full_they_stay_in_memory(tmp_path, monkeypatch, caplog):
    ((mean, std),) = items(1)
    assert torch.equal(LatentStore(None, in_memory=0).keep(mean, std).std, std)

    def full(_folder: Path, _size: int) -> torch.Tensor:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(latent_store, "_mapped", full)
    store = LatentStore(tmp_path, in_memory=0)
    assert all(torch.equal(store.keep(mean, std).std, std) for _ in range(2))
    assert caplog.text.count("No space left") == 1


def test_training_on_them_is_the_same_bit_for_bit(tmp_path, monkeypatch, mapped):
    write_images(tmp_path / "data")
    config = toy_config(tmp_path / "data", flip=True)

    def batches_of_a_run() -> list[torch.Tensor]:
        setup = prepare(config, ToyModel(), cache=tmp_path / "cache", group=SingleProcess(),
                        progress=lambda *_: None, stopped=lambda: False)  # fmt: skip
        return [batch.latents for step in range(6) for batch in setup.batcher.step(step)]

    in_memory = batches_of_a_run()
    assert not mapped
    monkeypatch.setattr(latent_store.LatentStore.__init__, "__kwdefaults__", {"in_memory": 0, "chunk": 1000})
    monkeypatch.setattr(batches, "_ON_DEVICE_BYTES", 0)
    in_file = batches_of_a_run()
    assert mapped and all(torch.equal(a, b) for a, b in zip(in_memory, in_file, strict=True))
