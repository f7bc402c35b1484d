"""The headless host implements the ports of the engine: what training and previews rely on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from lib_pivotal.core.activations.lean import lean
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.ports import ImageSize, SampleRequest
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.prompt_chunks import PromptChunker
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.guided_prediction import GuidedPrediction
from lib_pivotal.core.train.prediction import CaptionPrediction
from lib_pivotal.host.diffusers import load
from lib_pivotal.host.diffusers.checkpoint import load_tokenizer
from lib_pivotal.host.diffusers.sample import DiffusersSampler
from tests.unit.test_prediction import LONG, some_batch

SIZE = ImageSize((64, 64), (0, 0), (64, 64))


def encode(model, text, vectors=None, name="my_hero"):
    """A prompt's condition; ``vectors`` stand for ``name``."""
    encoder = model.text_encoders[0]
    count = 0 if vectors is None else len(vectors)
    placed = PromptChunker(encoder, {name: (0, count)} if count else {}).chunk(text)
    table = torch.empty(0, encoder.width) if vectors is None else vectors
    rows, columns, picked = (
        torch.tensor(part, dtype=torch.int64) for part in (placed.rows, placed.columns, placed.vectors)
    )
    encoded = encoder.encode(placed.ids, rows, columns, table[picked])
    return model.condition([encoded], len(placed.ids), [SIZE], [False])


def epsilon(model, text="a red circle", vectors=None):
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(1, 4, 8, 8, generator=generator)
    return model.predict(noisy, torch.tensor([400]), encode(model, text, vectors))


def test_file_and_folder_are_the_same_model(small, model):
    folder = load(small.folder, device="cpu")
    assert torch.allclose(epsilon(folder), epsilon(model), atol=1e-6)
    assert torch.equal(folder.alphas_cumprod, model.alphas_cumprod)
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    for ours, theirs in zip(folder.vae.encode(pixels), model.vae.encode(pixels)):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert [t.key for t in folder.lora_targets()] == [t.key for t in model.lora_targets()]


def test_no_weight_of_the_model_is_trained(model):
    for part in (model.unet, model.text_encoders[0].text_model, model.vae._vae):
        assert not any(parameter.requires_grad for parameter in part.parameters())
        assert not any(module.training for module in part.modules())


def test_tokens_are_those_of_clip(model):
    encoder = model.text_encoders[0]
    assert encoder.tokenize("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert (encoder.start_id, encoder.end_id, encoder.pad_id) == (49406, 49407, 49407)
    assert len(encoder.tokenize("cat " * 200)) == 200


def test_schedule_is_that_of_sd1(model):
    assert model.alphas_cumprod.dtype == torch.float32
    assert model.alphas_cumprod.shape == (1000,)
    assert model.alphas_cumprod[0].item() == pytest.approx(1 - 0.00085, abs=1e-7)
    assert model.alphas_cumprod[-1].item() == pytest.approx(0.00466009508818388, rel=1e-4)


def test_gradients_reach_the_vectors_and_only_them(model):
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0)).mul(0.02).requires_grad_()
    epsilon(model, "my_hero on a hill", vectors).square().sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.dtype == torch.float32
    assert (vectors.grad.abs().sum(1) > 0).all()
    assert model.text_encoders[0].token_vectors().grad is None


def test_vectors_of_a_word_act_as_the_word(model):
    encoder = model.text_encoders[0]
    words = encoder.token_vectors()[torch.tensor(encoder.tokenize("red circle"))]
    assert torch.allclose(encode(model, "a my_hero, white", words), encode(model, "a red circle, white"), atol=1e-6)


def test_clip_skip_reads_an_earlier_layer_through_the_last_norm(small, model):
    skipped = load(small.file, clip_skip=2, device="cpu").text_encoders[0]
    ids = torch.full((1, 77), 49407)
    ids[0, :5] = torch.tensor([49406, 320, 1125, 539, 320])
    nothing = torch.empty(0, dtype=torch.int64)
    hidden = skipped.encode(ids, nothing, nothing, torch.empty(0, 32)).hidden
    inner = skipped.text_model
    layers = inner(input_ids=ids, output_hidden_states=True).hidden_states
    norm = getattr(inner, "text_model", inner).final_layer_norm
    assert torch.allclose(hidden, norm(layers[2]), atol=1e-6)
    last = model.text_encoders[0].encode(ids, nothing, nothing, torch.empty(0, 32)).hidden
    assert torch.allclose(last, norm(layers[3]), atol=1e-6)
    assert not torch.allclose(last, hidden, atol=1e-3)
    assert torch.equal(model.text_encoders[0].with_clip_skip(2)._read(ids).hidden, hidden)


def test_targets_have_kohyas_keys(model):
    targets = model.lora_targets()
    keys = {target.key: target for target in targets}
    assert len(keys) == len(targets)
    roles = [target.role for target in targets if target.part == "unet"]
    # 16 transformer blocks: two attentions of four layers, two feed-forward layers, two projections.
    assert (roles.count("attention"), roles.count("feed_forward"), roles.count("projection")) == (128, 32, 32)
    assert [target.role for target in targets if target.part == "clip_l"].count("attention") == 12
    for key, role in {
        "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn2_to_out_0": "attention",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj": "feed_forward",
        "lora_unet_up_blocks_3_attentions_2_proj_in": "projection",
        "lora_unet_up_blocks_0_resnets_0_conv_shortcut": "conv",
        "lora_unet_down_blocks_0_downsamplers_0_conv": "conv",
        "lora_te_text_model_encoder_layers_2_self_attn_q_proj": "attention",
        "lora_te_text_model_encoder_layers_0_mlp_fc1": "feed_forward",
    }.items():
        assert keys[key].role == role


def lora_gradient(model, *, checkpointing, kept="all"):
    targets = [(t, 2) for t in model.lora_targets() if t.part == "unet" and t.role != "other"]
    lora = AdapterSet.with_ranks("unet", targets, 1.0, 5, model.device)
    with torch.no_grad():
        lora.flat.values.add_(0.01)
    vectors = torch.full((2, 32), 0.01).requires_grad_()
    calls = []
    handle = model.unet.down_blocks[0].resnets[1].register_forward_pre_hook(lambda *_: calls.append(1))
    with attach([lora]), lean(model.unet, model.autocast, kept), model.checkpointing(enabled=checkpointing):
        epsilon(model, "my_hero", vectors).square().sum().backward()
    handle.remove()
    return lora.flat.gradient.clone(), vectors.grad, len(calls)


def test_checkpointing_recomputes_and_changes_no_gradient(model):
    plain, plain_vectors, once = lora_gradient(model, checkpointing=False)
    saved, saved_vectors, twice = lora_gradient(model, checkpointing=True)
    assert (once, twice) == (1, 2)
    assert plain.abs().sum() > 0
    assert torch.allclose(plain, saved, atol=1e-7)
    assert torch.allclose(plain_vectors, saved_vectors, atol=1e-7)
    assert lora_gradient(model, checkpointing=False)[2] == 1


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_checkpointing_recomputes_the_rows_of_a_negative_caption_without_the_lora(model, kind):
    def gradients(*, checkpointing):
        targets = [(t, 2) for t in model.lora_targets() if t.part == "unet" and t.role != "other"]
        lora = AdapterSet.with_ranks("unet", targets, 1.0, 5, model.device, kind=kind)
        with torch.no_grad():
            lora.flat.values.add_(0.01)
        vectors = torch.full((4, 32), 0.01).requires_grad_()
        embeddings = EmbeddingWeights({"my_hero": (0, 2), "neg_my_hero": (2, 2)}, {"clip_l": vectors})
        predict = GuidedPrediction(CaptionPrediction(model, TextConditioner(model, embeddings)), 3.0)
        # Two lengths of captions, so that two predictions with different rows are recomputed.
        batch = some_batch(["my_hero", LONG + "my_hero"], negatives=["neg_my_hero"] * 2)
        with attach([lora]), model.checkpointing(enabled=checkpointing):
            predict(batch.latents, batch).square().sum().backward()
        return lora.flat.gradient, vectors.grad

    for plain, saved in zip(gradients(checkpointing=False), gradients(checkpointing=True)):
        assert plain.abs().sum() > 0
        assert torch.allclose(plain, saved, atol=1e-5 * float(plain.abs().max()))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_layers_that_keep_less_change_no_gradient(model, checkpointing):
    plain = lora_gradient(model, checkpointing=False)[:2]
    for one, other in zip(plain, lora_gradient(model, checkpointing=checkpointing, kept="less")[:2], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(plain, lora_gradient(model, checkpointing=checkpointing, kept="least")[:2], strict=True):
        assert float((one - other).norm()) <= 1e-6 * float(one.norm())
    assert not any("forward" in vars(module) for module in model.unet.modules())


def test_the_vae_gives_scaled_moments_and_its_identity(small, model):
    pixels = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mean, deviation = model.vae.encode(pixels)
    assert mean.shape == deviation.shape == (2, 4, 8, 16)
    raw = model.vae._vae.encode(pixels).latent_dist
    assert torch.allclose(mean, raw.mean * 0.18215)
    assert torch.allclose(deviation, raw.std * 0.18215)
    other = load(small.file, device="cpu")
    assert other.vae.identity() == model.vae.identity()
    changed = load(small.file, device="cpu")
    changed.vae._vae.quant_conv.bias.data += 1e-3
    assert changed.vae.identity() != model.vae.identity()


def request(prompt, **other):
    values = {"negative_prompt": "bad", "width": 64, "height": 64, "steps": 3, "cfg_scale": 4.0, "seed": 7, **other}
    return SampleRequest(prompt, **values)


def image(model, prompt, embeddings=None, **other):
    return DiffusersSampler(model).make(request(prompt, **other), embeddings or {}).image.tobytes()


def test_samples_repeat_and_leave_random_numbers_alone(model):
    before = torch.get_rng_state()
    assert image(model, "a cat") == image(model, "a cat")
    assert torch.equal(before, torch.get_rng_state())
    assert image(model, "a cat") != image(model, "a cat", seed=8)
    assert image(model, "a cat") != image(model, "a cat", clip_skip=2)
    assert image(model, "a cat, " * 40) != image(model, "a cat, " * 30)


def test_samples_show_embeddings_and_lora(model):
    vectors = {"my_hero": {"clip_l": torch.randn(2, 32, generator=torch.Generator().manual_seed(0))}}
    other = {"my_hero": {"clip_l": torch.randn(2, 32, generator=torch.Generator().manual_seed(1))}}
    assert image(model, "my_hero", vectors) != image(model, "my_hero", other)
    assert image(model, "a cat", vectors) == image(model, "a cat", other)
    lora = AdapterSet.with_ranks(
        "unet", [(t, 4) for t in model.lora_targets() if t.role == "attention"], 1.0, 5, model.device
    )
    with torch.no_grad():
        lora.flat.values.add_(0.05)
    with attach([lora]):
        with_lora = image(model, "a cat")
    assert with_lora != image(model, "a cat")


def test_infotext_has_the_webuis_format(model):
    text = DiffusersSampler(model).make(request("a cat", clip_skip=2), {}).infotext
    first, second, third = text.split("\n")
    assert (first, second) == ("a cat", "Negative prompt: bad")
    assert third.startswith("Steps: 3, Sampler: Euler, CFG scale: 4.0, Seed: 7, Size: 64x64, Model hash: ")
    assert "Model: small, Clip skip: 2" in third


def test_a_stopped_sample_is_none(model):
    assert DiffusersSampler(model, lambda: True).make(request("a cat"), {}) is None


def test_sampler_finds_the_image_that_an_ideal_model_knows(model):
    """Euler from the noisiest level must end at the image when the prediction is exact."""
    sampler = DiffusersSampler(model)
    image = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))

    class Ideal:
        vae, device, alphas_cumprod, is_v_prediction = model.vae, model.device, model.alphas_cumprod, False

        def predict(self, noisy, timesteps, condition):
            at = int(timesteps.round())
            signal = self.alphas_cumprod[at]
            noise = (noisy - signal.sqrt() * image) / (1 - signal).sqrt()
            return noise if not self.is_v_prediction else signal.sqrt() * noise - (1 - signal).sqrt() * image

    for is_v in (False, True):
        sampler._model = Ideal()
        sampler._model.is_v_prediction = is_v
        found = sampler._denoise(request("", steps=1000), None, None)
        assert torch.allclose(found, image, atol=1e-2)


def with_lines(small, folder: Path, lines: str) -> Path:
    """A copy of the small checkpoint in an empty folder, with more lines on the model in its ``.yaml``."""
    for name in (small.file.name, small.file.with_suffix(".yaml").name):
        shutil.copy(small.file.parent / name, folder / name)
    shutil.copytree(small.file.parent / "text", folder / "text")
    config = (folder / "small.yaml").read_text()
    (folder / "small.yaml").write_text(config.replace("    timesteps: 1000", f"    timesteps: 1000\n    {lines}"))
    return folder / "small.safetensors"


def test_v_prediction_is_read_from_the_yaml(small, tmp_path):
    assert load(with_lines(small, tmp_path, "parameterization: v"), device="cpu").is_v_prediction
    assert not load(small.file, device="cpu").is_v_prediction


def test_the_size_of_the_model_counts_and_not_that_of_its_unet(small, tmp_path):
    """In the authors' own files the latter is 32 and called unused."""
    assert load(with_lines(small, tmp_path, "image_size: 64"), device="cpu").native_resolution == 512
    assert load(small.file, device="cpu").native_resolution == 64


def test_v_prediction_is_read_from_the_folder(small, tmp_path):
    shutil.copytree(small.folder, tmp_path / "folder")
    path = tmp_path / "folder" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prediction_type": "v_prediction"}))
    assert load(tmp_path / "folder", device="cpu").is_v_prediction


def test_half_precision_predicts_nearly_the_same(small, model):
    half = load(small.file, precision="bf16", device="cpu")
    assert not half.needs_loss_scaling
    difference = (epsilon(half) - epsilon(model)).abs().max()
    assert 0 < difference < 0.1
    assert epsilon(half).dtype == torch.float32


def write_tensors(path, names):
    from safetensors.torch import save_file

    save_file({name: torch.zeros(shape) for name, shape in names.items()}, path)
    return path


FIRST = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda at: at / "none.safetensors", "There is no checkpoint"),
        (lambda at: at, "is not a diffusers model"),
        (lambda at: _touch(at / "model.ckpt"), "is not a .safetensors file"),
        (lambda at: _touch(at / "broken.safetensors"), "cannot be read"),
        (
            lambda at: write_tensors(
                at / "a.safetensors", {"lora_unet_x.lora_up.weight": (4, 4), "lora_unet_x.lora_down.weight": (4, 4)}
            ),
            "a LoRA, not a checkpoint",
        ),
        (lambda at: write_tensors(at / "b.safetensors", {FIRST: (8, 9, 3, 3)}), "an inpainting"),
        (lambda at: write_tensors(at / "c.safetensors", {FIRST: (8, 4, 3, 3), "conditioner.x": ()}), "SDXL refiner"),
        (
            lambda at: write_tensors(
                at / "d.safetensors", {FIRST: (8, 4, 3, 3), "conditioner.embedders.1.model.x": ()}
            ),
            "SSD-1B",
        ),
    ],
)
def test_models_that_cannot_be_trained_are_refused_with_a_message(tmp_path, make, word):
    with pytest.raises(HostError, match=word) as caught:
        load(make(tmp_path), device="cpu")
    assert caught.value.hint


def _touch(path):
    path.write_bytes(b"no tensors")
    return path


def test_a_tokenizer_that_the_yaml_names_wrongly_is_named(small, tmp_path):
    shutil.copy(small.file, tmp_path / "small.safetensors")
    config = small.file.with_suffix(".yaml").read_text()
    (tmp_path / "small.yaml").write_text(config.replace("version: text", "version: nowhere/at-all"))
    for open_it in (load_tokenizer, lambda path: load(path, device="cpu")):
        with pytest.raises(HostError, match="tokenizer") as caught:
            open_it(tmp_path / "small.safetensors")
        assert ".yaml" in caught.value.hint


def test_a_checkpoint_without_a_yaml_needs_no_network_for_its_tokenizer(small, tmp_path):
    shutil.copy(small.file, tmp_path / "small.safetensors")
    assert load_tokenizer(tmp_path / "small.safetensors")("a cat", add_special_tokens=False)["input_ids"] == [320, 2368]


def test_a_yaml_of_another_model_is_named(small, tmp_path):
    shutil.copy(small.file, tmp_path / "small.safetensors")
    shutil.copytree(small.file.parent / "text", tmp_path / "text")
    config = small.file.with_suffix(".yaml").read_text()
    (tmp_path / "small.yaml").write_text(config.replace("model_channels: 32", "model_channels: 64"))
    with pytest.raises(HostError, match="does not fit its configuration"):
        load(tmp_path / "small.safetensors", device="cpu")
    (tmp_path / "small.yaml").write_text("model: {}")
    with pytest.raises(HostError, match="not a model configuration"):
        load(tmp_path / "small.safetensors", device="cpu")


def test_an_unknown_device_is_refused(small):
    with pytest.raises(HostError, match="no device"):
        load(small.file, device="warp")
