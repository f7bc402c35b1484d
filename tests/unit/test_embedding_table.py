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


def build(*concepts: Concept, norms: str = "band") -> EmbeddingTable:
    layout = layout_of(concepts, ENCODER)
    return EmbeddingTable(concepts, layout, ENCODER, seed=1, norms=norms, device=torch.device("cpu"))


def norms_of(vectors: torch.Tensor) -> torch.Tensor:
    return vectors.detach().norm(dim=1)


def test_starts_from_the_init_text_then_noise_around_its_mean():
    concept = Concept("zog", init_text="red hat", vectors=2000)
    vectors = initial_vectors(concept, 2000, ENCODER, torch.Generator().manual_seed(0))
    words = ENCODER.table.weight[ENCODER.tokenize("red hat")]
    assert torch.equal(vectors[:2], words)
    noise = vectors[2:]
    assert torch.allclose(norms_of(noise), norms_of(words).mean(), rtol=1e-5)
    assert torch.cosine_similarity(noise.mean(0), words.mean(0), dim=0) > 0.95
    # Before each vector is brought to the norm, it spreads in each dimension as the vocabulary does.
    spread, expected = noise.std(0), ENCODER.table.weight[::16].std(0)
    assert torch.allclose(spread / spread.norm(), expected / expected.norm(), atol=0.05)


def test_without_init_text_starts_from_noise_around_the_mean_of_the_vocabulary():
    vectors = initial_vectors(Concept("zog"), 2000, ENCODER, torch.Generator().manual_seed(0))
    vocabulary = ENCODER.table.weight[::16]
    assert torch.allclose(norms_of(vectors), norms_of(vocabulary).median(), rtol=1e-5)
    assert torch.cosine_similarity(vectors.mean(0), vocabulary.mean(0), dim=0) > 0.95


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


def test_band_brings_vectors_back_to_its_edges_and_only_from_outside():
    table = build(Concept("a x", init_text="red hat on", vectors=3), Concept("b x", vectors=1))
    start = table.weight.detach().clone()
    factors = torch.tensor([1.2, 4.0, 0.1, 100.0])
    with torch.no_grad():
        table.weight *= factors[:, None]
    inside = table.weight.detach()[0].clone()
    table.limit_norms()
    assert torch.equal(table.weight[0], inside)
    assert torch.allclose(table.weight, start * torch.tensor([1.2, 1.5, 0.5, 1.5])[:, None], rtol=1e-5)


def test_direction_keeps_every_norm_and_no_direction():
    table = build(Concept("a x", init_text="red hat", vectors=3), norms="direction")
    before = norms_of(table.weight).clone()
    with torch.no_grad():
        table.weight += torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
    moved = table.weight.detach().clone()
    table.limit_norms()
    assert torch.allclose(norms_of(table.weight), before, rtol=1e-6)
    assert torch.allclose(torch.cosine_similarity(table.weight, moved), torch.ones(3))


def test_free_norms_are_left_alone():
    table = build(Concept("a x", vectors=2), norms="free")
    with torch.no_grad():
        table.weight *= 100.0
    before = table.weight.detach().clone()
    table.limit_norms()
    assert torch.equal(table.weight, before)


def test_norms_of_frozen_vectors_are_left_alone_bit_for_bit():
    for norms in ("band", "direction"):
        table = build(Concept("a x", vectors=2), Concept("b x", vectors=1), norms=norms)
        with torch.no_grad():
            table.weight *= 4.0
        before = table.weight.detach().clone()
        table.freeze("a x")
        for _ in range(10):
            table.limit_norms()
        assert torch.equal(table.weight[:2], before[:2])
        assert table.weight[2].norm() < 0.9 * before[2].norm()


def test_norms_count_from_what_a_run_starts_from():
    table = build(Concept("a x", vectors=2))
    with torch.no_grad():
        table.weight *= 4.0
    table.set_initial_norms(norms_of(table.weight))
    before = table.weight.detach().clone()
    table.limit_norms()
    assert torch.equal(table.weight, before)
    assert torch.equal(table.relative_norms(), torch.ones(2))


def test_norms_cost_nothing_once_every_vector_is_frozen():
    table = build(Concept("a x", vectors=2), Concept("b x", vectors=1))
    table.freeze("a x")
    table.freeze("b x")
    with NoOperations():
        table.limit_norms()


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
