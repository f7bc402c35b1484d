"""Module path ↔ kohya key for the UNets of SD1, SD2 and SDXL and their text encoders.

Two layouts of the same UNet exist: LDM's (``input_blocks.1.1…``, in webuis and checkpoints) and
diffusers' (``down_blocks.0.attentions.0…``). Kohya's keys are the diffusers path with underscores, for SDXL the LDM
path. Text encoders come as transformers' (``encoder.layers.0.self_attn.q_proj``) and as open_clip's
(``transformer.resblocks.0.attn``); keys are always those of transformers.
"""

from __future__ import annotations

from lib_pivotal.core.families import FAMILIES, Family

__all__ = ["diffusers_to_ldm", "kohya_key", "ldm_to_diffusers", "open_clip_to_hf", "role_of"]

_BLOCKS_PER_LEVEL = 3
"""Entries of ``input_blocks``/``output_blocks`` per level: two ResNet blocks and one more.

Host: extensions-builtin/Lora/networks.py, convert_diffusers_name_to_compvis, A1111 1.6.1-1.10.1: the same
number is hard-coded there.
"""

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_RESNET_BACK = {value: key for key, value in _RESNET.items()}

_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_ENDS_BACK = {value: key for key, value in _ENDS.items()}


def ldm_to_diffusers(path: str) -> str:
    """Diffusers path of a UNet module.

    Args:
        path: module path below ``diffusion_model``, e.g. ``input_blocks.1.1.proj_in``.

    Raises:
        ValueError: the path does not exist in UNets of Stable Diffusion 1, 2 and XL.
    """
    if path in _ENDS:
        return _ENDS[path]
    parts = path.split(".")
    try:
        if parts[0] == "input_blocks":
            return _down(int(parts[1]), parts[2], parts[3:])
        if parts[0] == "middle_block":
            return _middle(int(parts[1]), parts[2:])
        if parts[0] == "output_blocks":
            return _up(int(parts[1]), parts[2], parts[3:])
    except (IndexError, KeyError):
        pass
    raise ValueError(f"{path} is not a module of a Stable Diffusion UNet")


def _down(number: int, slot: str, rest: list[str]) -> str:
    level, layer = divmod(number - 1, _BLOCKS_PER_LEVEL)
    if rest == ["op"]:
        return f"down_blocks.{level}.downsamplers.0.conv"
    if slot == "0":
        return f"down_blocks.{level}.resnets.{layer}.{_RESNET['.'.join(rest)]}"
    return ".".join([f"down_blocks.{level}.attentions.{layer}", *rest])


def _middle(slot: int, rest: list[str]) -> str:
    if slot == 1:
        return ".".join(["mid_block.attentions.0", *rest])
    return f"mid_block.resnets.{slot // 2}.{_RESNET['.'.join(rest)]}"


def _up(number: int, slot: str, rest: list[str]) -> str:
    level, layer = divmod(number, _BLOCKS_PER_LEVEL)
    if rest == ["conv"]:
        return f"up_blocks.{level}.upsamplers.0.conv"
    if slot == "0":
        return f"up_blocks.{level}.resnets.{layer}.{_RESNET['.'.join(rest)]}"
    return ".".join([f"up_blocks.{level}.attentions.{layer}", *rest])


def diffusers_to_ldm(path: str, family: str) -> str:
    """LDM path of a UNet module; the inverse of :func:`ldm_to_diffusers`.

    Args:
        path: diffusers module path, e.g. ``down_blocks.0.attentions.0.proj_in``.
        family: name of a family, see ``core.families``.

    Raises:
        ValueError: the path does not exist in UNets of Stable Diffusion 1, 2 and XL.
    """
    if path in _ENDS_BACK:
        return _ENDS_BACK[path]
    parts = path.split(".")
    try:
        if parts[0] == "mid_block":
            rest = parts[3:]
            if parts[1] == "attentions":
                return ".".join(["middle_block.1", *rest])
            return f"middle_block.{2 * int(parts[2])}.{_RESNET_BACK['.'.join(rest)]}"
        if parts[0] in ("down_blocks", "up_blocks"):
            return _side(parts[0] == "down_blocks", int(parts[1]), parts[2], int(parts[3]), parts[4:], FAMILIES[family])
    except (IndexError, KeyError):
        pass
    raise ValueError(f"{path} is not a module of a Stable Diffusion UNet")


def _side(is_down: bool, level: int, kind: str, layer: int, rest: list[str], family: Family) -> str:
    block = f"input_blocks.{_BLOCKS_PER_LEVEL * level + layer + 1}"
    if not is_down:
        block = f"output_blocks.{_BLOCKS_PER_LEVEL * level + layer}"
    if kind == "attentions":
        return ".".join([f"{block}.1", *rest])
    if kind == "resnets":
        return f"{block}.0.{_RESNET_BACK['.'.join(rest)]}"
    if kind == "downsamplers":
        return f"input_blocks.{_BLOCKS_PER_LEVEL * (level + 1)}.0.op"
    if kind == "upsamplers":
        # Without attention blocks the upsampler comes right after the ResNet block.
        slot = 2 if level > 0 or family.has_lowest_attention else 1
        return f"output_blocks.{_BLOCKS_PER_LEVEL * level + _BLOCKS_PER_LEVEL - 1}.{slot}.conv"
    raise KeyError(kind)


def kohya_key(part: str, path: str, family: str) -> str:
    """The key under which a layer's LoRA is stored, without suffix.

    Args:
        part: ``"unet"`` or an encoder's name.
        path: diffusers path below the UNet, or transformers' path of a text encoder's module beginning with
            ``text_model.``.
        family: name of a family, see ``core.families``.

    Raises:
        ValueError: the family does not have this part, or its UNet does not have this path.
    """
    kind = FAMILIES[family]
    if part == "unet":
        return "lora_unet_" + (diffusers_to_ldm(path, family) if kind.has_ldm_keys else path).replace(".", "_")
    for encoder in kind.text_encoders:
        if encoder.name == part:
            return encoder.lora_prefix + path.replace(".", "_")
    raise ValueError(f"{kind.title} has no part {part}")


_OPEN_CLIP = {
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
}


def open_clip_to_hf(path: str) -> str:
    """Transformers' path, with ``text_model.``, of a module in a layer of an open_clip text encoder.

    Args:
        path: such as ``transformer.resblocks.3.mlp.c_fc``. The attention's packed input projection has no module;
            ``attn.q``, ``attn.k`` and ``attn.v`` name its parts.

    Raises:
        ValueError: any other path.
    """
    parts = path.split(".")
    rest = ".".join(parts[3:])
    if parts[:2] == ["transformer", "resblocks"] and len(parts) > 3:
        layer = f"text_model.encoder.layers.{parts[2]}"
        if rest in _OPEN_CLIP:
            return f"{layer}.{_OPEN_CLIP[rest]}"
        if rest in ("attn.q", "attn.k", "attn.v"):
            return f"{layer}.self_attn.{rest[-1]}_proj"
    raise ValueError(f"{path} is not in a layer of an open_clip text encoder")


def role_of(path: str, kernel: int) -> str:
    """The kind of layer of a diffusers path, see ``ports.LoraTarget.role``.

    Args:
        path: diffusers path below the UNet, or text model path.
        kernel: side of the convolution kernel, 1 for Linear layers.
    """
    if ".attn1." in path or ".attn2." in path or ".self_attn." in path:
        return "attention"
    if ".ff." in path or ".mlp." in path:
        return "feed_forward"
    if path.endswith((".proj_in", ".proj_out")):
        return "projection"
    if kernel > 1 or ".resnets." in path:
        return "conv"
    return "other"
