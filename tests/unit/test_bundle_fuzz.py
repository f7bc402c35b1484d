"""Damaged and made-up bundle files: the reader never raises or hangs, and returns only valid embeddings.

With ``PIVOTAL_FULL_FUZZ=1`` in the environment ten times as many damaged files are read.
"""

from __future__ import annotations

import json
import os
import random
import resource
import tracemalloc
import unicodedata

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from lib_pivotal.core.bundle.embedding_reader import MAX_EMBEDDINGS
from lib_pivotal.core.bundle.embeddings import parse_embeddings, read_embeddings
from lib_pivotal.core.bundle.names import MAX_NAME_LENGTH
from lib_pivotal.core.bundle.tools_add import pack
from lib_pivotal.core.bundle.values import MAX_VALUE, MAX_VECTORS, MAX_WIDTH
from lib_pivotal.core.errors import PivotalError

FILES = 10_000 if os.environ.get("PIVOTAL_FULL_FUZZ") == "1" else 1_000
ENDS = ["string_to_param.*", "string_to_param:*", "emb_params", "clip_l", "clip_g", "clip_l_out", "t5", "odd", "", "."]
DTYPES = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E8M0", "F4", "I8", "U8", "BOOL", "I64", "C64", "", 7, None]
SIDES = [0, 1, 2, 3, 75, 76, 768, 1024, 1280, 2048, 2816, 2**31, 2**62, 2**70, -1, 1.5, True, None, "3", [1]]
LORA_KEY = "lora_unet_a.alpha"


def write_new(path, contents):
    """Write a file after removing the old one: overwriting makes some file systems flush to the disk each time."""
    path.unlink(missing_ok=True)
    path.write_bytes(contents)


def check(found, keys):
    """Check what must be true of every result, whatever was in the file."""
    assert len(found.embeddings) <= MAX_EMBEDDINGS
    assert found.unused <= found.keys <= set(keys)
    for name, item in found.embeddings.items():
        assert 1 <= len(name) <= MAX_NAME_LENGTH
        assert not any(unicodedata.category(letter) == "Cc" for letter in name)
        assert item.encoders
        for encoder, vectors in item.encoders.items():
            assert encoder in ("clip_l", "clip_g")
            assert vectors.dtype == torch.float32
            assert 1 <= vectors.shape[0] == item.vector_count <= MAX_VECTORS
            assert 1 <= vectors.shape[1] <= MAX_WIDTH
            assert bool(torch.isfinite(vectors).all())
            assert float(vectors.abs().max()) <= MAX_VALUE
    for problem in found.problems:
        assert str(problem).replace("\u3000", " ").isprintable()
        assert len(str(problem)) < 2000
    assert LORA_KEY not in found.keys, "the LoRA must never be read as an embedding"


def seeds():
    """Small files as several programs write them: the header as a dictionary, and the data."""
    few = torch.ones(2, 8) * 0.1
    tensors = [
        {"bundle_emb.zog.string_to_param.*": few},
        {"bundle_emb.v1.0.clip_l": few, "bundle_emb.v1.0.clip_g": few, "bundle_emb.v1.0.t5": few},
        {"bundle_emb.a.emb_params": few[0], "bundle_emb.b.clip_l": few.half(), "bundle_emb.b.clip_l_out": few},
        {"<s1>": few[0]},
    ]
    for item in tensors:
        copies = {key: value.clone() for key, value in item.items()}
        whole = save({LORA_KEY: torch.tensor(1.0), **copies}, {"<s1>": "<embed>"})
        length = int.from_bytes(whole[:8], "little")
        yield json.loads(whole[8 : 8 + length]), whole[8 + length :]


def mutate(rng, header, data):
    """A copy of the given file, damaged in one place."""
    header = json.loads(json.dumps(header))
    kind = rng.randrange(6)
    keys = [key for key in header if key not in ("__metadata__", LORA_KEY)]
    key = rng.choice(keys)
    if kind == 0:
        place = rng.choice(("dtype", "shape", "data_offsets"))
        if place == "dtype":
            header[key][place] = rng.choice(DTYPES)
        else:
            header[key][place] = [rng.choice(SIDES) for _ in range(rng.randrange(4))]
    elif kind == 1:
        letters = "".join(chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x300), rng.randrange(0xD800))))
                          for _ in range(rng.randrange(8)))  # fmt: skip
        header[f"bundle_emb.{letters}.{rng.choice(ENDS)}"] = header.pop(key)
    elif kind == 2:
        begin, end = header[key]["data_offsets"]
        data = data[:begin] + bytes(rng.randrange(256) for _ in range(end - begin)) + data[end:]
    raw = bytearray(json.dumps(header).encode())
    whole = bytearray(len(raw).to_bytes(8, "little") + raw + data)
    if kind == 3:
        for _ in range(rng.randrange(1, 6)):
            whole[rng.randrange(len(whole))] = rng.randrange(256)
    elif kind == 4:
        del whole[rng.randrange(len(whole)) :]
    elif kind == 5:
        at = rng.randrange(len(whole))
        whole[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 20)))
    return whole


@pytest.mark.timeout(120)
def test_damaged_files_give_problems_and_no_error(tmp_path):
    rng = random.Random(20261124)
    originals = list(seeds())
    path = tmp_path / "x.safetensors"
    used, reported = 0, 0
    for _ in range(FILES):
        write_new(path, mutate(rng, *rng.choice(originals)))
        found = read_embeddings(path)
        check(found, found.keys)
        used += bool(found.embeddings)
        reported += bool(found.problems)
    # The damage varies: some files stay usable, most do not.
    assert used > FILES // 20
    assert reported > FILES // 2


def test_damaged_files_take_bounded_memory(tmp_path):
    rng = random.Random(7)
    originals = list(seeds())
    path = tmp_path / "x.safetensors"
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        for _ in range(FILES // 4):
            write_new(path, mutate(rng, *rng.choice(originals)))
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            read_embeddings(path)
            _, peak = tracemalloc.get_traced_memory()
            # The files have a few hundred bytes; some claim to have 2**70.
            assert peak - before < 2**20
    finally:
        tracemalloc.stop()
    # tracemalloc does not see the memory of tensors.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 64 * 1024


def test_tools_keep_the_lora_byte_for_byte_when_embeddings_are_damaged(tmp_path):
    rng = random.Random(11)
    originals = list(seeds())
    path, packed = tmp_path / "x.safetensors", tmp_path / "e.safetensors"
    packed.write_bytes(save({"emb_params": torch.ones(1, 8)}))
    kept = 0
    for number in range(FILES // 4):
        write_new(path, mutate(rng, *rng.choice(originals)))
        out = tmp_path / f"out{number}.safetensors"
        try:
            pack(path, {"another": packed}, out)
        except PivotalError:
            assert not out.exists()
            continue
        before, after = lora_bytes(path), lora_bytes(out)
        assert after == before
        kept += before is not None
    assert kept > FILES // 40


def lora_bytes(path):
    """Type, shape and bytes of the LoRA's tensor in a file, or None if its key was damaged."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    entry = json.loads(whole[8 : 8 + length]).get(LORA_KEY)
    if entry is None:
        return None
    begin, end = entry["data_offsets"]
    return entry["dtype"], entry["shape"], whole[8 + length + begin : 8 + length + end]


VALUES = st.sampled_from([0.0, 0.1, -1.0, 1e4, 1.1e4, 1e30, float("inf"), float("nan")])
NAMES = st.one_of(st.text(max_size=6), st.sampled_from(["a", "a.b", ",", "<|endoftext|>", "../x", "x" * 101]))
TENSORS = st.builds(
    lambda shape, value, dtype: torch.full(shape, value).to(dtype),
    st.lists(st.sampled_from([0, 1, 2, 75, 76, 768]), max_size=3).filter(
        lambda sides: len(sides) < 3 or 768 not in sides
    ),
    VALUES,
    st.sampled_from(
        [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64]
    ),
)


@settings(max_examples=100, deadline=5000)
@given(st.dictionaries(st.tuples(NAMES, st.sampled_from(ENDS)), st.one_of(TENSORS, st.none()), max_size=5))
def test_any_contents(contents):
    tensors = {f"bundle_emb.{name}.{end}": value for (name, end), value in contents.items()}
    check(parse_embeddings({LORA_KEY: torch.tensor(1.0), **tensors}, {}), tensors)


@settings(max_examples=100, deadline=5000)
@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    for contents in (raw, len(raw).to_bytes(8, "little") + raw, (2).to_bytes(8, "little") + b"{}" + raw):
        write_new(path, contents)
        check(read_embeddings(path), ())


@pytest.mark.parametrize("seed", range(4))
def test_undamaged_files_are_read_whole(tmp_path, seed):
    header, data = list(seeds())[seed]
    raw = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    assert read_embeddings(tmp_path / "x.safetensors").embeddings
