"""Borrowing a model and returning it, with the fake webui and a toy model."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.events import Control
from lib_pivotal.host.a1111.host import A1111Host
from lib_pivotal.host.a1111.lease import borrow
from lib_pivotal.host.a1111.noise_schedule import noise_schedule_of
from lib_pivotal.host.a1111.sample import A1111Sampler
from lib_pivotal.host.webui.replaced_loras import forget_file
from lib_pivotal.host.webui.txt2img import pinned_options
from tests.contract.toy_webui import INFO, toy_webui


@pytest.mark.parametrize("version", [(1, 7), (1, 8), (1, 10, 1)])
@pytest.mark.parametrize("fails", [False, True])
def test_everything_comes_back_however_the_run_ends(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], *, fails: bool
) -> None:
    webui, model = toy_webui(monkeypatch, version)
    shared, hijack = webui.modules["shared"], webui.modules["sd_hijack"].model_hijack
    shared.loaded_hypernetworks.append("hyper")
    hijack.circular_enabled = True
    foreign = model.model.diffusion_model.forward = lambda: None
    model.first_stage_model.requires_grad_(False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    outcome = pytest.raises(RuntimeError) if fails else _nothing()
    with outcome, borrow(TrainConfig(), Control()):
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert shared.loaded_hypernetworks == []
        assert shared.parallel_processing_allowed is False
        assert "forward" not in model.model.diffusion_model.__dict__
        assert model.model.diffusion_model.use_checkpoint is False
        if fails:
            raise RuntimeError
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert shared.loaded_hypernetworks == ["hyper"]
    assert shared.parallel_processing_allowed is True
    assert model.model.diffusion_model.__dict__["forward"] is foreign
    assert model.model.diffusion_model.use_checkpoint is True
    assert webui.calls.count("apply_circular") == 2
    # The user's attention is restored before caches and lists are refreshed.
    assert webui.calls.index("load_textual_inversion_embeddings") > webui.calls.index("undo_optimizations")
    assert webui.calls[-1] == "torch_gc"


def test_a_failing_undo_step_does_not_keep_the_others_from_running(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    webui, model = toy_webui(monkeypatch)
    with borrow(TrainConfig(), Control()):
        webui.behave("sd_unet", "apply_unet", lambda *_: 1 / 0)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert webui.modules["shared"].parallel_processing_allowed is True
    assert "the UNet choice" in caplog.text


def test_another_checkpoint_is_loaded_and_the_selected_one_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    webui, _model = toy_webui(monkeypatch)
    loaded = []
    webui.behave("sd_models", "get_closet_checkpoint_match", lambda name: INFO if name == "m" else None)
    webui.behave("sd_models", "reload_model_weights", lambda info=None: loaded.append(info))
    with borrow(TrainConfig(checkpoint="m"), Control()):
        assert loaded == [INFO]
    assert loaded == [INFO, None]


def test_a_checkpoint_that_has_gone_while_the_run_was_queued_is_not_replaced_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    webui, _model = toy_webui(monkeypatch)
    loaded = []
    webui.behave("sd_models", "get_closet_checkpoint_match", lambda name: None)
    webui.behave("sd_models", "reload_model_weights", lambda info=None: loaded.append(info))
    with pytest.raises(HostError, match="no checkpoint 'gone'"), borrow(TrainConfig(checkpoint="gone"), Control()):
        pass
    assert not loaded


def _conditioner(count: int) -> Any:
    embedders = [types.SimpleNamespace(wrapped=None)] * count
    return types.SimpleNamespace(embedders=[*embedders, types.SimpleNamespace()])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"is_sdxl": True, "conditioner": _conditioner(1)}, "SDXL refiner"),
        ({"is_sdxl": True, "is_ssd": True, "conditioner": _conditioner(2)}, "SSD-1B"),
        ({"is_sdxl": True, "latent_channels": 32, "conditioner": _conditioner(2)}, "32 latent channels"),
        ({"is_sdxl": True, "is_sdxl_inpaint": True, "conditioner": _conditioner(2)}, "SDXL inpainting"),
        ({"is_sd3": True}, "SD3"),
        ({"cond_stage_key": "edit"}, "instruct-pix2pix"),
    ],
)
def test_models_that_cannot_be_trained_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], words: str
) -> None:
    webui, model = toy_webui(monkeypatch)
    for name, value in change.items():
        setattr(model, name, value)
    with pytest.raises(HostError, match=words), borrow(TrainConfig(), Control()):
        pass
    assert "apply_optimizations" not in webui.calls
    assert any(words in problem.message for problem in A1111Host("").problems(TrainConfig()))


def test_an_inpainting_model_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    _host, model = toy_webui(monkeypatch)
    model.model.conditioning_key = "hybrid"
    assert any("an inpainting model (SD1)" in item.message for item in A1111Host("").problems(TrainConfig()))


def test_a_velocity_model_that_the_webui_uses_wrongly_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _host, model = toy_webui(monkeypatch)
    path = tmp_path / "v.safetensors"
    save_file({"v_pred": torch.empty(0), "ztsnr": torch.empty(0)}, path)
    model.sd_checkpoint_info = types.SimpleNamespace(**{**vars(INFO), "filename": str(path)})
    monkeypatch.setattr("lib_pivotal.host.webui.checkpoint_choice._selected", lambda: None)
    found = A1111Host("").problems(TrainConfig())
    assert any("velocity" in item.message and item.is_error for item in found)
    model.parameterization = "v"
    assert not any("velocity" in item.message for item in A1111Host("").problems(TrainConfig()))
    # The schedule that the file declares counts as well.
    assert noise_schedule_of(model)[-1] < 1e-7


def test_the_webuis_zero_terminal_schedule_is_trained_with(monkeypatch: pytest.MonkeyPatch) -> None:
    webui, model = toy_webui(monkeypatch)
    plain = noise_schedule_of(model)
    vars(webui.modules["shared"].opts)["sd_noise_schedule"] = "Zero Terminal SNR"
    rescaled = noise_schedule_of(model)
    assert plain[-1] > 1e-3
    assert rescaled[-1] < 1e-7
    assert rescaled[0] == pytest.approx(float(plain[0]), rel=1e-6)


def test_all_problems_at_once_with_the_names_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    webui, _model = toy_webui(monkeypatch)
    webui.modules["shared"].cmd_opts.upcast_sampling = True
    found = A1111Host("").problems(TrainConfig(checkpoint="nothing like it", precision="fp16"))
    assert [problem.field for problem in found] == ["webui", "checkpoint", "precision"]
    assert "m.safetensors [12]" in found[1].hint


def test_half_precision_on_the_cpu_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    webui, _model = toy_webui(monkeypatch)
    webui.modules["shared"].cmd_opts.no_half = False
    found = A1111Host("").problems(TrainConfig())
    assert [problem.field for problem in found] == ["precision"]
    assert "--no-half" in found[0].hint


def test_a_webui_without_checkpoints_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    webui, _model = toy_webui(monkeypatch)
    webui.modules["sd_models"].checkpoints_list.clear()
    assert [problem.field for problem in A1111Host("").problems(TrainConfig())] == ["checkpoint"]


def test_a_setting_the_user_changes_during_a_preview_stays_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    webui, _model = toy_webui(monkeypatch)
    options = webui.modules["shared"].opts
    options.data = {"sd_model_checkpoint": "a", "sd_unet": "x"}
    options.data_labels = {"live_previews_enable": None}
    with pinned_options({"sd_model_checkpoint": "b", "sd_unet": "None", "live_previews_enable": False, "gone": 1}):
        assert options.data == {"sd_model_checkpoint": "b", "sd_unet": "None", "live_previews_enable": False}
        options.data["sd_model_checkpoint"] = "c"
    assert options.data == {"sd_model_checkpoint": "c", "sd_unet": "x"}


def test_an_installed_embedding_of_the_same_name_is_hidden_during_a_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    webui, model = toy_webui(monkeypatch)
    database = webui.modules["sd_hijack"].model_hijack.embedding_db
    registered: list[str] = []

    def by_name(_self: Any, embedding: Any, _model: Any, name: str) -> None:
        assert embedding is None
        registered.append(f"-{name}")
        database.word_embeddings.pop(name, None)

    def register(_self: Any, embedding: Any, _model: Any) -> None:
        registered.append(f"+{embedding.name}")
        database.word_embeddings[embedding.name] = embedding

    type(database).register_embedding_by_name.behavior = by_name
    type(database).register_embedding.behavior = register
    ids = model.cond_stage_model.tokenize(["mychar"])[0]
    installed = types.SimpleNamespace(name="MyChar")
    database.word_embeddings["MyChar"] = installed
    database.ids_lookup[ids[0]] = [(ids, installed)]

    def make(vectors: Any, name: str) -> Any:
        return webui.make("Embedding", vec=vectors, name=name)

    webui.modules["textual_inversion"].Embedding = make
    # The webui joins the vectors with those of words on its device.
    borrowed = types.SimpleNamespace(device=torch.device("meta"))
    with A1111Sampler(model, borrowed)._registered({"mychar": {"clip_l": torch.zeros(3, 4)}}):
        assert set(database.word_embeddings) == {"mychar"}
        live = database.word_embeddings["mychar"]
        assert (live.vectors, live.shape, live.vec.device.type) == (3, 4, "meta")
        assert live.filename
        assert A1111Host("").taken_names() == {}, "the page would warn of names that are being trained"
    assert database.word_embeddings == {"MyChar": installed}
    assert registered == ["-MyChar", "+mychar", "-mychar", "+MyChar"]


def test_bundled_embeddings_of_an_earlier_run_do_not_count_as_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    webui, _model = toy_webui(monkeypatch)
    words = webui.modules["sd_hijack"].model_hijack.embedding_db.word_embeddings
    words["OnDisk"] = types.SimpleNamespace(filename="somewhere/OnDisk.pt")
    words["bundled"] = types.SimpleNamespace(filename=None)
    assert A1111Host("").taken_names() == {"ondisk": "OnDisk.pt"}


def test_a_replaced_file_is_read_and_applied_again_in_every_model_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    webui, model = toy_webui(monkeypatch)
    ours, other = (
        types.SimpleNamespace(network_on_disk=types.SimpleNamespace(filename=str(tmp_path / name)), mtime=5.0)
        for name in ("a.safetensors", "b.safetensors")
    )
    webui.modules["networks"].loaded_networks = [ours, other]
    webui.modules["networks"].networks_in_memory = {"a": ours, "b": other}
    merged = (("a", 1.0, 1.0, None),)
    elsewhere = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    webui.modules["sd_models"].model_data.loaded_sd_models = [elsewhere]
    model.first_stage_model.network_current_names = elsewhere[0].network_current_names = merged
    forget_file(tmp_path / "a.safetensors")
    assert (ours.mtime, other.mtime) == (0, 5.0)
    assert webui.modules["networks"].networks_in_memory == {"b": other}
    for layer in (model.first_stage_model, elsewhere[0]):
        assert layer.network_current_names not in ((), merged)
    assert not hasattr(elsewhere[1], "network_current_names")


class _nothing:  # noqa: N801
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass
