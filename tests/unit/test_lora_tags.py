"""Tags of LoRAs: parts, multipliers and labels, without touching the rest of the prompt."""

from __future__ import annotations

import pytest

from lib_pivotal.core.prompt_names.lora_tags import PARTS, LoraTag, change_tags, find_tags, parts_of, without_tags


def tag(text: str) -> LoraTag:
    return find_tags(text)[0]


@pytest.mark.parametrize(
    ("text", "multipliers"),
    [
        ("<lora:A>", ("1", "1")),
        ("<lora:A:0.8>", ("0.8", "0.8")),
        ("<lora:A:0.8:0.4>", ("0.8", "0.4")),
        ("<lora:A:te=0.2>", ("0.2", "0.2")),
        ("<lyco:A:1:te=0.2:unet=0.3>", ("0.2", "0.3")),
    ],
)
def test_multipliers_are_read_as_the_webui_reads_them(text, multipliers):
    assert tag(text).multipliers == multipliers
    assert str(tag(text)) == text


def test_a_part_keeps_its_multiplier_and_only_embeddings_keep_their_names():
    parts = [tag("<lora:A:0.8:0.4:ti=x_:dyn=3>").part(part) for part in PARTS]
    assert parts == [
        "<lora:A:0.8:0.4:ti=x_:dyn=3>",
        "<lora:A:te=0:unet=0.4:dyn=3:ti=off>",
        "<lora:A:te=0.8:unet=0:dyn=3:ti=off>",
        "<lora:A:te=0:unet=0:ti=x_:dyn=3>",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<lora:A:1>", "<lora:A:0.5>"),
        ("<lora:A:0:ti=x_>", "<lora:A:0.5:ti=x_>"),
        ("<lora:A:te=0:unet=1:ti=off>", "<lora:A:te=0:unet=0.5:ti=off>"),
        ("<lora:A:te=0:unet=0>", "<lora:A:0>"),
    ],
)
def test_weight(text, expected):
    assert str(tag(text).weighted(0.5)) == expected


def test_only_the_tags_of_the_label_change():
    prompt = "a <lora:A:1> b <lora:AB:1> <hypernet:A:1>, <A> <lora:A:0.5>"
    assert change_tags(prompt, "A", lambda tag: tag.part("unet")) == (
        "a <lora:A:te=0:unet=1:ti=off> b <lora:AB:1> <hypernet:A:1>, <A> <lora:A:te=0:unet=0.5:ti=off>"
    )
    assert without_tags(prompt, "A") == "a  b <lora:AB:1> <hypernet:A:1>, <A>"


def test_parts_without_content_and_copies_of_the_whole_are_left_out():
    assert parts_of(has_unet=True, has_text_encoder=True, has_embeddings=True) == PARTS
    assert parts_of(has_unet=True, has_text_encoder=False, has_embeddings=True) == (
        "whole",
        "unet",
        "embeddings",
        "nothing",
    )
    assert parts_of(has_unet=True, has_text_encoder=False, has_embeddings=False) == ("whole", "nothing")
