"""Outputs of the text encoders joined to one conditioning; empty captions of SDXL are zeros."""

from __future__ import annotations

import torch

from lib_pivotal.core.ports import EncodedText
from lib_pivotal.core.textual_inversion.conditioning import join_encoders


def encoded(rows, width, pooled_width=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(rows, pooled_width, generator=generator) if pooled_width else None
    return EncodedText(torch.randn(rows, 77, width, generator=generator), pooled)


def test_one_encoder_gives_its_chunks_one_after_the_other():
    text = encoded(4, 3)
    hidden, pooled = join_encoders([text], 2, [False, False], zero_empty=False)
    assert pooled is None
    assert torch.equal(
        hidden, torch.stack([torch.cat([text.hidden[0], text.hidden[1]]), torch.cat([*text.hidden[2:]])])
    )


def test_two_encoders_stand_next_to_each_other_and_the_first_chunk_gives_the_pooled_text():
    first, second = encoded(4, 3), encoded(4, 5, 6, seed=1)
    hidden, pooled = join_encoders([first, second], 2, [False, False], zero_empty=True)
    assert hidden.shape == (2, 154, 8)
    assert torch.equal(hidden[1, 77:, :3], first.hidden[3])
    assert torch.equal(hidden[1, :77, 3:], second.hidden[2])
    assert torch.equal(pooled, second.pooled[[0, 2]])


def test_only_empty_captions_become_zeros_and_only_where_the_family_wants_it():
    first, second = encoded(2, 3), encoded(2, 5, 6, seed=1)
    kept, kept_pooled = join_encoders([first, second], 1, [True, False], zero_empty=False)
    hidden, pooled = join_encoders([first, second], 1, [True, False], zero_empty=True)
    assert kept[0].any()
    assert kept_pooled[0].any()
    assert not hidden[0].any()
    assert not pooled[0].any()
    assert torch.equal(hidden[1], kept[1])
    assert torch.equal(pooled[1], kept_pooled[1])


def test_gradients_flow_through_captions_that_are_not_empty():
    text = encoded(2, 3)
    text.hidden.requires_grad_()
    hidden, _ = join_encoders([text], 1, [True, False], zero_empty=True)
    hidden.sum().backward()
    assert not text.hidden.grad[0].any()
    assert text.hidden.grad[1].all()
