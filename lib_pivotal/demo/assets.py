"""From the embedded weights to complete checkpoints for a webui and the headless host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file

from lib_pivotal.core.atomic_file import replacing
from lib_pivotal.demo.shapes import LATENT_SCALE, TEXT_WIDTH, UNET_WIDTHS, VAE_WIDTHS, text_config
from lib_pivotal.host.diffusers.tokenizer import write_tokenizer

__all__ = ["BASE_A", "BASE_B_UNET", "Bases", "materialize"]

_HERE = Path(__file__).parent
BASE_A = _HERE / "base_a.safetensors"
"""A complete checkpoint in SD1's layout, fp16."""
BASE_B_UNET = _HERE / "base_b_unet.safetensors"
"""The UNet of base B, fp16; its text encoder and VAE are base A's."""


@dataclass(frozen=True)
class Bases:
    """Checkpoint files of the two base models, each with a .yaml next to it, and the folder of their tokenizer."""

    a: Path
    b: Path
    tokenizer: Path


def materialize(folder: Path) -> Bases:
    """Write both checkpoints, their .yaml files and the tokenizer's folder into ``folder``, unless they are there.

    Raises:
        PivotalError: the package with the tokenizer's vocabulary is missing.
    """
    folder = folder.resolve()
    bases = Bases(
        folder / "pivotal-demo-a.safetensors", folder / "pivotal-demo-b.safetensors", folder / "pivotal-demo-clip"
    )
    if not (bases.tokenizer / "config.json").exists():
        write_tokenizer(bases.tokenizer)
        (bases.tokenizer / "config.json").write_text(json.dumps(text_config(), indent=2), encoding="utf-8")
    for path, sources in ((bases.a, [BASE_A]), (bases.b, [BASE_A, BASE_B_UNET])):
        newest = max(source.stat().st_mtime for source in sources)
        # Both checkpoints have the shapes of base A.
        if not path.exists() or path.stat().st_size != BASE_A.stat().st_size or path.stat().st_mtime < newest:
            with replacing(path) as partial:
                save_file({key: value for source in sources for key, value in load_file(source).items()}, partial)
        with replacing(path.with_suffix(".yaml")) as partial:
            partial.write_text(_YAML.format(tokenizer=bases.tokenizer.as_posix(), **_shapes()), encoding="utf-8")
    return bases


def _shapes() -> dict[str, object]:
    return {
        "scale": LATENT_SCALE,
        "unet_width": UNET_WIDTHS[0],
        "unet_mult": [width // UNET_WIDTHS[0] for width in UNET_WIDTHS],
        "text_width": TEXT_WIDTH,
        "vae_width": VAE_WIDTHS[0],
        "vae_mult": [width // VAE_WIDTHS[0] for width in VAE_WIDTHS],
    }


_YAML = """\
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.00085
    linear_end: 0.012
    timesteps: 1000
    first_stage_key: jpg
    cond_stage_key: txt
    image_size: 8
    channels: 4
    cond_stage_trainable: false
    conditioning_key: crossattn
    scale_factor: {scale}
    use_ema: false
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        image_size: 8
        in_channels: 4
        out_channels: 4
        model_channels: {unet_width}
        attention_resolutions: [4, 2, 1]
        num_res_blocks: 2
        channel_mult: {unet_mult}
        num_heads: 8
        use_spatial_transformer: true
        transformer_depth: 1
        context_dim: {text_width}
        use_checkpoint: false
        legacy: false
    first_stage_config:
      target: ldm.models.autoencoder.AutoencoderKL
      params:
        embed_dim: 4
        ddconfig:
          double_z: true
          z_channels: 4
          resolution: 64
          in_channels: 3
          out_ch: 3
          ch: {vae_width}
          ch_mult: {vae_mult}
          num_res_blocks: 1
          attn_resolutions: []
          dropout: 0.0
        lossconfig:
          target: torch.nn.Identity
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenCLIPEmbedder
      params:
        version: "{tokenizer}"
"""
