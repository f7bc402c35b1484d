"""docs/bundle-format.md matches the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lib_pivotal.core.bundle import (
    embedding_file,
    embedding_image,
    embedding_reader,
    header,
    layout,
    names,
    network_kind,
    values,
)
from lib_pivotal.core.bundle.metadata import BUNDLE_KEY

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "bundle-format.md").read_text(encoding="utf-8")


def test_every_embedding_suffix_is_documented():
    for suffix in layout._SUFFIXES:
        assert f"`{suffix.removesuffix('_out')}`" in TEXT or f"`{suffix}`" in TEXT, suffix


@pytest.mark.parametrize("kind", network_kind.KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_network_is_documented(kind):
    (row,) = [line for line in TEXT.splitlines() if re.match(rf"\| {re.escape(kind.name)}(,| \||, | \(on)", line)]
    for suffix in set().union(*kind.complete):
        assert suffix in row, suffix
    assert ("all webuis" in row) == (kind.read_by == network_kind.ALL_WEBUIS)


def test_all_our_file_endings_and_keys_are_documented():
    for text in (
        *names.EMBEDDING_SUFFIXES,
        *names.IMAGE_SUFFIXES,
        BUNDLE_KEY,
        embedding_file._NAME_KEY,
        layout.EMBEDDING_PREFIX,
        embedding_image._TEXT,
    ):
        assert f"`{text}" in TEXT, text


def test_documented_limits_are_those_of_the_code():
    for text in (
        f"1 to {values.MAX_VECTORS}, the tokens",
        f"| width of a vector | {values.MAX_WIDTH} |",
        f"at most {values.MAX_VALUE:.0f};",
        f"| name | {names.MAX_NAME_LENGTH} characters",
        f"| {embedding_reader.MAX_EMBEDDINGS}, together {embedding_reader._MAX_BYTES >> 20} MiB |",
        f"{header.MAX_HEADER_BYTES // 10**6} MB, as the format allows; {header._MAX_TENSORS} tensors; beyond {header._SHORT >> 20} MiB also "
        f"{header._MAX_TEXTS} metadata",
        f"{embedding_image._MAX_JSON_BYTES >> 20} MiB of JSON, {embedding_image._MAX_PIXELS // 10**6} million pixels",
        f"at most {names._MAX_NEW_NAME_LENGTH}.",
        f"{names._MAX_FILE_NAME_LENGTH} characters and {names._MAX_FILE_NAME_BYTES} bytes",
        f"from id {names.COMMON_TOKENS_BELOW} on",
    ):  # fmt: skip
        assert text in TEXT.replace("\n", " "), text


def test_the_example_has_the_keys_that_are_written():
    keys = [line.split()[0] for line in TEXT.splitlines() if re.match(r"(bundle_emb|lora_unet)\S+ +F\d\d \[", line)]
    assert layout.group_keys(keys, {}).names == {"zog_v1": {"string_to_param.*": keys[0]}}
    (layer,) = network_kind.find_network(keys[1:]).modules
    assert layer.is_whole


def test_files_that_the_document_names_exist():
    paths = re.findall(r"`(tests/[\w/]+\.py)`", TEXT)
    assert len(paths) > 5
    assert all((ROOT / path).exists() for path in paths)
