"""The reader: files of every known writer, and malicious files."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import save, save_file

from lib_pivotal.core.bundle.embedding_file import read_embedding_file
from lib_pivotal.core.bundle.embeddings import (
    paired_files,
    parse_embeddings,
    read_embeddings,
)
from lib_pivotal.core.bundle.file import read_bundle
from tests.unit.bundle_samples import LORA, WRITERS, flat, sd1, sdxl


def with_prefix(tensors):
    return {f"bundle_emb.{key}": value.contiguous() for key, value in tensors.items()}


def read(tmp_path, tensors, metadata=None):
    path = tmp_path / "x.safetensors"
    save_file({**LORA, **tensors}, path, metadata or {})
    return read_embeddings(path)


def write_raw(path, header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def read_one(tmp_path, value, key="bundle_emb.zog.emb_params"):
    return read(tmp_path, {key: value})


def reason(found):
    assert not found.embeddings
    assert found.problems
    return str(found.problems[0])


# -- writers


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writers_file(tmp_path, writer):
    tensors, metadata, expected, unused = WRITERS[writer]
    found = read(tmp_path, with_prefix(tensors), metadata)
    assert set(found.embeddings) == set(expected)
    for name, encoders in expected.items():
        item = found.embeddings[name]
        assert set(item.encoders) == set(encoders)
        for encoder, vectors in encoders.items():
            assert torch.equal(item.encoders[encoder], vectors)
            assert item.encoders[encoder].dtype == torch.float32
        assert item.vector_count == len(next(iter(encoders.values())))
    assert len(found.unused) == unused
    assert bool(found.problems) == bool(unused)
    assert found.keys == with_prefix(tensors).keys(), "the LoRA's keys are not the embeddings' and stay usable"
    assert read_bundle(tmp_path / "x.safetensors").lora.keys() == LORA.keys()


def test_cloneofsimo_marks_tokens_in_the_metadata(tmp_path):
    found = read(tmp_path, {"<s1>": sd1(1)[0], "unet:0:up": torch.zeros(2, 2)}, {"<s1>": "<embed>"})
    assert torch.equal(found.embeddings["<s1>"].encoders["clip_l"], sd1(1))
    assert found.keys == {"<s1>"}
    assert "layers have no names" in str(found.problems[0])


@pytest.mark.parametrize("name", ["B", "zog"], ids=["sorted before", "sorted after"])
def test_a_name_marked_in_the_metadata_and_in_a_key_is_taken_from_the_key(tmp_path, name):
    tensors = {name: sd1(1)[0], f"bundle_emb.{name}.emb_params": sd1(2)}
    found = read(tmp_path, tensors, {name: "<embed>"})
    assert torch.equal(found.embeddings[name].encoders["clip_l"], sd1(2))
    assert found.keys == tensors.keys()
    assert found.unused == {name}
    assert "same encoder" in str(found.problems)


def test_more_warnings_than_are_listed_are_no_error(tmp_path):
    tensors = {f"zog {index}.{end}": sd1(1) for index in range(40) for end in ("clip_l", "clip_l_out")}
    found = read(tmp_path, with_prefix(tensors))
    assert len(found.embeddings) == 40
    assert "more problems" in found.problems[-1].message
    assert not any(problem.is_error for problem in found.problems)
    found = read(tmp_path, with_prefix({**tensors, "zzz.clip_l": sd1(1) * torch.nan}))
    assert found.problems[-1].is_error


def test_mix_of_show_is_refused_with_a_message(tmp_path):
    found = read(tmp_path, {"new_concept_embedding.zog": sd1(16)})
    assert "Mix-of-Show" in reason(found)


def test_rows_of_a_diffusers_file_next_to_the_lora_are_read(tmp_path):
    save_file(LORA, tmp_path / "y2k.safetensors")
    save_file(sdxl(2), tmp_path / "y2k_emb.safetensors")
    plain = read_embeddings(tmp_path / "y2k.safetensors")
    found = read_embeddings(tmp_path / "y2k.safetensors", with_paired=True)
    assert not plain.embeddings
    assert set(found.embeddings) == {"y2k", "<s0>", "<s1>"}
    assert torch.equal(found.embeddings["<s1>"].encoders["clip_g"], sdxl(2)["clip_g"][1:])


def test_onetrainer_folder_next_to_the_lora(tmp_path):
    save_file(LORA, tmp_path / "a.safetensors")
    folder = tmp_path / "a_embeddings"
    folder.mkdir()
    save_file({"clip_l": sd1()}, folder / "zog.safetensors")
    assert paired_files(tmp_path / "a.safetensors") == [folder / "zog.safetensors"]
    assert set(read_embeddings(tmp_path / "a.safetensors", with_paired=True).embeddings) == {"zog"}


def test_a_file_of_one_embedding_takes_its_name_from_outside(tmp_path):
    for key in ("emb_params", "string_to_param.*", "string_to_param:*", "clip_l", "<zog>"):
        save_file({key: sd1()}, tmp_path / "e.safetensors")
        found = read_embedding_file(tmp_path / "e.safetensors", "zog")
        assert torch.equal(found.embeddings["zog"].encoders["clip_l"], sd1()), key
    save_file(LORA, tmp_path / "e.safetensors")
    assert not read_embedding_file(tmp_path / "e.safetensors", "zog").embeddings


def test_hash_depends_on_values_only(tmp_path):
    a = read(tmp_path, with_prefix({"zog.emb_params": sd1()})).embeddings["zog"]
    b = read(tmp_path, with_prefix({"other.clip_l": sd1()})).embeddings["other"]
    assert a.hash == b.hash
    assert len(a.hash) == 12
    assert a.hash != read(tmp_path, with_prefix({"zog.emb_params": sd1() + 1e-3})).embeddings["zog"].hash


# -- values


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_fraction_becomes_fp32(tmp_path, dtype):
    item = read_one(tmp_path, sd1().to(dtype)).embeddings["zog"]
    assert torch.equal(item.encoders["clip_l"], sd1().to(dtype).float())


@pytest.mark.parametrize("count", [1, 75])
def test_as_many_vectors_as_fit(tmp_path, count):
    assert read_one(tmp_path, sd1(count)).embeddings["zog"].vector_count == count


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (torch.tensor(1.0), "dimensions"),
        (torch.zeros(1, 4, 768), "dimensions"),
        (torch.zeros(0, 768), "0 vectors"),
        (torch.zeros(76, 768), "76 vectors"),
        (torch.zeros(3, 2816), "2816"),
        (torch.zeros(3, 0), "width 0"),
        (torch.zeros(3, 768, dtype=torch.int8), "int8"),
        (torch.zeros(3, 768, dtype=torch.bool), "bool"),
        (torch.full((3, 768), float("nan")), "NaN or infinite"),
        (torch.full((3, 768), float("inf")), "NaN or infinite"),
        (torch.full((3, 768), 1e30), "1e+30"),
    ],
)
def test_vectors_that_no_prompt_can_use(tmp_path, value, word):
    assert word in reason(read_one(tmp_path, value))


def test_encoders_must_agree(tmp_path):
    found = read(tmp_path, {"bundle_emb.a.clip_l": sd1(2), "bundle_emb.a.clip_g": sdxl(4)["clip_g"]})
    assert "(2, 4)" in reason(found)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "C64", "X" * 1000])
def test_number_types_that_some_torch_versions_lack_are_a_problem_not_an_error(tmp_path, dtype):
    header = {"bundle_emb.a.emb_params": {"dtype": dtype, "shape": [1, 768], "data_offsets": [0, 768]}}
    found = read_embeddings(write_raw(tmp_path / "x.safetensors", header, b"\x38" * 768))
    if found.embeddings:
        # What the byte stands for in each.
        value = {"F8_E4M3": 1.0, "F8_E5M2": 0.5, "F8_E8M0": 2.0**-71}[dtype]
        assert torch.equal(found.embeddings["a"].encoders["clip_l"], torch.full((1, 768), value))
    else:
        assert dtype not in ("F8_E4M3", "F8_E5M2")
        assert len(reason(found)) < 300


def test_an_old_torch_without_a_number_type(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_file(with_prefix({"a.emb_params": sd1().to(torch.float8_e4m3fn), "b.emb_params": sd1()}), path)
    monkeypatch.delattr(torch, "float8_e4m3fn")
    found = read_embeddings(path)
    assert set(found.embeddings) == {"b"}
    assert "F8_E4M3" in str(found.problems)


# -- names


@pytest.mark.parametrize(
    "name",
    [
        ",",
        "a",
        "masterpiece",
        "<|endoftext|>",
        "<script>alert(1)</script>",
        "../../etc/passwd",
        "C:\\x",
        "a/b",
        '"',
        "é",
        "名前",
    ],
)
def test_unusual_names_that_can_be_typed_are_left_to_the_loader(tmp_path, name):
    found = read(tmp_path, with_prefix({f"{name}.emb_params": sd1()}))
    assert list(found.embeddings) == [name]


@pytest.mark.parametrize("name", ["", " ", "\n", "a\nb", "a\x00b", "a\u202eb", "a\u200bb", "\u2028", "x" * 101])
def test_names_that_nobody_can_type_are_refused(tmp_path, name):
    found = read(tmp_path, with_prefix({f"{name}.emb_params": sd1(), "good.emb_params": sd1()}))
    assert list(found.embeddings) == ["good"], "the others stay"
    assert len(found.problems) == 1
    assert str(found.problems[0]).isprintable()


@pytest.mark.parametrize(
    "key", ["bundle_emb", "bundle_emb.", "bundle_emb.x", "bundle_emb.x.y", "bundle_emb.string_to_param"]
)
def test_keys_without_name_or_end(tmp_path, key):
    found = read(tmp_path, {key: sd1()})
    assert not found.embeddings
    assert len(found.problems) == 1
    assert found.unused == {key}


def test_one_name_in_two_spellings_is_taken_once(tmp_path):
    found = read(tmp_path, with_prefix({"Zog.emb_params": sd1(), "zog.emb_params": sd1(1)}))
    assert list(found.embeddings) == ["Zog"]
    assert "same name" in str(found.problems[0])


@pytest.mark.timeout(20)
def test_ten_thousand_names(tmp_path):
    path = tmp_path / "x.safetensors"
    header = {
        f"bundle_emb.n{i}.emb_params": {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}
        for i in range(10_000)
    }
    found = read_embeddings(write_raw(path, header, bytes(40_000)))
    assert len(found.embeddings) == 256
    assert len(found.problems) < 50


@pytest.mark.timeout(20)
def test_name_of_five_megabytes(tmp_path):
    header = {f"bundle_emb.{'a.' * 2_500_000}emb_params": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    found = read_embeddings(write_raw(tmp_path / "x.safetensors", header, bytes(4)))
    assert len(reason(found)) < 400


def test_embeddings_beyond_the_size_limit_are_left_out(tmp_path):
    big = {f"bundle_emb.n{i}.emb_params": {"dtype": "F32", "shape": [75, 2048], "data_offsets": [614400 * i, 614400 * (i + 1)]}
           for i in range(120)}  # fmt: skip
    path = write_raw(tmp_path / "x.safetensors", big)
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + 120 * 614400)
    found = read_embeddings(path)
    assert 100 < len(found.embeddings) < 120
    assert "MiB" in str(found.problems[0])


# -- headers


ENTRY = {"dtype": "F32", "shape": [1, 4], "data_offsets": [0, 16]}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        (b"", b"", None),
        (b"garbage!", b"", None),
        (b"{}", b"", 2**60),
        (b"{}", b"", 2**64 - 1),
        (b"{}", b"", 3),
        (b"[]", b"", None),
        (b'{"a":1}', b"", None),
        (b"[" * 100_000, b"", None),
        (b'{"bundle_emb.a.emb_params":{"dtype":"F32","shape":[' + b"9" * 1_000_000 + b'],"data_offsets":[0,4]}}', b"", None),
        ({"bundle_emb.a.emb_params": {**ENTRY, "data_offsets": [0, 2**60]}}, b"", None),
        ({"bundle_emb.a.emb_params": {**ENTRY, "data_offsets": [-16, 0]}}, bytes(16), None),
        ({"bundle_emb.a.emb_params": {**ENTRY, "data_offsets": [16, 0]}}, bytes(16), None),
        ({"bundle_emb.a.emb_params": {**ENTRY, "data_offsets": [0, 16, 32]}}, bytes(16), None),
        ({"bundle_emb.a.emb_params": {**ENTRY, "shape": [True, 4]}}, bytes(16), None),
        ({"bundle_emb.a.emb_params": {**ENTRY, "shape": [1.0, 4]}}, bytes(16), None),
        ({"bundle_emb.a.emb_params": {**ENTRY, "shape": [1] * 100}}, bytes(16), None),
        ({"bundle_emb.a.emb_params": {**ENTRY, "shape": {}}}, bytes(16), None),
        ({"bundle_emb.a.emb_params": {**ENTRY, "dtype": None}}, bytes(16), None),
        ({"bundle_emb.a.emb_params": ENTRY, "bundle_emb.b.emb_params": ENTRY}, bytes(16), None),
        ({"bundle_emb.a.emb_params": {**ENTRY, "shape": [75, 2048]}}, bytes(16), None),
        ({"bundle_emb.\ud800.emb_params": ENTRY}, bytes(16), None),
        ({f"k{i}": {**ENTRY, "data_offsets": [0, 0]} for i in range(20_001)}, b"", None),
    ],
)  # fmt: skip
def test_false_headers_give_one_problem(tmp_path, header, data, length):
    found = read_embeddings(write_raw(tmp_path / "x.safetensors", header, data, length))
    assert len(reason(found)) < 400


@pytest.mark.timeout(20)
def test_a_header_beyond_the_limit_is_not_read(tmp_path):
    path = write_raw(tmp_path / "x.safetensors", b"{", length=2**40)
    with path.open("ab") as file:
        file.truncate(2**41)
    assert "header" in reason(read_embeddings(path))


def test_a_download_cut_off_anywhere_is_a_problem(tmp_path):
    whole = save({**LORA, **with_prefix({"zog.emb_params": torch.ones(1, 4)})})
    path = tmp_path / "x.safetensors"
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        assert "cannot be read" in reason(read_embeddings(path))


def test_missing_file_and_folder(tmp_path):
    assert "no such file" in reason(read_embeddings(tmp_path / "none.safetensors"))
    assert "no such file" in reason(read_embeddings(tmp_path))


def test_metadata_of_any_kind_does_no_harm(tmp_path):
    header = {"__metadata__": {"bundle_emb.a.emb_params": 5, "x": None}, "bundle_emb.a.emb_params": ENTRY}
    assert read_embeddings(write_raw(tmp_path / "x.safetensors", header, bytes(16))).embeddings
    header["__metadata__"] = [1]
    assert read_embeddings(write_raw(tmp_path / "x.safetensors", header, bytes(16))).embeddings


def test_contents_that_a_host_has_read(tmp_path):
    found = parse_embeddings({"bundle_emb.a.clip_l": sd1(), "bundle_emb.b.clip_l": "text", "c": None}, {})
    assert list(found.embeddings) == ["a"]
    assert "not a tensor" in str(found.problems[0])


def test_result_has_memory_of_its_own(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(with_prefix({"a.string_to_param.*": flat()}), path)
    item = read_embeddings(path).embeddings["a"]
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(item.encoders["clip_g"], sdxl()["clip_g"])
