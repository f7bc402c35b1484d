"""Bundle files as each known program writes them, from made-up vectors; keys only, nobody's code."""

from __future__ import annotations

import torch

__all__ = ["LORA", "NETWORKS", "WRITERS", "flat", "network", "sd1", "sdxl"]


def _table(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 0.02


def sd1(count: int = 3, seed: int = 1) -> torch.Tensor:
    """Vectors of CLIP-L."""
    return _table(count, 768, seed)


def sdxl(count: int = 3, seed: int = 1) -> dict[str, torch.Tensor]:
    """Vectors of both encoders of SDXL."""
    return {"clip_l": _table(count, 768, seed), "clip_g": _table(count, 1280, seed + 100)}


def flat(count: int = 3, seed: int = 1) -> torch.Tensor:
    """The same side by side."""
    return torch.cat([sdxl(count, seed)["clip_l"], sdxl(count, seed)["clip_g"]], dim=1)


LORA = {
    "lora_unet_a.lora_down.weight": _table(4, 8, 50).half(),
    "lora_unet_a.lora_up.weight": _table(8, 4, 51).half(),
    "lora_unet_a.alpha": torch.tensor(2.0),
}
_L, _X = {"clip_l": sd1()}, sdxl()
_OUT = {"zog.clip_l_out": sd1(3, 9), "zog.clip_g_out": _table(3, 1280, 9)}

# Writer → tensors without the prefix, metadata, what the reader makes of it, how many keys are left unused.
WRITERS = {
    "LyCORIS from A1111 .pt": ({"zog.string_to_param.*": sd1()}, {}, {"zog": _L}, 0),
    "LyCORIS from kohya": ({"zog.emb_params": sd1()}, {}, {"zog": _L}, 0),
    "LyCORIS SDXL": ({"zog.clip_l": _X["clip_l"], "zog.clip_g": _X["clip_g"]}, {}, {"zog": _X}, 0),
    "kohya's proposal": ({"zog.string_to_param.*": sd1(), "b.string_to_param.*": sd1(1, 4)}, {},
                         {"zog": _L, "b": {"clip_l": sd1(1, 4)}}, 0),
    "OneTrainer SD1": ({"<embedding>.clip_l": sd1()}, {}, {"<embedding>": _L}, 0),
    "OneTrainer SD1 with output": ({"zog.clip_l": sd1(), "zog.clip_l_out": sd1(3, 9)}, {}, {"zog": _L}, 1),
    "OneTrainer SDXL with output": ({**{f"zog.{end}": value for end, value in _X.items()}, **_OUT}, {}, {"zog": _X}, 2),
    "OneTrainer SD3": ({**{f"zog.{end}": value for end, value in _X.items()}, "zog.t5": _table(3, 4096, 3)}, {},
                       {"zog": _X}, 1),
    "OneTrainer Flux": ({"zog.clip_l": sd1(), "zog.t5": _table(3, 4096, 3)}, {}, {"zog": _L}, 1),
    "OneTrainer output only": (_OUT, {}, {}, 2),
    "OneTrainer PixArt": ({"zog.t5": _table(3, 4096, 3), "zog.t5_out": _table(3, 4096, 3)}, {}, {}, 2),
    "OneTrainer HiDream": ({**{f"zog.{end}": value for end, value in _X.items()}, "zog.llama": _table(3, 4096, 3)}, {},
                           {"zog": _X}, 1),
    "OneTrainer Sana": ({"zog.gemma": _table(3, 2304, 3)}, {}, {}, 1),
    "OneTrainer Wuerstchen": ({"zog.clip_g": _X["clip_g"]}, {}, {"zog": {"clip_g": _X["clip_g"]}}, 0),
    "HCP SDXL through LyCORIS": ({"zog.string_to_param.*": flat()}, {}, {"zog": _X}, 0),
    "HCP safetensors": ({"zog.string_to_param:*": flat()}, {}, {"zog": _X}, 0),
    "one row without a side": ({"zog.emb_params": sd1(1)[0]}, {}, {"zog": {"clip_l": sd1(1)}}, 0),
    "SD2": ({"zog.string_to_param.*": _table(2, 1024, 3)}, {}, {"zog": {"clip_l": _table(2, 1024, 3)}}, 0),
    "dots": ({"v1.0.emb_params": sd1(), "a.b.c.string_to_param.*": sd1(1, 2), "a.b.string_to_param.x.y": sd1(1, 3)}, {},
             {"v1.0": _L, "a.b.c": {"clip_l": sd1(1, 2)}, "a.b": {"clip_l": sd1(1, 3)}}, 0),
    "dots in SDXL": ({"v1.0.clip_l": _X["clip_l"], "v1.0.clip_g": _X["clip_g"], "v1.1.clip_l": sd1(1, 2)}, {},
                     {"v1.0": _X, "v1.1": {"clip_l": sd1(1, 2)}}, 0),
}  # fmt: skip


_ATTENTION = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
_DOTTED = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2"


def _weights(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def network(name: str, **shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Random tensors of one layer; ``__`` in a keyword stands for the dot that Python does not allow there."""
    return {
        f"{name}.{suffix.replace('__', '.')}": _weights(*shape, seed=number)
        for number, (suffix, shape) in enumerate(shapes.items())
    }


# Title → one layer of 768 inputs and 320 outputs as the programs write it, its rank, who reads it.
NETWORKS = {
    "LoRA": (network(_ATTENTION, lora_down__weight=(4, 768), lora_up__weight=(320, 4)), 4, "all webuis"),
    "LoCon": (network("lora_unet_x", lora_down__weight=(4, 8, 3, 3), lora_up__weight=(8, 4, 1, 1)), 4, "all webuis"),
    "LoHa": (
        network(_ATTENTION, hada_w1_a=(320, 4), hada_w1_b=(4, 768), hada_w2_a=(320, 4), hada_w2_b=(4, 768)), 4,
        "all webuis",
    ),
    "LoKr": (network(_ATTENTION, lokr_w1=(16, 16), lokr_w2_a=(20, 2), lokr_w2_b=(2, 48)), 2, "all webuis"),
    "LoKr (whole)": (network(_ATTENTION, lokr_w1=(16, 16), lokr_w2=(20, 48)), None, "all webuis"),
    "DoRA": (
        network(_ATTENTION, lora_down__weight=(4, 768), lora_up__weight=(320, 4), dora_scale=(1, 768)), 4,
        "A1111 from 1.10 on",
    ),
    "DoRA (by output)": (
        network(_ATTENTION, lora_down__weight=(4, 768), lora_up__weight=(320, 4), dora_scale=(320, 1)), 4,
        "wrong results",
    ),
    "LoHa with DoRA": (
        network(_ATTENTION, hada_w1_a=(320, 4), hada_w1_b=(4, 768), hada_w2_a=(320, 4), hada_w2_b=(4, 768),
                dora_scale=(1, 768)), 4, "A1111 from 1.10 on",
    ),
    "OFT": (network("lora_unet_x", oft_blocks=(4, 8, 8)), None, "Forge ignores it"),
    "OFT (kohya)": (network("oft_unet_x", oft_blocks=(4, 8, 8), alpha=()), None, "Forge ignores it"),
    "BOFT": (network("lora_unet_x", oft_blocks=(2, 4, 8, 8)), None, "Forge ignores it"),
    "OFT (OneTrainer)": (network("lora_unet_x", oft_R__weight=(4, 28)), None, "no webui"),
    "GLoRA": (
        network("lora_unet_x", a1__weight=(4, 32), a2__weight=(32, 4), b1__weight=(4, 32), b2__weight=(32, 4)), None,
        "A1111 fails",
    ),
    "IA3": (
        {**network("lora_unet_x", weight=(32, 1)), "lora_unet_x.on_input": torch.tensor(False)}, None,
        "Forge ignores it",
    ),
    "full": (network(_ATTENTION, diff=(320, 768), diff_b=(320,)), None, "all webuis"),
    "norm": (network("lora_unet_x", w_norm=(32,), b_norm=(32,)), None, "all webuis"),
    "PEFT LoRA": (network(f"{_DOTTED}.to_k", lora_A__weight=(4, 768), lora_B__weight=(320, 4)), 4, "no webui"),
    "PEFT LoRA (with the adapter's name)": (
        network(f"{_DOTTED}.to_k", lora_A__default__weight=(4, 768), lora_B__default__weight=(320, 4)), 4, "no webui",
    ),
    "PEFT LoRA (ComfyUI's names)": (
        network("diffusion_model.input_blocks.1.1.attn2.to_k", lora_A__weight=(4, 768), lora_B__weight=(320, 4)), 4,
        "not A1111",
    ),
    "diffusers LoRA": (
        network(f"{_DOTTED}.to_k", lora__down__weight=(4, 768), lora__up__weight=(320, 4)), 4, "no webui",
    ),
    "diffusers LoRA (text encoder)": (
        network("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", lora_linear_layer__down__weight=(4, 768),
                lora_linear_layer__up__weight=(768, 4)), 4, "no webui",
    ),
    "old diffusers LoRA": (
        network(f"{_DOTTED}.processor", to_k_lora__down__weight=(4, 768), to_k_lora__up__weight=(320, 4)), 4,
        "not A1111",
    ),
    "positional LoRA (cloneofsimo)": (
        {"unet:0:down": _weights(4, 8), "unet:0:up": _weights(8, 4)}, None, "no webui",
    ),
}  # fmt: skip
