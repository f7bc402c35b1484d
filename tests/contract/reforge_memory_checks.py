"""Small networks under reForge's own memory management, with too little memory; run by its own Python.

``python reforge_memory_checks.py TREE``; prints what the test compares, as JSON on the last line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), sys.argv[1]]
sys.argv[1:] = ["--always-cpu"]

import ldm_patched.modules.options  # noqa: E402

ldm_patched.modules.options.enable_args_parsing()
import torch  # noqa: E402
from ldm_patched.modules import model_management, ops  # noqa: E402
from ldm_patched.modules.model_patcher import ModelPatcher  # noqa: E402

from lib_pivotal.core.errors import HostError  # noqa: E402
from lib_pivotal.host.reforge.memory import release, settle  # noqa: E402

CPU = torch.device("cpu")
# Nothing means everything.
MEMORY_FOR_NOTHING = 0.1


@torch.inference_mode()
def _patcher() -> Any:
    layers = [ops.manual_cast.Linear(16, 16) for _ in range(3)]
    return ModelPatcher(torch.nn.Sequential(*layers), load_device=CPU, offload_device=CPU)


def _tried(times: int) -> dict[str, Any]:
    """What happens when as many networks as given are left in main memory when they are loaded."""
    unet, text = _patcher(), _patcher()
    vae = SimpleNamespace(first_stage_model=torch.nn.Linear(2, 2))
    model: Any = torch.nn.Module()
    with torch.inference_mode():
        model.projection = torch.nn.Parameter(torch.zeros(2))
    model.forge_objects_original = SimpleNamespace(unet=unet, clip=SimpleNamespace(patcher=text), vae=vae)
    original, left = model_management.LoadedModel.model_load, [MEMORY_FOR_NOTHING] * times

    def load(loaded: Any, *arguments: Any, **options: Any) -> Any:
        return original(loaded, left.pop()) if left else original(loaded, *arguments, **options)

    model_management.LoadedModel.model_load = load
    said = ""
    try:
        settle(model)
    except HostError as error:
        said = f"{error.message} {error.hint}"
    finally:
        model_management.LoadedModel.model_load = original
    networks = [unet.model, text.model]
    found = {
        "said": said,
        "left": [network.model_lowvram for network in networks],
        "usable": not any(weight.is_inference() for network in [*networks, model] for weight in network.parameters()),
    }
    release()
    return {**found, "loaded": len(model_management.current_loaded_models)}


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps([_tried(times) for times in (0, 1, 100)]) + "\n")
