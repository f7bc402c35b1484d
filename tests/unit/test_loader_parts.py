"""Parts of bundle prompts that need no webui: hooks and their removal, files read once for each state."""

from __future__ import annotations

import os
import types

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.core.prompt_names.names import mentioned_names
from lib_pivotal.host.bundle_prompts import files as files_module
from lib_pivotal.host.bundle_prompts.files import BundleFiles
from lib_pivotal.host.bundle_prompts.hooks import Hooks, guarded


@pytest.fixture
def module():
    return types.SimpleNamespace(greet=lambda name: f"hello {name}")


def _loudly(original, name):
    return original(name).upper()


def test_hooks_stand_in_and_come_off(module):
    untouched, hooks = module.greet, Hooks()
    assert hooks.wrap(module, "greet", _loudly)
    assert module.greet("you") == "HELLO YOU"
    hooks.remove()
    assert module.greet is untouched


def test_a_hook_below_another_extensions_does_nothing_after_its_removal(module):
    hooks = Hooks()
    hooks.wrap(module, "greet", _loudly)
    ours = module.greet
    module.greet = lambda name: ours(name) + "!"
    hooks.remove()
    assert module.greet("you") == "hello you!"


def test_a_missing_function_is_reported(module):
    assert not Hooks().wrap(module, "missing", _loudly)


def test_a_failure_of_ours_is_logged_once_and_stops_nothing(caplog):
    def broken():
        raise KeyError("x")

    assert [guarded("testing a failure", broken, "otherwise") for _ in range(3)] == ["otherwise"] * 3
    assert len([record for record in caplog.records if "testing a failure" in record.message]) == 1


def _write(path, seed: int) -> None:
    values = torch.randn(2, 8, generator=torch.Generator().manual_seed(seed))
    save_file({"bundle_emb.zog.emb_params": values}, path)


def test_a_file_is_read_once_and_again_when_it_is_replaced(tmp_path, monkeypatch):
    reads = []
    original = files_module.read_embeddings
    monkeypatch.setattr(
        files_module, "read_embeddings", lambda path, **options: (reads.append(path), original(path, **options))[1]
    )
    path, known = tmp_path / "a.safetensors", BundleFiles()
    _write(path, 1)
    first = known.read(str(path))
    assert known.read(str(path)) is first and len(reads) == 1
    _write(path, 2)
    os.utime(path, ns=(1, 1))
    second = known.read(str(path))
    assert len(reads) == 2
    assert first.embeddings["zog"].hash != second.embeddings["zog"].hash


def test_missing_files_and_other_kinds_hold_nothing(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"a pickle that is never opened")
    for name in ("missing.safetensors", "a.pt"):
        assert not BundleFiles().read(str(tmp_path / name)).embeddings


@pytest.mark.parametrize(
    ("prompt", "name", "found"),
    [
        ("a zog, hat", "zog", True),
        ("a ZOG", "zog", True),
        ("zogling", "zog", False),
        (r"asuka \(eva\), x", "asuka (eva)", True),
        ("<s0><s1>", "<s1>", True),
        ("zog's hat", "zog", True),
        ("ema  yasuhara", "ema yasuhara", True),
        ("ema\nyasuhara", "Ema Yasuhara", True),
    ],
)
def test_mentions_are_words_of_their_own(prompt, name, found):
    assert mentioned_names([prompt], [name]) == ([name] if found else [])


def test_a_name_inside_a_longer_one_is_not_a_mention():
    names = ["s1", "s1@B", "S1", "other"]
    assert mentioned_names(["a s1@b, hat"], names) == ["s1@B"]
    assert mentioned_names(["a s1@B", "s1"], names) == ["s1", "s1@B", "S1"]
    assert mentioned_names([], names) == mentioned_names(["a s1"], ["", "  "]) == []
