"""Emphasis in captions weighs tokens by the webui's formula."""

from __future__ import annotations

import pytest
import torch

from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.emphasis import parse_emphasis, weighted
from lib_pivotal.core.textual_inversion.prompt_chunks import PromptChunker
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from tests.unit.toy import ToyEncoder, ToyModel


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("", 1.0)]),
        ("a red hat", [("a red hat", 1.0)]),
        ("a (red) hat", [("a ", 1.0), ("red", 1.1), (" hat", 1.0)]),
        ("a (red:1.5) hat", [("a ", 1.0), ("red", 1.5), (" hat", 1.0)]),
        ("((red))", [("red", 1.21)]),
        ("[red]", [("red", 1 / 1.1)]),
        ("(a (red:2), hat:0.5)", [("a ", 0.5), ("red", 1.0), (", hat", 0.5)]),
        (r"\(red\) hat", [("(red) hat", 1.0)]),
        ("a: b", [("a: b", 1.0)]),
        (":) o_o", [(":) o_o", 1.0)]),
        ("a (red", [("a ", 1.0), ("red", 1.1)]),
        ("(red:x)", [("red:x", 1.1)]),
        ("(red:1.2.3)", [("red:1.2.3)", 1.1)]),
        ("a BREAK b", [("a BREAK b", 1.0)]),
    ],
)
def test_brackets_weigh_what_is_in_them(text, expected):
    found = parse_emphasis(text)
    assert [piece for piece, _ in found] == [piece for piece, _ in expected]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in expected])


def test_the_output_is_multiplied_and_each_rows_mean_restored():
    torch.manual_seed(0)
    hidden, weights = torch.randn(3, 77, 16), torch.ones(3, 77)
    weights[0, 3:5], weights[2, 1:70] = 1.5, 0.3
    result = weighted(hidden, weights)
    for row in range(3):
        z = hidden[row] * weights[row][:, None]
        assert torch.allclose(result[row], z * (hidden[row].mean() / z.mean()), atol=1e-6)
    assert torch.equal(result[1], hidden[1])
    assert torch.allclose(result.mean((1, 2)), hidden.mean((1, 2)), atol=1e-6)


def test_the_tokens_of_a_name_have_the_weight_of_their_brackets():
    chunked = PromptChunker(ToyEncoder(), {"zog": (0, 3)}, has_emphasis=True).chunk("a (zog, hat:1.4), tree")
    assert chunked.ids.shape == (1, 77) and chunked.columns == (2, 3, 4)
    assert chunked.weights[0, :10].tolist() == pytest.approx([1, 1, 1.4, 1.4, 1.4, 1.4, 1.4, 1, 1, 1])
    assert PromptChunker(ToyEncoder(), {}, has_emphasis=True).chunk("a, hat").weights is None
    padded = PromptChunker(ToyEncoder(), {}, has_emphasis=True)
    assert padded.padded(padded.chunk("(a)"), 3).weights.shape == (3, 77)


def test_captions_are_encoded_with_emphasis_only_if_it_is_asked_for():
    model = ToyModel()
    # Without it, the mean of a layer norm's output is 0, by which emphasis would divide.
    torch.nn.init.constant_(model.text_encoders[0].layer.norm2.bias, 0.1)
    table = torch.randn(2, 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
    embeddings = EmbeddingWeights({"zog": (0, 2)}, {"clip_l": table})
    plain = TextConditioner(model, embeddings).encode(["a zog, hat", "tree"], [None] * 2)[0].conditioning
    (group,) = TextConditioner(model, embeddings, has_emphasis=True).encode(["a (zog:1.5), hat", "tree"], [None] * 2)
    weights = torch.ones(77)
    weights[2:4] = 1.5
    z = plain[0] * weights[:, None]
    assert torch.allclose(group.conditioning[0], z * (plain[0].mean() / z.mean()), atol=1e-6)
    assert torch.equal(group.conditioning[1], plain[1])
    group.conditioning.square().sum().backward()
    assert float(table.grad.abs().sum()) > 0


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["(", "(a:", "[a", "\\", ":", "(a:1.1)", "((a:1.1", ")", ": 1"])
def test_hostile_brackets_cost_no_time(piece):
    parse_emphasis(piece * (20_000 // len(piece)))
