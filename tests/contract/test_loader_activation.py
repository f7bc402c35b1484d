"""Activating LoRAs in the fake webui: comments, hashes, when names are looked up again, what encodings depend on."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.host.bundle_prompts import activation, active_names, name_tables
from lib_pivotal.host.bundle_prompts.activation import add_activation_hooks, options_by_label
from lib_pivotal.host.bundle_prompts.active_names import ActiveNames
from lib_pivotal.host.bundle_prompts.encoders import Encoders
from lib_pivotal.host.bundle_prompts.hooks import Hooks
from lib_pivotal.host.bundle_prompts.negative_loras import NegativeLoras
from lib_pivotal.host.bundle_prompts.settings import read_settings
from tests.contract.fake_webui import FakeWebui


def _tokenize(texts: list[str]) -> list[list[int]]:
    return [[40_000 + sum(map(ord, word)) for word in text.lower().split()] for text in texts]


class _Session:
    """A webui with our hook on the activation of LoRAs."""

    def __init__(self, webui: FakeWebui, folder: Path) -> None:
        self.webui, self.folder, self.asked = webui, folder, 0
        self.networks, self.options = webui.modules["networks"], webui.modules["shared"].opts.data
        self.networks.available_networks, self.networks.available_network_aliases = {}, {}
        self.networks.forbidden_network_aliases = {}
        self.hijack = webui.modules["sd_hijack"].model_hijack
        self.encoders = Encoders({"clip_l": 8}, lambda: [_tokenize])
        self.installed: dict[tuple[int, ...], Any] = {}
        self.state = ActiveNames(self._find, lambda: self.encoders, read_settings)
        self.hooks = Hooks()
        self.extra_networks = webui.modules["extra_networks"]
        self.failing: set[str] = set()
        webui.behave("extra_networks", "activate", self._activate)
        add_activation_hooks(self.hooks, self.state, NegativeLoras())

    def _find(self, run: Any) -> tuple[Any, Any]:
        self.asked += 1
        found = self.installed.get(tuple(run))
        return (found, len(run)) if found is not None else (None, None)

    def bundle(self, label: str, *names: str, width: int = 8) -> None:
        path = self.folder / f"{label}.safetensors"
        tensors = {f"bundle_emb.{name}.emb_params": torch.full((1, width), float(len(label))) for name in names}
        save_file({**tensors, "x": torch.zeros(1)}, path)
        self.networks.available_networks[label] = types.SimpleNamespace(filename=str(path))

    def _activate(self, _task: Any, data: Any) -> None:
        self.networks.loaded_networks[:] = [
            types.SimpleNamespace(
                name=label, mentioned_name=label, network_on_disk=self.networks.available_networks[label],
                te_multiplier=float(tag.positional[1]), unet_multiplier=1.0, dyn_dim=None,
            )
            for tag in data.get("lora", ())
            for label in [tag.positional[0]]
            if label in self.networks.available_networks and label not in self.failing
        ]  # fmt: skip

    def generate(self, prompt: str, *tags: str, negative: str = "", second: Any = None) -> Any:
        """Comments and notes of a generation; ``second`` is the prompt and the tags of a second pass."""
        task = types.SimpleNamespace(prompts=[prompt], negative_prompts=[negative], comments=[])
        task.extra_generation_params = {}
        task.comment = task.comments.append
        task.extra_network_data = _data(*tags)
        if second is not None:
            task.hr_prompts, task.hr_negative_prompts = [second[0]], [""]
            task.hr_extra_network_data = _data(*second[1:])
        self.extra_networks.activate(task, task.extra_network_data)
        if second is not None:
            self.extra_networks.activate(task, task.hr_extra_network_data)
        return task


def _data(*tags: str) -> dict[str, list[Any]]:
    parts = [tag.split(":") for tag in tags]
    return {
        "lora": [
            types.SimpleNamespace(items=items, positional=[item for item in items if "=" not in item])
            for items in parts
        ]
    }


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> _Session:
    made = _Session(FakeWebui(monkeypatch), tmp_path)
    made.bundle("A", "zog", "s1")
    made.bundle("BB", "s1")
    return made


def test_a_comment_names_a_missing_lora(session: _Session) -> None:
    assert session.generate("a zog", "A:1").comments == []
    (comment,) = session.generate("a zog").comments
    assert "zog is in the LoRA A" in comment


@pytest.mark.parametrize("tag", ["A:1:ti=off", "A:1:ti=zog/hero", "A:1:ti=pre_"])
def test_a_lora_in_the_prompt_is_not_called_missing(session: _Session, tag: str) -> None:
    session.generate("a zog", "A:1")
    assert session.generate("a zog", tag).comments == []


def test_a_lora_of_another_family_is_not_called_missing(session: _Session) -> None:
    session.generate("a zog", "A:1")
    session.encoders = Encoders({"clip_l": 16}, lambda: [_tokenize])
    (comment,) = session.generate("a zog", "A:1").comments
    assert "not used" in comment


def test_comments_are_in_the_log_for_users_of_the_webuis_api(
    session: _Session, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pivotal.prompts")
    assert session.generate("a zog").comments == caplog.messages


def test_there_are_no_comments_while_bundled_embeddings_are_off(session: _Session) -> None:
    session.generate("a zog", "A:1")
    session.options["pivotal_loader"] = False
    assert session.generate("a zog").comments == []


def test_comments_of_each_pass_are_about_its_own_prompt(session: _Session) -> None:
    """Also where the second is activated early, as with --medvram."""
    session.generate("a zog", "A:1")
    assert session.generate("a zog", "A:1", second=["a hat"]).comments == []
    (comment,) = session.generate("a hat", second=["a zog"]).comments
    assert "zog is in the LoRA A" in comment


def test_a_qualified_name_gives_one_comment(session: _Session) -> None:
    session.generate("s1", "A:1", "BB:1")
    assert len(session.generate("a s1@A hat").comments) == 1
    assert session.generate("a s1@BB hat", "A:1", "BB:1").comments == []
    (comment,) = session.generate("a s1 hat", "A:1", "BB:1").comments
    assert "A is used" in comment


def test_known_names_that_are_not_in_the_prompt_cost_nothing(session: _Session) -> None:
    for number in range(8):
        session.bundle(f"many{number}", *(f"name{number}x{index}" for index in range(40)))
        session.generate("hat", f"many{number}:1")
    session.asked = 0
    session.generate("a name3x7 on a hill")
    assert 1 <= session.asked <= 4


def test_hashes_of_both_passes_are_noted_where_the_webui_notes_none(
    session: _Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activation, "records_embedding_hashes", lambda: False)
    found = session.generate("a zog", "A:1", second=["s1@BB and zog", "A:1", "BB:1"]).extra_generation_params
    names = [part.split(": ")[0] for part in found["TI hashes"].split(", ")]
    assert names == ["zog", "s1@BB"]
    assert "TI hashes" not in session.generate("a hat", "A:1").extra_generation_params


def test_a_file_that_the_webui_could_not_load_is_named(session: _Session) -> None:
    session.networks.available_network_aliases["A"] = session.networks.available_networks["A"]
    session.failing.add("A")
    (comment,) = session.generate("s1", "A:1", "BB:1", "missing:1").comments
    assert "A.safetensors" in comment
    session.options["pivotal_loader"] = False
    assert session.generate("s1", "A:1", "BB:1").comments == []


def test_only_tags_of_loras_have_name_options() -> None:
    tag = types.SimpleNamespace(items=["A", "1", "ti=off"], positional=["A", "1"])
    assert not options_by_label({"hypernet": [tag]})
    assert options_by_label({"lyco": [tag]})["A"].is_off


def test_encodings_depend_on_the_weight_of_a_lora(session: _Session) -> None:
    keys = []
    for tag in ("A:1", "A:0.2", "A:1"):
        session.generate("zog", tag)
        keys.append(session.state.cond_key())
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize("setting", ["pivotal_loader", "pivotal_loader_takes_over"])
def test_encodings_depend_on_who_handles_bundles(session: _Session, setting: str) -> None:
    session.generate("zog", "A:1:ti=off")
    before = session.state.cond_key()
    session.options[setting] = False
    assert session.state.cond_key() != before


def _failing(*_arguments: Any, **_options: Any) -> Any:
    raise KeyError("a failure")


@pytest.mark.parametrize(
    "place",
    [("files", "read"), ("name_tables", "build_table"), ("active_names", "active_loras")],
    ids=lambda place: place[1],
)
def test_a_failure_of_ours_leaves_no_earlier_names_and_stops_nothing(
    session: _Session, monkeypatch: pytest.MonkeyPatch, place: tuple[str, str]
) -> None:
    session.generate("zog", "A:1")
    assert session.state.current().entries
    with monkeypatch.context() as patched:
        owners = {"files": session.state.files, "name_tables": name_tables, "active_names": active_names}
        patched.setattr(owners[place[0]], place[1], _failing)
        session.generate("zog", "BB:1")
        if place[1] != "active_loras":
            assert session.state.current().entries == ()
    session.generate("s1", "BB:1")
    assert [entry.name for entry in session.state.current().entries] == ["s1@BB", "s1"]


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of bundles of every table that is built."""
    built: list[int] = []
    original = name_tables.build_table

    def build_table(bundles: Any, **options: Any) -> Any:
        built.append(len(bundles))
        return original(bundles, **options)

    monkeypatch.setattr(name_tables, "build_table", build_table)
    return built


def test_the_table_is_kept_while_nothing_changes(session: _Session, builds: list[int]) -> None:
    for _ in range(3):
        session.generate("a zog", "A:1", "BB:0.5")
        session.state.cond_key()
        assert session.state.current().entries
    assert builds == [2]
    session.generate("a zog")
    session.generate("a zog")
    assert builds == [2]  # there is nothing to build


def _replace(session: _Session) -> None:
    session.bundle("A", "zog", "s1", "new")


def _change_setting(session: _Session) -> None:
    session.options["pivotal_loader_bundle_wins"] = True


def _change_encoders(session: _Session) -> None:
    session.encoders = Encoders({"clip_l": 8}, lambda: [_tokenize])


def _install(session: _Session) -> None:
    session.installed[tuple(_tokenize(["zog"])[0])] = types.SimpleNamespace(name="zog", filename="zog.pt")


def _remove_installed(session: _Session) -> None:
    session.installed.clear()


def _nothing(_session: _Session) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "tags"),
    [
        (_replace, ("A:1", "BB:1")),
        (_change_setting, ("A:1", "BB:1")),
        (_change_encoders, ("A:1", "BB:1")),
        (_install, ("A:1", "BB:1")),
        (_nothing, ("BB:1", "A:1")),
        (_nothing, ("A:1", "BB:1:ti=off")),
        (_nothing, ("A:1:ti=x_", "BB:1")),
        (_nothing, ("A:1",)),
    ],
)
def test_the_table_is_built_again_when_something_changes(
    session: _Session, builds: list[int], change: Any, tags: tuple[str, ...]
) -> None:
    session.generate("a zog", "A:1", "BB:1")
    change(session)
    session.generate("a zog", *tags)
    assert builds == [2, len(tags)]
    kept = session.state.current()
    assert session.state.sync() is kept


def test_the_table_follows_installed_embeddings_that_come_and_go(session: _Session, builds: list[int]) -> None:
    def owners() -> list[str]:
        session.generate("a zog", "A:1")
        return [entry.name for entry in session.state.current().entries]

    assert "zog" in owners()
    _install(session)
    assert "zog" not in owners() and "zog@A" in owners()
    _remove_installed(session)
    assert "zog" in owners()
    assert len(builds) == 3


def test_the_table_follows_files_next_to_a_lora(session: _Session, builds: list[int]) -> None:
    session.options["pivotal_loader_pairs"] = True
    session.generate("a zog", "A:1")
    paired = session.folder / "A_emb.safetensors"
    save_file({"clip_l": torch.ones(2, 8)}, paired)
    session.generate("a zog", "A:1")
    assert "<s1>" in [entry.name for entry in session.state.current().entries]
    paired.unlink()
    session.generate("a zog", "A:1")
    assert "<s1>" not in [entry.name for entry in session.state.current().entries]
    assert len(builds) == 3


def test_a_table_that_could_not_be_built_is_tried_again_for_the_next_prompt(
    session: _Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not for every token of this one."""
    tried: list[int] = []

    def failing(*_arguments: Any, **_options: Any) -> Any:
        tried.append(1)
        raise KeyError

    with monkeypatch.context() as patched:
        patched.setattr(name_tables, "build_table", failing)
        session.generate("a zog", "A:1")
        count = len(tried)
        for _ in range(5):
            assert session.state.current().entries == ()
        assert len(tried) == count
    session.generate("a zog", "A:1")
    assert session.state.current().entries


def test_a_thread_that_began_earlier_leaves_no_names_of_an_earlier_prompt(session: _Session) -> None:
    """The page tokenizes on threads of its own while a generation activates its LoRAs."""
    session.generate("a zog", "A:1")
    session.bundle("A", "zog", "s1", "new")
    read = session.state.files.read

    def read_slowly(*arguments: Any, **options: Any) -> Any:
        session.state.files.read = read  # type: ignore[method-assign]
        found = read(*arguments, **options)
        session.generate("s1", "BB:1")
        return found

    session.state.files.read = read_slowly  # type: ignore[method-assign]
    session.state.sync()
    assert [entry.name for entry in session.state.current().entries] == ["s1@BB", "s1"]


def test_a_refiner_that_is_loaded_in_between_leaves_the_names_of_the_prompt(session: _Session) -> None:
    """The webui encodes an empty prompt for it, with all LoRAs off."""
    task = types.SimpleNamespace(prompts=[""], negative_prompts=[""], comment=lambda text: None)

    encoded: list[Any] = []

    def get_empty_cond(model: Any) -> None:
        encoded.append(model)
        session.extra_networks.activate(task, {})
        assert session.networks.loaded_networks == []
        assert "zog" in [entry.name for entry in session.state.current().entries]

    session.hooks.remove()
    session.webui.behave("sd_models", "get_empty_cond", get_empty_cond)
    session.hooks = Hooks()
    add_activation_hooks(session.hooks, session.state, NegativeLoras())
    session.generate("a zog", "A:1")
    session.webui.modules["sd_models"].get_empty_cond("a refiner")
    assert encoded == ["a refiner"]
    assert "zog" in [entry.name for entry in session.state.current().entries]
    assert not session.state.is_paused
    (comment,) = session.generate("a zog").comments
    assert "zog is in the LoRA A" in comment
    assert session.state.current().entries == ()


def test_loras_unloaded_after_another_checkpoint_was_loaded_take_their_names_along(session: _Session) -> None:
    """As when a training run loads its checkpoint and removes what the last generation left."""
    session.hooks.remove()
    session.webui.behave("sd_models", "get_empty_cond", lambda _: session.extra_networks.activate(None, {}))
    session.hooks = Hooks()
    add_activation_hooks(session.hooks, session.state, NegativeLoras())
    session.generate("a zog", "A:1")
    session.webui.modules["sd_models"].get_empty_cond("another checkpoint")
    session.networks.load_networks([])
    assert session.state.current().entries == ()
