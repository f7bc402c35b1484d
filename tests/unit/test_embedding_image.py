"""Embeddings in images, as the webui saves them, and malicious images."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from lib_pivotal.core.bundle.embedding_file import embedding_name, read_embedding_file
from lib_pivotal.core.bundle.embedding_image import read_embedding_image
from tests.unit.bundle_samples import sd1, sdxl


def contents(vectors, name="zog v1"):
    stored = {"TORCHTENSOR": vectors.tolist()}
    return {"string_to_token": {"*": 265}, "string_to_param": {"*": stored}, "name": name, "step": 5}


def text_image(path, raw, key="sd-ti-embedding"):
    info = PngImagePlugin.PngInfo()
    info.add_text(key, base64.b64encode(raw) if isinstance(raw, bytes) else raw)
    Image.new("RGB", (64, 64), (200, 90, 10)).save(path, pnginfo=info)
    return path


def mixing(count):
    """The webui's numbers, one after the other."""
    state, numbers = 0, []
    for _ in range(count):
        state = (1664525 * state + 1013904223) % 2**32
        numbers.append(state % 255 & 0x0F)
    return np.array(numbers, dtype=np.uint8)


def strip_image(raw, height=64, packed=None):
    """An image with strips at its sides: lower four bits left, upper ones right, a black column between."""
    packed = np.frombuffer(zlib.compress(raw, 9) if packed is None else packed, np.uint8)
    packed = np.resize(packed, -(-len(packed) // (3 * height)) * 3 * height)
    mask = mixing(len(packed))
    image = np.full((height, 40, 3), 150, dtype=np.uint8)
    black = np.zeros((height, 1, 3), dtype=np.uint8)
    # The upper bits of a strip are a meaningless pattern.
    strips = [((bits ^ mask) | 0x50).reshape(height, -1, 3).astype(np.uint8) for bits in (packed & 0x0F, packed >> 4)]
    return Image.fromarray(np.concatenate([strips[0], black, image, black, strips[1]], axis=1))


def test_the_text_of_a_png(tmp_path):
    path = text_image(tmp_path / "hat.png", json.dumps(contents(sd1())).encode())
    found = read_embedding_file(path, "zog")
    assert torch.allclose(found.embeddings["zog"].encoders["clip_l"], sd1())
    assert embedding_name(path) == "zog v1", "as the webui, which takes the name inside"


@pytest.mark.parametrize("ending", ["png", "webp"])
@pytest.mark.parametrize("border", [0, 7])
def test_the_strips_of_an_image(tmp_path, ending, border):
    plain = strip_image(json.dumps(contents(sd1(2))).encode())
    image = Image.new("RGB", (plain.width + 2 * border, plain.height + 2 * border))
    image.paste(plain, (border, border))
    image.save(
        tmp_path / f"hat.{ending}", **({"lossless": True, "quality": 100, "exact": True} if ending == "webp" else {})
    )
    found = read_embedding_file(tmp_path / f"hat.{ending}", "zog")
    assert torch.allclose(found.embeddings["zog"].encoders["clip_l"], sd1(2))
    assert embedding_name(tmp_path / f"hat.{ending}") == "zog v1"


def test_sdxl_in_an_image(tmp_path):
    stored = {encoder: {"TORCHTENSOR": vectors.tolist()} for encoder, vectors in sdxl(2).items()}
    item = read_embedding_file(text_image(tmp_path / "x.png", json.dumps(stored).encode()), "zog").embeddings["zog"]
    assert torch.allclose(item.encoders["clip_g"], sdxl(2)["clip_g"])


def test_an_image_without_a_name_goes_by_its_file(tmp_path):
    path = text_image(tmp_path / "hat.png", json.dumps(contents(sd1(), name=None)).encode())
    assert embedding_name(path) == "hat"
    Image.new("RGB", (9, 9), "white").save(tmp_path / "plain.png")
    assert embedding_name(tmp_path / "plain.png") == "plain"


HOSTILE = {
    "not base64": "???",
    "not JSON": b"garbage",
    "a list": b"[1, 2]",
    "deep": b'{"a":' * 5000,
    "deep and whole": b'{"a":' * 900 + b"1" + b"}" * 900,
    "a long number": b'{"string_to_param":{"*":{"TORCHTENSOR":[' + b"9" * 5000 + b"]}}}",
    "ragged": b'{"string_to_param":{"*":{"TORCHTENSOR":[[1,2],[3]]}}}',
    "texts": b'{"string_to_param":{"*":{"TORCHTENSOR":["a"]}}}',
    "nothing": b'{"string_to_param":{"*":{"TORCHTENSOR":null}}}',
    "NaN": b'{"string_to_param":{"*":{"TORCHTENSOR":[[NaN, 1]]}}}',
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch /tmp/x'\ntR.",
    "no tensor": b'{"string_to_param":{"*":5}}',
    "surrogates": b'{"name":"\\ud800","string_to_param":{"*":{"TORCHTENSOR":[[1]]}}}',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_texts_are_one_line(tmp_path, kind):
    path = text_image(tmp_path / "hat.png", HOSTILE[kind])
    found = read_embedding_file(path, "zog")
    embedding_name(path)
    if kind not in ("surrogates",):
        assert not found.embeddings
        (problem,) = found.problems
        assert str(problem).isprintable()
        assert problem.field == "hat.png"


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (300, 300)),
        Image.new("RGB", (300, 300), "white"),
        Image.new("L", (3, 3), 7),
        Image.new("RGBA", (1, 1)),
        strip_image(b"", packed=b"not compressed at all" * 9),
        strip_image(b"", packed=zlib.compress(b"x" * 10**6)[:300]),
        strip_image(b"", packed=zlib.compress(bytes(60 * 2**20), 9)),
    ],
)
def test_images_without_an_embedding(tmp_path, image):
    image.save(tmp_path / "hat.png")
    found = read_embedding_file(tmp_path / "hat.png", "zog")
    assert not found.embeddings
    assert len(found.problems) == 1


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("side", "words"), [(4_000, "too large"), (14_000, "cannot be read")])
def test_images_of_any_size_cost_little(tmp_path, side, words):
    """The second one is larger than Pillow opens at all."""
    Image.new("1", (side, side)).save(tmp_path / "hat.png")
    found = read_embedding_file(tmp_path / "hat.png", "zog")
    assert words in str(found.problems)


def test_a_small_image_that_unpacks_to_a_large_text_takes_no_memory(tmp_path):
    strip_image(b"", packed=zlib.compress(bytes(80 * 2**20), 1)).save(tmp_path / "hat.png")
    tracemalloc.start()
    try:
        assert read_embedding_file(tmp_path / "hat.png", "zog").problems
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ending", ["jxl", "png"])
def test_a_format_that_pillow_does_not_know(tmp_path, ending):
    (tmp_path / f"hat.{ending}").write_bytes(b"\xff\x0a" + bytes(100))
    (problem,) = read_embedding_file(tmp_path / f"hat.{ending}", "zog").problems
    assert "cannot be read as an image" in problem.message
    assert "PNG" in problem.hint


def test_damaged_files(tmp_path):
    whole = text_image(tmp_path / "whole.png", json.dumps(contents(sd1(1))).encode()).read_bytes()
    for end in (0, 8, 40, len(whole) // 2):
        (tmp_path / "hat.png").write_bytes(whole[:end])
        assert read_embedding_file(tmp_path / "hat.png", "zog").problems
    assert read_embedding_image(tmp_path / "whole.png")["step"] == 5
    assert "no such file" in str(read_embedding_file(tmp_path / "none.png", "zog").problems).lower()
