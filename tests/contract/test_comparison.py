"""The images of a comparison in the fake webui: settings, checkpoints and every way to end."""

from __future__ import annotations

import contextlib
import dataclasses
import types
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lib_pivotal.core.errors import HostError
from lib_pivotal.core.ports import SampleRequest
from lib_pivotal.host.a1111.host import A1111Host
from tests.contract.fake_webui import FakeWebui
from tests.contract.toy_webui import INFO, toy_webui

REQUEST = SampleRequest("x", "", 64, 64, 3, 4.0, 7, 2)
OTHER = types.SimpleNamespace(filename="o.safetensors", title="o.safetensors [34]")


class _Generating:
    """A webui with two checkpoints that records what it generates with which settings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.webui, self.model = toy_webui(monkeypatch)
        self.modules = self.webui.modules
        self.made: list[tuple[str, str, dict[str, Any]]] = []
        self.error: Exception | None = None
        self.options = self.modules["shared"].opts
        self.options.data = {"sd_model_checkpoint": INFO.title, "sd_lora": "always", "CLIP_stop_at_last_layers": 1}
        self.options.data_labels = {"pivotal_loader": None}
        monkeypatch.setitem(vars(self.modules["paths"]), "data_path", str(folder))
        (folder / "params.txt").write_text("the user's")
        sd_models = self.modules["sd_models"]
        sd_models.checkpoints_list[OTHER.title] = OTHER
        self.webui.behave("sd_models", "get_closet_checkpoint_match", sd_models.checkpoints_list.get)
        self.webui.behave("sd_models", "reload_model_weights", self._load)
        self.webui.behave("processing", "process_images", self._generate)
        # Every prompt here has a tag, without which it is "x".
        self.webui.behave("extra_networks", "parse_prompt", lambda prompt: ("x", {}))
        self.modules["processing"].StableDiffusionProcessingTxt2Img = lambda **fields: types.SimpleNamespace(
            **fields, close=lambda: None
        )
        self.folder = folder

    def _load(self, *, info: Any = None) -> None:
        self.model.sd_checkpoint_info = info or INFO

    def _generate(self, task: Any) -> Any:
        if self.error is not None:
            raise self.error
        (self.folder / "params.txt").write_text(task.prompt)
        self.made.append((self.model.sd_checkpoint_info.title, task.prompt, dict(self.options.data)))
        return types.SimpleNamespace(images=["image"], infotexts=["x\nSteps: 3"], index_of_first_image=0)

    def images(self, *requests: tuple[str, str], stop: Any = lambda: False) -> Any:
        wanted = [(title, dataclasses.replace(REQUEST, prompt=prompt)) for title, prompt in requests]
        return contextlib.closing(A1111Host("1.10.1").comparison().images(wanted, stop))

    def assert_restored(self) -> None:
        assert self.model.sd_checkpoint_info is INFO
        assert self.options.data == {
            "sd_model_checkpoint": INFO.title,
            "sd_lora": "always",
            "CLIP_stop_at_last_layers": 1,
        }
        assert (self.folder / "params.txt").read_text() == "the user's"
        assert self.modules["processing"].StableDiffusionProcessing.cached_c == [None, None]


@pytest.fixture
def generating(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> _Generating:
    return _Generating(monkeypatch, tmp_path)


def test_each_image_has_its_checkpoint_and_none_of_the_users_settings(generating: _Generating) -> None:
    with generating.images(("", "a"), (OTHER.title, "b"), (OTHER.title, "c")) as images:
        assert [sample.infotext for sample in images] == [f"{prompt}\nSteps: 3" for prompt in ("a", "b", "c")]
    assert [(title, prompt) for title, prompt, _ in generating.made] == [
        (INFO.title, "a"),
        (OTHER.title, "b"),
        (OTHER.title, "c"),
    ]
    for title, _, options in generating.made:
        # The webui loads the selected checkpoint before each image.
        assert options == {
            "sd_model_checkpoint": title,
            "sd_lora": "None",
            "CLIP_stop_at_last_layers": 2,
            "pivotal_loader": True,
        }
    assert generating.modules["shared"].state.job_count == 3
    generating.assert_restored()


@pytest.mark.parametrize("how", ["closed", "stopped", "interrupted", "skipped", "failed", "gone"])
def test_every_end_restores_everything(generating: _Generating, how: str) -> None:
    state = generating.modules["shared"].state
    stops = iter([False, how == "stopped"])
    outcome = pytest.raises(HostError) if how in ("failed", "gone") else contextlib.nullcontext()
    third = (OTHER.title if how != "gone" else "no such", "c")
    with outcome, generating.images((OTHER.title, "b"), third, stop=lambda: next(stops)) as images:
        next(images)
        if how in ("interrupted", "skipped"):
            setattr(state, how, True)
        if how == "failed":
            generating.error = RuntimeError("broken")
        if how != "closed":
            assert list(images) == []
    assert len(generating.made) == 1
    generating.assert_restored()


def test_only_its_own_image_is_interrupted(generating: _Generating) -> None:
    comparison = A1111Host("1.10.1").comparison()
    generating.modules["progress"].current_task = "task(somebody else)"
    comparison.interrupt("task(ours)")
    assert "interrupt" not in generating.webui.calls
    generating.modules["progress"].current_task = "task(ours)"
    comparison.interrupt("task(ours)")
    assert "interrupt" in generating.webui.calls


def test_a_file_needs_a_name_in_prompts_that_is_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    webui = FakeWebui(monkeypatch)
    networks, comparison = webui.modules["networks"], A1111Host("1.10.1").comparison()
    networks.available_networks, networks.available_network_aliases = {}, {}
    networks.forbidden_network_aliases = {}
    path, same = tmp_path / "a.safetensors", tmp_path / "old" / "a.safetensors"
    with pytest.raises(HostError, match="does not list"):
        comparison.label_of(path)
    assert "list_available_networks" in webui.calls
    networks.available_networks["a"] = types.SimpleNamespace(filename=str(same))
    with pytest.raises(HostError, match="another file"):
        comparison.label_of(path)
    assert comparison.label_of(same) == "a"
    for name in ("a:b", "a>b", "a=b", "a,b"):
        with pytest.raises(HostError, match="cannot be written"):
            comparison.label_of(tmp_path / f"{name}.safetensors")


def test_titles_are_lists_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = FakeWebui(monkeypatch)
    calls: list[Any] = []
    vars(webui.modules["images"])["GridAnnotation"] = lambda text: f"<{text}>"
    webui.behave("images", "image_grid", lambda images, rows: (len(images), rows))
    webui.behave("images", "draw_grid_annotations", lambda *arguments: calls.append(arguments))
    images = [Image.new("RGB", (64, 32))] * 4
    A1111Host("1.10.1").comparison().draw(images, ["a", "b"], [["x"], ["y", "z"]])
    assert calls == [((4, 2), 64, 32, [["<a>"], ["<b>"]], [["<x>"], ["<y>", "<z>"]])]


def test_grids_go_where_the_webui_puts_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    webui = FakeWebui(monkeypatch)
    options = vars(webui.modules["shared"].opts)
    options.update(outdir_grids="", outdir_txt2img_grids="two")
    assert A1111Host("1.10.1").comparison().output_folder() == Path("two").absolute()
    options.update(outdir_grids="one")
    assert A1111Host("1.10.1").comparison().output_folder() == Path("one").absolute()
