"""The shipped bases become complete checkpoints that the headless host loads with every value unchanged."""

from __future__ import annotations

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from lib_pivotal.demo import assets  # noqa: E402
from lib_pivotal.demo.base_model import train_base  # noqa: E402
from lib_pivotal.demo.base_model.measure import generate, score  # noqa: E402
from lib_pivotal.demo.base_model.networks import make_text_encoder, make_unet, make_vae  # noqa: E402
from lib_pivotal.demo.world import Scene, draw  # noqa: E402
from lib_pivotal.host.diffusers.checkpoint import load_networks  # noqa: E402
from lib_pivotal.host.diffusers.tokenizer import write_tokenizer  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Fresh networks, written and materialized the way the trained ones are."""
    folder = tmp_path_factory.mktemp("bases")
    torch.manual_seed(0)
    parts = {"unet": make_unet(), "vae": make_vae(), "text": make_text_encoder(), "other": make_unet()}
    for network in parts.values():
        network.eval().requires_grad_(False)
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
            parameter.copy_(parameter.half())
    with pytest.MonkeyPatch.context() as patch:
        for module in (assets, train_base):
            patch.setattr(module, "BASE_A", folder / "base_a.safetensors")
            patch.setattr(module, "BASE_B_UNET", folder / "base_b_unet.safetensors")
        train_base.write_base_a(parts["unet"].state_dict(), parts["vae"].state_dict(), parts["text"])
        train_base.write_base_b(parts["other"].state_dict())
        first = assets.materialize(folder / "out")
        stamp = os.stat(first.a).st_mtime_ns, os.stat(first.b).st_mtime_ns
        assert assets.materialize(folder / "out") == first
        assert (os.stat(first.a).st_mtime_ns, os.stat(first.b).st_mtime_ns) == stamp
    return parts, first


def test_a_checkpoint_is_written_again_after_its_source_has_changed(made, monkeypatch):
    _, bases = made
    folder = bases.a.parents[1]
    monkeypatch.setattr(assets, "BASE_A", folder / "base_a.safetensors")
    monkeypatch.setattr(assets, "BASE_B_UNET", folder / "base_b_unet.safetensors")
    for path in (bases.a, bases.b):
        os.utime(path, (0, os.stat(assets.BASE_A).st_mtime + 1))
    before = [os.stat(path).st_mtime_ns for path in (bases.a, bases.b)]
    os.utime(assets.BASE_B_UNET, (0, os.stat(assets.BASE_A).st_mtime + 2))
    assets.materialize(folder / "out")
    same = [os.stat(path).st_mtime_ns == old for path, old in zip((bases.a, bases.b), before, strict=True)]
    assert same == [True, False]


@pytest.mark.parametrize("base", ["a", "b"])
@torch.no_grad()
def test_host_computes_what_the_trained_networks_compute(made, base):
    parts, bases = made
    networks = load_networks(getattr(bases, base))
    unet = parts["unet" if base == "a" else "other"]
    latents, step = torch.randn(1, 4, 8, 8), torch.tensor([400])
    ids = torch.tensor([networks.texts[0].tokenizer("a red star", padding="max_length", max_length=77)["input_ids"]])
    hidden = parts["text"](ids).last_hidden_state
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    pairs = [
        (networks.texts[0].model(ids).last_hidden_state, hidden),
        (networks.unet(latents, step, hidden).sample, unet(latents, step, hidden).sample),
        (networks.vae.encode(pixels).latent_dist.mean, parts["vae"].encode(pixels).latent_dist.mean),
        (networks.vae.decode(latents).sample, parts["vae"].decode(latents).sample),
    ]
    for loaded, trained in pairs:
        assert torch.allclose(loaded, trained, atol=1e-4, rtol=1e-4)
    assert networks.scale == pytest.approx(0.18215)


def test_tokenizer_gives_the_same_ids_as_clip(tmp_path):
    transformers = pytest.importorskip("transformers")
    write_tokenizer(tmp_path)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    assert tokenizer("a photo of a cat")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert len(tokenizer) == 49408
    assert tokenizer("x", padding="max_length", max_length=77)["input_ids"][3:] == [49407] * 74


def test_measuring_makes_repeatable_images(made):
    networks = load_networks(made[1].a)
    captions = ["a small red star, white background", ""]
    first, second = (generate(networks, captions, seed=3, steps=2) for _ in range(2))
    assert first.shape == (2, 64, 64, 3)
    assert first.dtype.name == "uint8"
    assert (first == second).all()
    assert (generate(networks, captions, seed=4, steps=2) != first).any()


def test_score_counts_what_is_right():
    rng = np.random.default_rng(0)
    star = Scene("star", "red", "plain", "large", "left", "white")
    scenes = [star, Scene("heart", "blue", "plain", "large", "right", "pink")]
    shown = [star, Scene("heart", "green", "plain", "large", "left", "pink")]
    shares = score(scenes, np.stack([draw(scene, "a", rng) for scene in shown]), "a")
    assert shares == {
        "shape": 1.0, "color": 0.5, "background": 1.0, "size": 1.0, "pattern": 1.0, "shape+color": 0.5
    }  # fmt: skip
