"""What differs between Forge and Forge-Neo for forge_engine_checks.py, which has all that is the same.

Imports nothing of a webui before the stubs are in place, so such imports are inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.e2e.server import kind_of

__all__ = ["ForgeKind", "kind_at"]


class ForgeKind:
    """Forge.

    Attributes:
        packages: folders with the webui's own packages, below its source.
        argument: with which it uses the CPU.
        unknown_prediction: a kind of prediction that it knows and training does not.
        memory_for_nothing: given to ``LoadedModel.model_load``, keeps all weights in main memory.

    Args:
        tree: its source.
    """

    packages = ("packages_3rdparty", "repositories/huggingface_guess")
    argument = "--always-cpu"
    unknown_prediction = "edm"
    memory_for_nothing: float = 0

    def __init__(self, tree: Path) -> None:
        self.tree = tree

    def stubs(self) -> dict[str, dict[str, Any]]:
        """Name of a module of the webui → what the stub has in its place.

        Host: modules_forge/main_entry.py, ``ui_forge_inference_memory``, Forge: the slider "GPU Weights".
        """
        return {
            "modules_forge": {"__path__": []},
            "modules_forge.main_entry": {
                "refresh_model_loading_parameters": lambda: None,
                "ui_forge_inference_memory": None,
            },
        }

    def prepare(self) -> None:
        """Set what the webui sets before it loads a checkpoint.

        Host: backend/args.py, ``dynamic_args``, Forge: a dict.
        """
        from backend.args import dynamic_args

        dynamic_args.update(embedding_dir=None, emphasis_name="Original")

    def engines(self) -> dict[str, Any]:
        """Family → class of its model."""
        from backend.diffusion_engine import sd15, sd20, sdxl

        return {"sd1": sd15.StableDiffusion, "sd2": sd20.StableDiffusion2, "sdxl": sdxl.StableDiffusionXL}

    def config(self, _family: str) -> Any:
        """What the webui has guessed about a checkpoint."""
        return SimpleNamespace(inpaint_model=lambda: False, ztsnr=False)

    def complete(self, network: Any) -> None:
        """Give Linear layers their weights.

        Host: backend/operations.py, ``ForgeOperations.Linear``, Forge: has none until a checkpoint is loaded into it.
        """
        import torch

        for name, module in network.named_modules():
            if type(module).__name__ == "Linear" and module.weight is None:
                shape, dtype = (module.out_features, module.in_features), module.dummy.dtype
                module.weight = torch.nn.Parameter(torch.empty(shape, dtype=dtype))
                has_bias = not name.endswith(("to_q", "to_k", "to_v", "text_projection"))
                module.bias = torch.nn.Parameter(torch.empty(shape[0], dtype=dtype)) if has_bias else None
                del module.dummy

    def latent(self, vae: Any, pixels: Any, noise: Any) -> Any:
        """The webui's latent of an image, with given noise.

        Host: backend/nn/vae.py, ``IntegratedAutoencoderKL.encode``, Forge: a function gets the posterior.
        """
        return vae.process_in(vae.encode(pixels, lambda posterior: posterior.mean + posterior.std * noise))

    def lora_patch(self, up: Any, down: Any) -> Any:
        """A LoRA of one layer, as the webui has it after reading a file.

        Host: packages_3rdparty/comfyui_lora_collection/lora.py, ``load_lora``, Forge.
        """
        return "lora", (up, down, 1.0, None, None)

    def unload_partly(self, patcher: Any) -> None:
        """Leave a model loaded, with some weights in main memory, as another one's loading does that needs the memory.

        Host: backend/memory_management.py, ``LoadedModel.model_load``, Forge: unloads all of it, and loads it so later.
        """
        from backend import memory_management

        memory_management.unload_all_models()
        loaded = memory_management.LoadedModel(patcher)
        loaded.model_load(self.memory_for_nothing)
        memory_management.current_loaded_models.insert(0, loaded)

    def special_models(self, _engine: Any, _make_engine: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
        """Models of kinds that only this webui has, and which cannot be trained.

        Args:
            _engine: a model that can be trained.
            _make_engine: makes another one.

        Yields:
            A name and a model, in turn: each is of its kind until the next one is asked for.
        """
        yield from ()


class _Neo(ForgeKind):
    """Forge-Neo, whose memory management and LoRAs are those of ComfyUI."""

    packages = ("modules_forge/packages",)
    argument = "--cpu"
    unknown_prediction = "const"
    # Nothing means everything there.
    memory_for_nothing = 0.1

    def stubs(self) -> dict[str, dict[str, Any]]:
        """Name of a module of the webui → what the stub has in its place.

        Host: backend/utils.py, ``modules_forge.packages``, Forge-Neo: its packages are imported by that name, too.
        Host: backend/text_processing/emphasis.py, ``parse_prompt_attention``, Forge-Neo: of A1111's module, asked only
            whether a prompt has emphasis.
        """
        return {
            "modules_forge": {"__path__": [str(self.tree / "modules_forge")]},
            "modules_forge.main_entry": {"refresh_model_loading_parameters": lambda: None},
            "modules.prompt_parser": {"parse_prompt_attention": lambda text: [[text, 1.0]]},
        }

    def prepare(self) -> None:
        """Set what the webui sets before it loads a checkpoint.

        Host: backend/args.py, ``dynamic_args.ops``, Forge-Neo: empty, then set by the first layers that are made.
        """
        from backend.args import dynamic_args

        dynamic_args.ops = None

    def engines(self) -> dict[str, Any]:
        """Family → class of its model."""
        from backend.diffusion_engine import sd15, sdxl

        return {"sd1": sd15.StableDiffusion, "sdxl": sdxl.StableDiffusionXL}

    def config(self, family: str) -> Any:
        """What the webui has guessed about a checkpoint.

        Host: backend/loader.py, ``split_state_dict``, Forge-Neo: replaces the method ``model_type`` with its result.
        """
        from huggingface_guess import model_list

        config = {"sd1": model_list.SD15, "sdxl": model_list.SDXL, "mugen": model_list.Mugen}[family](
            {"in_channels": 4}
        )
        config.model_type, config.ztsnr = config.model_type({}), False
        return config

    def complete(self, _network: Any) -> None:
        """Nothing: Linear layers have their weights."""

    def latent(self, vae: Any, pixels: Any, noise: Any) -> Any:
        """The webui's latent of an image, with given noise.

        Host: backend/nn/vae.py, ``DiagonalGaussianDistribution.sample``, Forge-Neo: takes noise from ``torch.randn``.
        """
        from unittest import mock

        import torch

        with mock.patch.object(torch, "randn", return_value=noise):
            return vae.process_in(vae.encode(pixels))

    def lora_patch(self, up: Any, down: Any) -> Any:
        """A LoRA of one layer, as the webui has it after reading a file.

        Host: modules_forge/packages/comfy/weight_adapter/lora.py, ``LoRAAdapter``, Forge-Neo.
        """
        from backend.patcher.lora import weight_adapter

        return weight_adapter.LoRAAdapter(set(), (up, down, 1.0, None, None, None))

    def unload_partly(self, patcher: Any) -> None:
        """Leave a model loaded, with some weights in main memory, as another one's loading does that needs the memory.

        Host: backend/patcher/base.py, ``ModelPatcher.partially_unload``, Forge-Neo.
        """
        freed = patcher.partially_unload(patcher.offload_device, patcher.model_size() // 2)
        assert 0 < freed < patcher.model_size()

    def special_models(self, engine: Any, make_engine: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
        """Models of kinds that only this webui has, and which cannot be trained.

        Host: backend/operations.py, ``using_forge_operations``, Forge-Neo: chooses ``ForgeOperationsFP8`` for a UNet in
            fp8 on a GPU that multiplies such numbers, with ``--fast-fp8``; the first choice counts.
        Host: backend/loader.py, ``nunchaku``, Forge-Neo: set for each checkpoint.
        Host: backend/diffusion_engine/mugen.py, ``Mugen``, Forge-Neo: an SDXL with 32 latent channels.
        """
        from backend import operations
        from backend.args import dynamic_args
        from backend.diffusion_engine.mugen import Mugen

        usual, dynamic_args.ops = dynamic_args.ops, None
        with operations.using_forge_operations(operations.ForgeOperationsFP8):
            yield "fast fp8", engine
        dynamic_args.ops, dynamic_args.nunchaku = usual, True
        yield "nunchaku", engine
        dynamic_args.nunchaku = False
        if engine.is_sdxl:
            yield "mugen", make_engine(Mugen, self.config("mugen"), channels=32)


def kind_at(tree: Path) -> ForgeKind:
    """Which of the two a webui is."""
    return {"forge": ForgeKind, "forge-neo": _Neo}[kind_of(tree)](tree)
