"""A file that is not safetensors is reported as what it is, with a remedy."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest
import torch
from PIL import Image
from safetensors.torch import save

from lib_pivotal.core.bundle.embeddings import read_embeddings
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.inspection import describe, verify
from lib_pivotal.core.errors import BundleError
from tests.unit.bundle_samples import LORA, sd1


def pickled(**options) -> bytes:
    buffer = io.BytesIO()
    torch.save({"string_to_param": {"*": sd1()}}, buffer, **options)
    return buffer.getvalue()


def image(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40)).save(buffer, kind)
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("hat.safetensors", save(LORA))
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("lora.safetensors"))
    return buffer.getvalue()


WHOLE = save(LORA, {"note": "x" * 1000})
KINDS = {
    "empty": (b"", "empty (0 bytes)", "Download it again."),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n", "Git LFS pointer", "git lfs pull"),
    "page": (b"<!DOCTYPE html>\n<html>", "web page", "direct link"),
    "page with a mark": (b"\xef\xbb\xbf  \n<HTML lang=en>" + b"x" * 5000, "web page", "log in"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page", "log in"),
    "JSON": (b'{"error": "not found"}' + b" " * 100, "JSON text", "Download it again."),
    "pickle": (pickled(), "pickle", "Convert it to safetensors"),
    "old pickle": (pickled(_use_new_zipfile_serialization=False), "pickle", "Convert it to safetensors"),
    "zip": (archive(), "archive", "Unpack it"),
    "tar": (tar(), "archive", "Unpack it"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), "archive", "Unpack it"),
    "png": (image("PNG"), "image", ""),
    "jpeg": (image("JPEG"), "image", ""),
    "webp": (image("WEBP"), "image", ""),
    "GGUF": (b"GGUF\3\0\0\0" + bytes(100), "GGUF", ""),
    "zeros": (bytes(5000), "only zeros", "Download it again."),
    "garbage": (bytes(range(33, 160)), "not a safetensors file", "Download it again."),
    "a few bytes": (b"abc", "only 3 bytes", "Download it again."),
    "cut in the header": (WHOLE[:500], "incomplete", "Download it again."),
    "cut in the tensors": (WHOLE[:-10], "incomplete: 10 of its", "Download it again."),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_tool_says_what_a_file_really_is(tmp_path, kind):
    contents, what, hint = KINDS[kind]
    path = tmp_path / "hat.safetensors"
    path.write_bytes(contents)
    (problem,) = verify(path)
    assert what in problem.message
    assert hint in problem.hint
    for work in (describe, read_bundle):
        with pytest.raises(BundleError) as caught:
            work(path)
        assert what in caught.value.message
        assert hint in caught.value.hint
    (problem,) = read_embeddings(path).problems
    assert what in problem.message
    assert hint in problem.hint


def test_missing_files_and_folders(tmp_path):
    assert "There is no file" in str(verify(tmp_path / "none.safetensors"))
    assert "There is no file" in str(verify(tmp_path))
