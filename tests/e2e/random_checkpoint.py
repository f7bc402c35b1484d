"""A small SD1-shaped checkpoint with random weights; run by the webui's own Python.

Used where the demo's trained one is not at hand: ``python random_checkpoint.py WEBUI FOLDER``.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

TEXT = {
    "vocab_size": 49408,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 1,
    "projection_dim": 64,
}

CONFIG = """\
model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.00085
    linear_end: 0.0120
    num_timesteps_cond: 1
    timesteps: 1000
    first_stage_key: jpg
    cond_stage_key: txt
    image_size: 8
    channels: 4
    conditioning_key: crossattn
    scale_factor: 0.18215
    use_ema: False
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        image_size: 8
        in_channels: 4
        out_channels: 4
        model_channels: 32
        attention_resolutions: [4, 2, 1]
        num_res_blocks: 2
        channel_mult: [1, 2, 4, 4]
        num_heads: 4
        use_spatial_transformer: True
        transformer_depth: 1
        context_dim: 64
        use_checkpoint: False
        legacy: False
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
          ch: 32
          ch_mult: [1, 2, 2, 2]
          num_res_blocks: 1
          attn_resolutions: []
          dropout: 0.0
        lossconfig:
          target: torch.nn.Identity
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenCLIPEmbedder
      params:
        version: {text}
"""


def write_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer files from the BPE file in open_clip."""
    import open_clip

    packed = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(packed.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    symbols = list(open_clip.tokenizer.bytes_to_unicode().values())
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), *("".join(line.split()) for line in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    special["pad_token"] = "<|endoftext|>"
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    options = {"model_max_length": 77, "do_lower_case": True, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    (folder / "config.json").write_text(json.dumps({"model_type": "clip_text_model", **TEXT}))


def write_checkpoint(folder: Path) -> Path:
    """Random weights in LDM keys, twice (``random``, ``other``), a yaml beside each, the text folder below."""
    import torch
    from ldm.models.autoencoder import AutoencoderKL
    from ldm.modules.diffusionmodules.openaimodel import UNetModel
    from omegaconf import OmegaConf
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    write_tokenizer(folder / "text")
    text = CONFIG.replace("{text}", str(folder / "text"))
    params = OmegaConf.create(text).model.params
    torch.manual_seed(0)
    parts = {
        "model.diffusion_model.": UNetModel(**params.unet_config.params),
        "first_stage_model.": AutoencoderKL(**params.first_stage_config.params),
        "cond_stage_model.transformer.": CLIPTextModel(CLIPTextConfig(**TEXT)),
    }
    tensors = {}
    for prefix, module in parts.items():
        for name, tensor in module.state_dict().items():
            if name.endswith("position_ids"):
                continue
            # Layers that start at zero would hide everything behind them, and a text whose mean is exactly
            # zero makes the webui's emphasis divide by it.
            is_zero = tensor.is_floating_point() and not tensor.any()
            filled = torch.randn_like(tensor) * 0.05 if is_zero else tensor
            tensors[prefix + name] = filled.half().contiguous()
    path = folder / "random.safetensors"
    for name, factor in (("random", 1.0), ("other", 1.01)):
        changed = {key: tensor * factor for key, tensor in tensors.items()}
        save_file(changed, str(folder / f"{name}.safetensors"))
        (folder / f"{name}.yaml").write_text(text)
    return path


if __name__ == "__main__":
    webui, target = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path[:0] = [str(webui / "repositories" / name) for name in ("stable-diffusion-stability-ai",)]
    sys.stdout.write(str(write_checkpoint(target)) + "\n")
