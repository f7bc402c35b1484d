"""Headers may be as long as the format allows, and malicious ones cost little."""

from __future__ import annotations

import base64
import json
import resource
from collections.abc import Callable

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save, save_file

from lib_pivotal.core.bundle.embeddings import read_embeddings
from lib_pivotal.core.bundle.header import MalformedHeader, parse_header
from lib_pivotal.core.bundle.inspection import describe, verify
from lib_pivotal.core.bundle.tools import remove, rename
from tests.unit.bundle_samples import LORA, sd1

COVERS = json.dumps([base64.b64encode(bytes(range(256)) * 1024).decode() for _ in range(30)])
"""About 10 MB."""
METADATA = {"ssmd_cover_images": COVERS, "note": 'a "quoted" \\ é 初', "ss_base_model_version": "sd_v1"}


@pytest.fixture(scope="module")
def long_bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("long") / "x.safetensors"
    save_file({**LORA, "bundle_emb.初音 x.emb_params": sd1()}, path, METADATA)
    return path


@pytest.mark.timeout(20)
def test_names_of_a_file_with_many_cover_images(long_bundle, tmp_path):
    assert read_embeddings(long_bundle).embeddings.keys() == {"初音 x"}
    assert describe(long_bundle)["metadata"] == METADATA
    assert not [problem for problem in verify(long_bundle) if problem.is_error]
    rename(long_bundle, {"初音 x": "hat_v1"}, tmp_path / "y.safetensors")
    with safe_open(tmp_path / "y.safetensors", "pt") as file:
        assert file.metadata() == METADATA
        assert "bundle_emb.hat_v1.emb_params" in file.keys()  # noqa: SIM118


def test_both_ways_of_parsing_agree(long_bundle, monkeypatch):
    raw = save({**LORA, "bundle_emb.a.b.emb_params": sd1(), "é": torch.zeros(0)}, {"a": "\u2028x\\", "b": ""})
    length = int.from_bytes(raw[:8], "little")
    texts = [
        raw[8 : 8 + length],
        b'{"__metadata__":{}, "a" : {"dtype":"F32","shape":[],"data_offsets":[0,4]}\n}  ',
        b"{}",
        b" { } ",
    ]
    whole = [parse_header(text, 10**6) for text in texts]
    monkeypatch.setattr("lib_pivotal.core.bundle.header._SHORT", 0)
    assert [parse_header(text, 10**6) for text in texts] == whole


ENTRY = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
MALFORMED = [
    "", "{", "[]", "{]", '{"a"}', '{"a":}', '{"a":1}', '{"a":[]}', '{a:1}', "{'a':1}", f'{{"a":{ENTRY}', f'{{"a":{ENTRY},}}',
    f'{{"a":{ENTRY}}} x', f'{{"a" {ENTRY}}}', '{"a":"x"}', '{"__metadata__":{"a":{"b":"c"}}}x', '{"__metadata__":{"a":"b"',
    '{"__metadata__":{"a" "b"}}', f'{{"a\ud800":{ENTRY}}}',
    '{"a":' * 1000, "[" * 100_000, '{"a":{"shape":[' + "9" * 5000 + "]}}",
]  # fmt: skip


@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_headers_are_refused_either_way(text, is_long, monkeypatch):
    if is_long:
        monkeypatch.setattr("lib_pivotal.core.bundle.header._SHORT", 0)
    with pytest.raises(MalformedHeader) as caught:
        parse_header(text.encode("utf-8", "surrogatepass"), 4)
    assert str(caught.value).isprintable()


MILLION = 10**6
HOSTILE: dict[str, Callable[[], bytes]] = {
    "tiny tensors": lambda: b"{" + b",".join(b'"%d":{}' % number for number in range(MILLION)) + b"}",
    "tiny lists": lambda: b'{"a":[' + b"[]," * MILLION + b"[]]}",
    "lists in metadata": lambda: b'{"__metadata__":{"a":[' + b"[]," * MILLION + b"[]]}}",
    "tiny texts": lambda: b'{"__metadata__":{' + b",".join(b'"%d":""' % number for number in range(MILLION)) + b"}}",
    "numbers in metadata": lambda: (
        b'{"__metadata__":{' + b",".join(b'"%d":1' % number for number in range(MILLION)) + b"}}"
    ),
    "depth": lambda: b'{"a":' * MILLION,
    "depth in metadata": lambda: b'{"__metadata__":' * MILLION,
    "spaces": lambda: b"{" + b" " * (20 * MILLION) + b'"a":',
    "escapes": lambda: b'{"__metadata__":{"a":"' + b"\\u0041" * (3 * MILLION) + b'"}}',
    "no end": lambda: b'{"a":"' + b"x" * (20 * MILLION),
    "one name": lambda: b'{"' + b"x" * (20 * MILLION) + b'":{}}',
    "digits": lambda: b'{"a":{"shape":[' + b"9" * (20 * MILLION) + b"]}}",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_long_headers_cost_little(tmp_path, kind):
    raw = HOSTILE[kind]()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = read_embeddings(path)
    assert not found.embeddings
    # The header itself, once as bytes and once as text, and what the metadata holds.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 5 * len(raw) // 1024 + 32 * 1024


def test_a_header_beyond_the_format_says_what_to_do(tmp_path):
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write((120_000_000).to_bytes(8, "little") + b'{"__metadata__":{"ssmd_cover_images":"')
        file.truncate(130_000_000)
    (problem,) = verify(path)
    assert "120 MB" in problem.message
    assert "cover images" in problem.hint


def test_lone_surrogates_in_metadata_are_replaced_when_the_file_is_written(tmp_path):
    header = {
        "__metadata__": {"note": "a\ud800b"},
        "bundle_emb.a.emb_params": {"dtype": "F32", "shape": [1, 4], "data_offsets": [0, 16]},
    }
    raw = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(16))
    remove(path, ["a"], tmp_path / "y.safetensors")
    with safe_open(tmp_path / "y.safetensors", "pt") as file:
        assert file.metadata() == {"note": "a?b"}
