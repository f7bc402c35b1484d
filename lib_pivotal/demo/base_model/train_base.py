"""How the two base models were made: ``python -m lib_pivotal.demo.base_model.train_base --work DIR``.

Draws the world, trains the VAE, base A and base B one after the other, and writes the weights that are part of this
package. Stages that are finished in DIR are not repeated. Takes about two hours on two CPU cores.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.demo.assets import BASE_A, BASE_B_UNET
from lib_pivotal.demo.base_model.networks import make_text_encoder, make_unet
from lib_pivotal.demo.base_model.train_unet import Drawn, draw_latents, train_unet
from lib_pivotal.demo.base_model.train_vae import train_vae
from lib_pivotal.host.diffusers.ldm_keys import to_ldm
from lib_pivotal.host.diffusers.tokenizer import write_tokenizer

_IMAGES_A = 10_000
_IMAGES_B = 6_000


def main() -> None:
    """Run the stages that are not finished yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate results")
    parser.add_argument("--steps-a", type=int, default=3000)
    parser.add_argument("--steps-b", type=int, default=600)
    parser.add_argument("--batch", type=int, default=128)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    write_tokenizer(work / "clip")
    tokenizer = CLIPTokenizer.from_pretrained(work / "clip")

    def tokenize(captions: Sequence[str], length: int) -> torch.Tensor:
        rows = tokenizer(list(captions), padding="max_length", max_length=length, truncation=True)
        return torch.tensor(rows["input_ids"])

    vae = train_vae(work / "vae.safetensors", device=device).eval()
    unet, text = make_unet(), make_text_encoder()

    def write_a(step: int) -> None:
        write_base_a(unet.state_dict(), vae.state_dict(), text)
        save_file(_plain(unet.state_dict()), work / "a-unet.safetensors")
        save_file(_plain(text.state_dict()), work / "a-text.safetensors")

    if not (work / "a.done").exists():
        drawn = _drawn(work / "latents-a.pt", vae, "a", _IMAGES_A, device)
        train_unet(
            unet, text, drawn, tokenize, steps=options.steps_a, batch=options.batch, lr=1e-3, trains_text=True,
            device=device, keep=work / "a.part", snapshot=write_a,
        )  # fmt: skip
        write_a(options.steps_a)
        (work / "a.done").touch()
    unet.load_state_dict(load_file(work / "a-unet.safetensors"))
    text.load_state_dict(load_file(work / "a-text.safetensors"))

    def write_b(step: int) -> None:
        write_base_b(unet.state_dict())

    drawn = _drawn(work / "latents-b.pt", vae, "b", _IMAGES_B, device)
    train_unet(
        unet, text, drawn, tokenize, steps=options.steps_b, batch=options.batch, lr=5e-4, trains_text=False,
        device=device, keep=work / "b.part", snapshot=write_b,
    )  # fmt: skip
    write_b(options.steps_b)


def write_base_a(unet: Mapping[str, torch.Tensor], vae: Mapping[str, torch.Tensor], text: CLIPTextModel) -> None:
    """Write base A's checkpoint: LDM keys, fp16."""
    names = {name.removeprefix("text_model."): value for name, value in text.state_dict().items()}
    nested = {f"text_model.{name}": value for name, value in names.items() if not name.endswith("position_ids")}
    _write_half(BASE_A, to_ldm(unet, vae, nested, "sd1"))


def write_base_b(unet: Mapping[str, torch.Tensor]) -> None:
    """Write base B's UNet: LDM keys, fp16."""
    _write_half(BASE_B_UNET, to_ldm(unet, {}, {}, "sd1"))


def _write_half(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    with replacing(path) as partial:
        save_file({key: value.detach().half().contiguous().cpu() for key, value in tensors.items()}, partial)


def _drawn(path: Path, vae: torch.nn.Module, style: str, count: int, device: str) -> Drawn:
    if path.exists():
        return torch.load(path, weights_only=False)  # type: ignore[no-any-return]
    drawn = draw_latents(vae, style, count, seed=ord(style), device=device)  # type: ignore[arg-type]
    torch.save(drawn, path)
    return drawn


def _plain(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone().contiguous().cpu() for name, value in state.items()}


if __name__ == "__main__":
    main()
