"""Small checkpoints of every family with random weights; run by the webui's own Python.

``python random_checkpoint.py WEBUI FOLDER [FAMILY …]``; without families only SD1's, twice.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

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


SD2_TEXT = """\
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder
      params:
        arch: ViT-S-32-alt
        freeze: True
        layer: penultimate
"""

SDXL = """\
model:
  target: sgm.models.diffusion.DiffusionEngine
  params:
    scale_factor: 0.13025
    disable_first_stage_autocast: True
    denoiser_config:
      target: sgm.modules.diffusionmodules.denoiser.DiscreteDenoiser
      params:
        num_idx: 1000
        weighting_config:
          target: sgm.modules.diffusionmodules.denoiser_weighting.EpsWeighting
        scaling_config:
          target: sgm.modules.diffusionmodules.denoiser_scaling.EpsScaling
        discretization_config:
          target: sgm.modules.diffusionmodules.discretizer.LegacyDDPMDiscretization
    network_config:
      target: sgm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        adm_in_channels: 1792
        num_classes: sequential
        use_checkpoint: True
        in_channels: 4
        out_channels: 4
        model_channels: 32
        attention_resolutions: [4, 2]
        num_res_blocks: 2
        channel_mult: [1, 2, 4]
        num_head_channels: 16
        use_spatial_transformer: True
        use_linear_in_transformer: True
        transformer_depth: [1, 1, 2]
        context_dim: 320
        spatial_transformer_attn_type: softmax
        legacy: False
    conditioner_config:
      target: sgm.modules.GeneralConditioner
      params:
        emb_models:
          - is_trainable: False
            input_key: txt
            target: sgm.modules.encoders.modules.FrozenCLIPEmbedder
            params:
              version: {text}
              layer: hidden
              layer_idx: 2
          - is_trainable: False
            input_key: txt
            target: sgm.modules.encoders.modules.FrozenOpenCLIPEmbedder2
            params:
              arch: ViT-S-32-alt
              version: laion2b_s39b_b160k
              freeze: True
              layer: penultimate
              always_return_pooled: True
              legacy: False
{sizes}
    first_stage_config:
      target: sgm.models.autoencoder.AutoencoderKLInferenceWrapper
      params:
        embed_dim: 4
        monitor: val/rec_loss
        ddconfig:
          attn_type: vanilla
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
"""
SIZES = "".join(
    f"""\
          - is_trainable: False
            input_key: {key}
            target: sgm.modules.encoders.modules.ConcatTimestepEmbedderND
            params:
              outdim: 256
"""
    for key in ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple")
).rstrip()


def config_of(family: str, text: Path) -> str:
    """The ``.yaml`` of a family; ``text`` is the folder with CLIP's tokenizer and the first encoder's shape."""
    if family == "sdxl":
        return SDXL.replace("{text}", str(text)).replace("{sizes}", SIZES)
    if family == "sd2":
        # SD2's own: velocity, heads of one width, Linear layers around the transformer blocks.
        shaped = CONFIG[: CONFIG.index("    cond_stage_config")] + SD2_TEXT
        shaped = shaped.replace("num_heads: 4", "num_head_channels: 16\n        use_linear_in_transformer: True")
        shaped = shaped.replace("context_dim: 64", "context_dim: 256")
        return shaped.replace("    num_timesteps_cond: 1", '    parameterization: "v"\n    num_timesteps_cond: 1')
    return CONFIG.replace("{text}", str(text))


def networks_of(family: str, params: Any) -> dict[str, Any]:
    """Prefix in the checkpoint → network."""
    import open_clip
    from ldm.models.autoencoder import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel

    shape = params.network_config.params if family == "sdxl" else params.unet_config.params
    if family == "sdxl":
        from sgm.modules.diffusionmodules.openaimodel import UNetModel
    else:
        from ldm.modules.diffusionmodules.openaimodel import UNetModel
    first_stage = dict(params.first_stage_config.params)
    first_stage.pop("monitor", None)
    first_stage["ddconfig"] = {key: value for key, value in first_stage["ddconfig"].items() if key != "attn_type"}
    parts = {
        "model.diffusion_model.": UNetModel(**shape),
        "first_stage_model.": AutoencoderKL(**first_stage),
    }
    if family != "sd1":
        model = open_clip.create_model("ViT-S-32-alt")
        del model.visual
        parts["conditioner.embedders.1.model." if family == "sdxl" else "cond_stage_model.model."] = model
    if family != "sd2":
        prefix = "conditioner.embedders.0.transformer." if family == "sdxl" else "cond_stage_model.transformer."
        parts[prefix] = CLIPTextModel(CLIPTextConfig(**TEXT))
    return parts


def write_checkpoint(folder: Path, family: str) -> None:
    """Random weights in LDM keys and a yaml next to them: ``FAMILY``; for SD1 ``random`` and ``other``."""
    import torch
    from omegaconf import OmegaConf
    from safetensors.torch import save_file

    if not (folder / "text").exists():
        write_tokenizer(folder / "text")
    text = config_of(family, folder / "text")
    torch.manual_seed(0)
    tensors = {}
    for prefix, module in networks_of(family, OmegaConf.create(text).model.params).items():
        for name, tensor in module.state_dict().items():
            if name.endswith("position_ids"):
                continue
            # Layers that start at zero would hide everything behind them, and a text whose mean is exactly
            # zero makes the webui's emphasis divide by it.
            is_zero = tensor.is_floating_point() and not tensor.any()
            filled = torch.randn_like(tensor) * 0.05 if is_zero else tensor
            tensors[prefix + name] = filled.half().contiguous()
    names = {"random": 1.0, "other": 1.01} if family == "sd1" else {family: 1.0}
    for name, factor in names.items():
        changed = {key: tensor * factor for key, tensor in tensors.items()}
        save_file(changed, str(folder / f"{name}.safetensors"))
        (folder / f"{name}.yaml").write_text(text)


if __name__ == "__main__":
    webui, target = Path(sys.argv[1]), Path(sys.argv[2])
    repositories = webui / "repositories"
    sys.path[:0] = [str(repositories / name) for name in ("stable-diffusion-stability-ai", "generative-models")]
    for wanted in sys.argv[3:] or ["sd1"]:
        write_checkpoint(target, wanted)
