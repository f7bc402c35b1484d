"""Initial values, isolation and norms of the trained vectors."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.textual_inversion.embedding_table import (
    EmbeddingTable,
    EmbeddingWeights,
    initial_vectors,
    layout_of,
    vector_count,
)
from tests.unit.toy import ToyEncoder

ENCODER = ToyEncoder()


def build(*concepts: Concept) -> EmbeddingTable:
    return EmbeddingTable(concepts, layout_of(concepts, ENCODER), ENCODER, 1, torch.device("cpu"))


def test_starts_from_the_init_text_then_noise_around_its_mean():
    concept = Concept("zog", init_text="red hat", vectors=60)
    vectors = initial_vectors(concept, 60, ENCODER, torch.Generator().manual_seed(0))
    words = ENCODER.table.weight[ENCODER.tokenize("red hat")]
    assert torch.equal(vectors[:2], words)
    noise = vectors[2:] - words.mean(0)
    spread = ENCODER.table.weight[::16].std(0)
    assert (noise.mean(0).abs() < 0.4 * spread).all()
    assert (0.7 * spread < noise.std(0)).all() and (noise.std(0) < 1.4 * spread).all()


def test_without_init_text_starts_from_noise_around_the_mean_of_the_vocabulary():
    vectors = initial_vectors(Concept("zog"), 60, ENCODER, torch.Generator().manual_seed(0))
    vocabulary = ENCODER.table.weight[::16]
    assert ((vectors.mean(0) - vocabulary.mean(0)).abs() < 0.4 * vocabulary.std(0)).all()


def test_a_text_for_all_vectors_leaves_no_noise():
    concept = Concept("zog", init_text="red hat on a cat", vectors=3)
    vectors = initial_vectors(concept, 3, ENCODER, torch.Generator().manual_seed(0))
    assert torch.equal(vectors, ENCODER.table.weight[ENCODER.tokenize("red hat on")])


def test_zero_vectors_means_as_many_as_the_init_text_has():
    assert vector_count(Concept("zog", init_text="red hat", vectors=0), ENCODER) == 2
    assert vector_count(Concept("zog", vectors=0), ENCODER) == 1


def test_parts_share_memory_with_the_table():
    table = build(Concept("a x", vectors=2), Concept("b x", vectors=1))
    with torch.no_grad():
        table.parameters["b x"].fill_(7.0)
    assert torch.equal(table.weight[2], torch.full((16,), 7.0))
    table.weight[2].sum().backward()
    assert table.parameters["b x"].grad.abs().sum() == 16 and table.parameters["a x"].grad.abs().sum() == 0


def test_norm_band_of_noise_counts_from_the_norm_of_the_vocabulary():
    table = build(Concept("a x", init_text="red", vectors=3), Concept("b x", vectors=1))
    usual = ENCODER.table.weight[::16].norm(dim=1).median()
    first = table.weight[0].norm().item()
    with torch.no_grad():
        table.weight *= 100.0
    for _ in range(400):
        table.pull_norms(0.05)
    expected = torch.stack([torch.tensor(1.5 * first), *[1.5 * usual] * 3])
    assert torch.allclose(table.weight.detach().norm(dim=1), expected, rtol=1e-2)


def test_norm_band_pulls_back_only_from_outside():
    table = build(Concept("a x", init_text="red hat on", vectors=3))
    start = table.weight.detach().clone()
    with torch.no_grad():
        table.weight[1] *= 4.0
        table.weight[2] *= 0.1
    before = table.weight.detach().clone()
    table.pull_norms(0.05)
    ratio = table.weight.detach().norm(dim=1) / before.norm(dim=1)
    assert ratio[0] == 1.0 and ratio[1] < 1.0 and ratio[2] > 1.0
    for _ in range(400):
        table.pull_norms(0.05)
    ratio = table.weight.detach().norm(dim=1) / start.norm(dim=1)
    assert torch.allclose(ratio, torch.tensor([1.0, 1.5, 0.5]), atol=1e-2)


def test_norm_band_leaves_frozen_vectors_alone_wherever_they_are():
    table = build(Concept("a x", vectors=2), Concept("b x", vectors=1))
    with torch.no_grad():
        table.weight *= 4.0
    before = table.weight.detach().clone()
    table.freeze("a x")
    for _ in range(10):
        table.pull_norms(0.05)
    assert torch.allclose(table.weight[:2], before[:2], rtol=1e-6)
    assert table.weight[2].norm() < 0.9 * before[2].norm()


class NoOperations(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        pytest.fail(f"{func} was called")


def test_freezing_again_at_every_step_costs_nothing():
    table = build(Concept("a x", vectors=2))
    table.freeze("a x")
    with NoOperations():
        table.freeze("a x")


def test_finished_embeddings_are_stacked_in_one_table_per_encoder():
    one = {"clip_l": torch.ones(2, 3), "clip_g": torch.ones(2, 5)}
    two = {"clip_l": torch.zeros(1, 3), "clip_g": torch.zeros(1, 5)}
    found = EmbeddingWeights.of({"one": one, "two": two}, torch.device("cpu"))
    assert found.layout == {"one": (0, 2), "two": (2, 1)}
    assert {name: weight.sum(1).tolist() for name, weight in found.weights.items()} == {
        "clip_l": [3, 3, 0],
        "clip_g": [5, 5, 0],
    }
