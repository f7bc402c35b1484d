"""Check opens the checkpoint and reports what cannot be loaded before the long work starts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_pivotal.cli.main import main
from lib_pivotal.core.errors import HostError
from lib_pivotal.demo import assets
from lib_pivotal.host.diffusers import load
from lib_pivotal.host.diffusers.checkpoint import load_networks, load_tokenizer
from lib_pivotal.host.diffusers.checkpoint_check import check_checkpoint
from lib_pivotal.host.diffusers.checkpoint_family import family_of_checkpoint
from lib_pivotal.host.diffusers.networks import Networks
from lib_pivotal.host.diffusers.weight_files import find_weights
from tests.headless.families import write_sd2, write_sdxl
from tests.unit.toy import write_images

FIRST = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def families(small, tmp_path_factory):
    """A file and a folder of each family."""
    return {
        "sd1": small,
        "sd2": write_sd2(tmp_path_factory.mktemp("sd2")),
        "sdxl": write_sdxl(tmp_path_factory.mktemp("sdxl")),
    }


def copied(small, where: Path) -> Path:
    """The file and the files that belong to it; its tensors may be changed."""
    shutil.copy(small.file, where / "small.safetensors")
    shutil.copy(small.file.with_suffix(".yaml"), where / "small.yaml")
    if (small.file.parent / "text").exists():
        shutil.copytree(small.file.parent / "text", where / "text")
    return where / "small.safetensors"


def without(*beginnings):
    def change(path: Path) -> None:
        tensors = load_file(path)
        save_file({key: value for key, value in tensors.items() if not key.startswith(beginnings)}, path)

    return change


def holding(names):
    return lambda path: save_file({name: torch.zeros(shape) for name, shape in names.items()}, path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(words: bytes):
    return lambda path: path.write_bytes(words)


def folder_as_yaml(path: Path) -> None:
    path.with_suffix(".yaml").unlink()
    path.with_suffix(".yaml").mkdir()


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_whole_models_have_no_problems(families, family):
    assert check_checkpoint(families[family].file) == []
    assert check_checkpoint(families[family].folder) == []
    assert family_of_checkpoint(families[family].file) == family_of_checkpoint(families[family].folder) == family


def test_the_demo_model_has_no_problems(tmp_path):
    if not assets.BASE_A.exists():
        pytest.skip("the demo's model is not there")
    bases = assets.materialize(tmp_path)
    assert check_checkpoint(bases.a) == check_checkpoint(bases.b) == []


SPOILED = {
    "a LoRA": (holding({"lora_unet_x.lora_up.weight": (4, 4), "lora_unet_x.alpha": ()}), ["a LoRA, not a checkpoint"]),
    "a PEFT LoRA": (holding({"unet.x.lora_A.weight": (4, 4)}), ["a LoRA"]),
    "a LoHa": (holding({f"lora_unet_x.hada_{name}": (4, 4) for name in ("w1_a", "w1_b", "w2_a", "w2_b")}), ["LoHa"]),
    "a text encoder": (holding({"text_model.embeddings.token_embedding.weight": (4, 4)}), ["a text encoder"]),
    "a ControlNet": (holding({"control_model.input_blocks.0.0.weight": (4, 4)}), ["a ControlNet"]),
    "a VAE": (without("model.", "cond_stage_model."), ["a VAE"]),
    "an embedding": (holding({"emb_params": (2, 768)}), ["an embedding"]),
    "a diffusers UNet": (holding({"down_blocks.0.x": (2, 2)}), ["a UNet"]),
    "SD3": (holding({"model.diffusion_model.joint_blocks.0.x": (2, 2)}), ["SD3"]),
    "Flux": (holding({"double_blocks.0.x": (2, 2)}), ["Flux"]),
    "something": (holding({"x": (2, 2)}), ["not a checkpoint"]),
    "a first layer of no shape": (holding({FIRST: ()}), ["not a checkpoint"]),
    "half a file": (cut, ["cannot be read", "Download it again"]),
    "more than its tensors": (lambda path: path.write_bytes(path.read_bytes() + b"12345678"), ["cannot be read"]),
    "an LFS pointer": (
        text(b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 42\n"),
        ["cannot be read", "Git LFS"],
    ),
    "a web page": (text(b"<!DOCTYPE html><html>Log in</html>"), ["a web page"]),
    "a pickle": (text(b"PK\x03\x04" + b"\0" * 100 + b"data.pkl"), ["a pickle"]),
    "nothing": (text(b""), ["empty"]),
    "no VAE": (without("first_stage_model."), ["has no VAE"]),
    "half a VAE": (without("first_stage_model.encoder."), ["has no VAE"]),
    "no text encoder": (without("cond_stage_model."), ["has no text encoder"]),
    "neither": (without("cond_stage_model.", "first_stage_model."), ["has no text encoder and no VAE"]),
    "no yaml": (lambda path: path.with_suffix(".yaml").unlink(), ["does not fit its configuration", ".yaml"]),
    "a broken yaml": (lambda path: path.with_suffix(".yaml").write_text("a: ["), ["small.yaml"]),
    "a yaml that is a folder": (folder_as_yaml, ["small.yaml"]),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_file_that_cannot_be_loaded_is_named_with_the_reason(small, tmp_path, name):
    spoil, words = SPOILED[name]
    path = copied(small, tmp_path)
    spoil(path)
    (problem,) = check_checkpoint(path)
    assert problem.is_error
    assert problem.field == "checkpoint"
    assert problem.hint
    assert "small" in problem.message
    assert all(word in str(problem) for word in words), str(problem)
    # Training without a check before it gives the same message.
    with pytest.raises(HostError) as caught:
        load(path, device="cpu")
    assert caught.value.message == problem.message
    if "yaml" in name and name != "no yaml":
        with pytest.raises(HostError, match=r"small\.yaml"):
            load_tokenizer(path)


@pytest.mark.parametrize(
    ("family", "prefix", "words"),
    [
        ("sdxl", "conditioner.embedders.0.", "has no text encoder 1"),
        ("sdxl", "conditioner.embedders.1.model.token", "has no text encoder 2"),
        ("sdxl", "conditioner.embedders.1.", "SDXL refiner"),
        ("sdxl", "first_stage_model.", "has no VAE"),
        ("sd2", "cond_stage_model.", "has no text encoder"),
    ],
)
def test_missing_parts_of_every_family_are_reported(families, tmp_path, family, prefix, words):
    path = copied(families[family], tmp_path)
    without(prefix)(path)
    (problem,) = check_checkpoint(path)
    assert words in problem.message


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.SAFETENSORS.part", "none.safetensors"])
def test_other_files_are_not_opened(tmp_path, name):
    if not name.startswith("none"):
        (tmp_path / name).write_bytes(b"\x80\x02cos\nsystem\n")
    (problem,) = check_checkpoint(tmp_path / name)
    assert name in problem.message
    assert problem.hint


def without_part(name):
    return lambda folder: shutil.rmtree(folder / name)


def config(part, **values):
    def change(folder: Path) -> None:
        path = next((folder / part).glob("*config.json"))
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def weights(folder: Path, part: str) -> Path:
    return next((folder / part).glob("*.safetensors"))


FOLDERS = {
    "no VAE": (without_part("vae"), ["has no vae"]),
    "no UNet": (without_part("unet"), ["has no unet"]),
    "no text encoder": (without_part("text_encoder"), ["has no text_encoder"]),
    "no tokenizer": (without_part("tokenizer"), ["has no tokenizer"]),
    "no scheduler": (without_part("scheduler"), ["scheduler_config.json is missing"]),
    "no VAE and no tokenizer": (
        lambda folder: (shutil.rmtree(folder / "vae"), shutil.rmtree(folder / "tokenizer")),
        ["has no vae", "has no tokenizer"],
    ),
    "no weights": (lambda folder: weights(folder, "unet").unlink(), ["unet has no weights"]),
    "a part of several": (
        lambda folder: weights(folder, "unet").rename(
            folder / "unet" / "diffusion_pytorch_model-00001-of-00002.safetensors"
        ),
        ["unet has no weights"],
    ),
    "half of the weights": (
        lambda folder: cut(weights(folder, "vae")),
        ["vae/diffusion_pytorch_model", "cannot be read"],
    ),
    "an LFS pointer": (
        lambda folder: weights(folder, "text_encoder").write_text("version https://git-lfs.github.com/spec/v1\n"),
        ["text_encoder/model.safetensors", "cannot be read"],
    ),
    "an inpainting model": (config("unet", in_channels=9), ["inpainting"]),
    "another schedule": (config("scheduler", beta_schedule="linear"), ["noise schedule linear"]),
    "no schedule": (config("scheduler", beta_start=None), ["noise schedule"]),
    "a broken configuration": (lambda folder: (folder / "vae" / "config.json").write_text("["), ["vae/config.json"]),
    "no index": (lambda folder: (folder / "model_index.json").unlink(), ["is not a diffusers model"]),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_says_everything_that_is_wrong_with_it(small, tmp_path, name):
    spoil, words = FOLDERS[name]
    folder = tmp_path / "folder"
    shutil.copytree(small.folder, folder)
    spoil(folder)
    problems = check_checkpoint(folder)
    assert len(problems) == (2 if " and " in name else 1)
    assert all(any(word in str(problem) for problem in problems) for word in words), problems
    with pytest.raises(HostError):
        load(folder, device="cpu")


PARTS = {"unet": "conv_in.weight", "vae": "encoder.conv_in.weight", "text_encoder": "layers.1.mlp.fc1.weight"}


@pytest.mark.parametrize("part", PARTS)
def test_a_folder_with_a_tensor_missing_or_of_another_shape_is_not_loaded(small, tmp_path, part):
    """diffusers and transformers would go on with random values."""
    folder = tmp_path / "folder"
    shutil.copytree(small.folder, folder)
    path = weights(folder, part)
    tensors = load_file(path)
    (key,) = (name for name in tensors if name.endswith(PARTS[part]))
    value = tensors.pop(key)
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(HostError, match=rf"folder/{part} lacks weights, such as .*{PARTS[part]}") as caught:
        load(folder, device="cpu")
    assert caught.value.hint
    save_file({**tensors, key: value[1:].clone()}, path, {"format": "pt"})
    with pytest.raises(HostError, match="cannot be loaded"):
        load(folder, device="cpu")


def rename_weights(folder: Path, variant: str) -> None:
    for part in ("unet", "vae", "text_encoder"):
        path = weights(folder, part)
        path.rename(path.with_name(path.name.replace(".safetensors", f".{variant}.safetensors")))


@pytest.mark.parametrize("variant", ["fp16", "non_ema"])
def test_folders_whose_weights_are_a_variant_are_read(small, tmp_path, variant):
    folder = tmp_path / "folder"
    shutil.copytree(small.folder, folder)
    rename_weights(folder, variant)
    assert check_checkpoint(folder) == []
    plain, renamed = load_networks(small.folder), load_networks(folder)
    for name in ("unet", "vae"):
        states = [getattr(networks, name).state_dict() for networks in (plain, renamed)]
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    states = [networks.texts[0].model.state_dict() for networks in (plain, renamed)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_files_without_a_variant_come_first_then_fp16(small, tmp_path):
    folder = tmp_path / "unet"
    shutil.copytree(small.folder / "unet", folder)
    (path,) = folder.glob("*.safetensors")
    for variant in ("bf16", "fp16"):
        shutil.copy(path, path.with_name(f"diffusion_pytorch_model.{variant}.safetensors"))
    assert find_weights(folder) == ((path,), None)
    path.unlink()
    assert find_weights(folder).variant == "fp16"
    (folder / "diffusion_pytorch_model.fp16.safetensors").unlink()
    assert find_weights(folder).variant == "bf16"
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"a": "x-00001-of-00002.safetensors", "b": "x-00002-of-00002.safetensors"}})
    )
    files, variant = find_weights(folder)
    assert (variant, [item.name[:7] for item in files]) == (None, ["x-00001", "x-00002"])
    index.write_text("[]")
    with pytest.raises(HostError, match="index"):
        find_weights(folder)


def test_the_command_reports_it_before_the_long_work(small, tmp_path, capsys):
    write_images(tmp_path / "images", name="my_hero")
    path = copied(small, tmp_path)

    def ask():
        values = {
            "checkpoint": str(path),
            "data_folder": str(tmp_path / "images"),
            "concepts": [{"name": "my_hero", "init_text": "red circle"}],
            "output_name": "hero",
            "resolution": 64,
        }
        (tmp_path / "config.json").write_text(json.dumps(values))
        code = main(["train", str(tmp_path / "config.json"), "--out", str(tmp_path / "out"), "--check"])
        return code, capsys.readouterr().out

    assert ask()[0] == 0
    without("first_stage_model.")(path)
    code, said = ask()
    assert code == 2
    assert "error: checkpoint: small.safetensors has no VAE" in said
    assert "Not ready" in said
    path.write_bytes(b"<html>")
    assert ask()[0] == 2


@pytest.mark.timeout(20)
def test_only_the_header_of_a_large_file_is_read(small, tmp_path):
    path = copied(small, tmp_path)
    header_end = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8:header_end])
    size = path.stat().st_size - header_end
    # Thousands of names as SDXL has them, and 7 GiB that are not really on the disk.
    for number in range(3000):
        header[f"model_ema.x{number}"] = {"dtype": "F16", "shape": [0], "data_offsets": [size, size]}
    header["model_ema.y"] = {"dtype": "F16", "shape": [7 * 2**29], "data_offsets": [size, size + 7 * 2**30]}
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + size + 7 * 2**30)
    assert check_checkpoint(path) == []


def test_a_folder_of_bin_files_has_a_digest_of_its_own(tmp_path):
    """Another digest than that of any other folder, with and without .safetensors files."""
    networks = [
        Networks(tmp_path / str(number), "sd1", None, None, (), 1.0, torch.ones(1), False, 512) for number in range(3)
    ]
    for number, name in enumerate(("model.bin", "model.bin", "model.safetensors")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / name).write_bytes(b"%d" % number)
    assert len({item.digest for item in networks}) == 3
    # Where there are both, the .bin files are not read, so they do not count.
    (tmp_path / "2" / "model.bin").write_bytes(b"x")
    assert replace(networks[2]).digest == networks[2].digest


def test_the_family_of_anything_else_is_not_known(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("[]")
    (tmp_path / "file.safetensors").write_bytes(b"x")
    for path in (tmp_path, tmp_path / "file.safetensors", tmp_path / "none"):
        assert family_of_checkpoint(path) == ""
