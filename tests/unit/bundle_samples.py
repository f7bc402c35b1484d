"""Bundle files as each known program writes them, from made-up vectors; keys only, nobody's code."""

from __future__ import annotations

import torch

__all__ = ["LORA", "WRITERS", "flat", "sd1", "sdxl"]


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
