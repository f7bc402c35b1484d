"""The settings of bundle prompts: their keys are in users' files, and their labels are read one by one."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from lib_pivotal.host.bundle_prompts.settings import add_settings, read_settings

_KEYS = {
    "pivotal_loader": "is_on",
    "pivotal_loader_takes_over": "replaces_built_in",
    "pivotal_loader_bundle_wins": "bundle_wins",
    "pivotal_loader_pairs": "with_paired",
}


class _Options:
    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.labels: dict[str, str] = {}

    def add_option(self, key: str, label: str) -> None:
        self.labels[key] = label


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> _Options:
    made = _Options()
    modules = types.ModuleType("modules")
    modules.shared = types.SimpleNamespace(opts=made, OptionInfo=lambda _default, label, section: label)
    monkeypatch.setitem(sys.modules, "modules", modules)
    return made


def test_each_label_can_be_understood_alone(options: _Options) -> None:
    """The search on the Settings page shows single settings."""
    add_settings()
    assert set(options.labels) == set(_KEYS)
    for label in options.labels.values():
        assert label.startswith("Bundled embeddings: ")
        assert "…" not in label


@pytest.mark.parametrize("key", _KEYS)
def test_every_key_changes_its_own_setting(options: _Options, key: str) -> None:
    before = read_settings()
    assert (before.is_on, before.replaces_built_in, before.bundle_wins, before.with_paired) == (
        True,
        True,
        False,
        False,
    )
    options.data[key] = not getattr(before, _KEYS[key])
    after = read_settings()
    assert [name for name in _KEYS.values() if getattr(after, name) != getattr(before, name)] == [_KEYS[key]]
