"""Small models made of Forge's or Forge-Neo's own classes, trained through our adapter; run by its own Python.

``python forge_engine_checks.py TREE FAMILY STORAGE``; prints what the tests compare, as JSON on the last line. Of the
webui itself there are only stubs; the models, their loading into memory and the merging of LoRAs are the webui's. What
differs between the two webuis is in forge_kinds.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.contract.forge_kinds import kind_at

TREE = Path(sys.argv[1])
KIND = kind_at(TREE)
FAMILY, STORAGE = sys.argv[2:4]
sys.path[1:1] = [str(TREE), *(str(TREE / folder) for folder in KIND.packages)]
sys.argv[1:] = [KIND.argument]


def _stub(name: str, **values: Any) -> Any:
    module = types.ModuleType(name)
    module.__path__ = []
    module.__dict__.update(values)
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
    return module


OPTIONS = types.SimpleNamespace(
    data={}, data_labels={}, emphasis="Original", sdxl_crop_left=0, sdxl_crop_top=0, sdxl_zero_neg=False
)
STATE = types.SimpleNamespace(interrupted=False, stopping_generation=False, current_latent=None)
_stub("modules")
_stub("modules.shared", opts=OPTIONS, state=STATE, parallel_processing_allowed=True)
_stub("modules.devices", torch_gc=lambda: None, device=None)
DATA = types.SimpleNamespace(sd_model=None, forge_loading_parameters={"checkpoint_info": None})
_stub(
    "modules.sd_models", model_data=DATA, get_closet_checkpoint_match=lambda name: None, forge_model_reload=lambda: None,
    checkpoints_list={"m": types.SimpleNamespace(title="m")}, checkpoint_aliases={},
)  # fmt: skip
_cached = {name: [None, None] for name in ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc")}
_task = type("Task", (), _cached)
_stub(
    "modules.processing", StableDiffusionProcessing=_task, StableDiffusionProcessingTxt2Img=_task,
    forge_model_reload=lambda: None, need_global_unload=False,
)  # fmt: skip
for _name, _values in KIND.stubs().items():
    _stub(_name, **_values)

import torch  # noqa: E402
from backend import attention, memory_management, operations  # noqa: E402
from backend.nn import unet  # noqa: E402
from backend.nn.clip import IntegratedCLIP  # noqa: E402
from backend.nn.unet import IntegratedUNet2DConditionModel  # noqa: E402
from backend.nn.vae import IntegratedAutoencoderKL  # noqa: E402
from diffusers import EulerDiscreteScheduler  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, modeling_utils  # noqa: E402

from lib_pivotal.core.activations.lean import lean  # noqa: E402
from lib_pivotal.core.config.schema import TrainConfig  # noqa: E402
from lib_pivotal.core.errors import HostError  # noqa: E402
from lib_pivotal.core.events import Control  # noqa: E402
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach  # noqa: E402
from lib_pivotal.core.ports import EncodedText, ImageSize  # noqa: E402
from lib_pivotal.core.textual_inversion.prompt_chunks import PromptChunker  # noqa: E402
from lib_pivotal.host.forge import blocks  # noqa: E402
from lib_pivotal.host.forge.family import require_trainable  # noqa: E402
from lib_pivotal.host.forge.lease import borrow  # noqa: E402
from lib_pivotal.host.forge.noise_schedule import noise_schedule_of  # noqa: E402
from lib_pivotal.host.forge.obstacles import find_obstacles  # noqa: E402

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
# The only half precision in which a CPU can do everything; else the UNet computes in fp32, as both webuis do there.
COMPUTED = torch.bfloat16 if STORAGE == "bf16" else torch.float32
CLIP_SKIP = 2 if FAMILY == "sd1" else 1
TOKENIZERS = {"sd1": "runwayml/stable-diffusion-v1-5", "sd2": "stabilityai/stable-diffusion-2-1", "sdxl": "stabilityai/stable-diffusion-xl-base-1.0"}  # fmt: skip
TEXT = {"sd1": ["text_encoder"], "sd2": ["text_encoder"], "sdxl": ["text_encoder", "text_encoder_2"]}
# More models than are ever loaded.
ALL = 100
SIZES = [ImageSize((96, 80), (0, 8), (64, 64))]


def _fill(module: Any) -> Any:
    """Random weights, which the webui's own layers leave uninitialized."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in module.named_parameters():
        scale = 0.4 if "embedding" in name else 0.08
        value = torch.randn(parameter.shape, generator=generator) * scale
        parameter.data = (value + ("norm" in name and name.endswith("weight"))).to(parameter.dtype)
    return module


def _text(width: int, storage: torch.dtype, second: bool) -> Any:
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        bos_token_id=49406, eos_token_id=49407, hidden_act="gelu" if second else "quick_gelu",
    )  # fmt: skip
    arguments = {"device": memory_management.cpu, "dtype": storage}
    with modeling_utils.no_init_weights(), operations.using_forge_operations(**arguments, manual_cast_enabled=True):
        model = IntegratedCLIP(CLIPTextModel, config, add_text_projection=True)
    KIND.complete(model)
    return _fill(model.to(**arguments))


def _unet(context: int, storage: torch.dtype, channels: int) -> Any:
    shape: dict[str, Any] = {
        "in_channels": channels, "out_channels": channels, "model_channels": 32, "num_res_blocks": [1, 1], "channel_mult": [1, 2],
        "num_heads": 2, "use_spatial_transformer": True, "transformer_depth": [1, 1], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1], "context_dim": context,
        "use_linear_in_transformer": FAMILY != "sd1",
    }  # fmt: skip
    if FAMILY == "sdxl":
        shape |= {"num_classes": "sequential", "adm_in_channels": 48 + 1536}
    arguments = {"device": memory_management.cpu, "dtype": storage}
    with operations.using_forge_operations(**arguments, manual_cast_enabled=storage != COMPUTED):
        model = IntegratedUNet2DConditionModel(**shape)
    KIND.complete(model)
    model.storage_dtype, model.computation_dtype = storage, COMPUTED
    model.load_device = model.initial_device = model.offload_device = memory_management.cpu
    return _fill(model.to(**arguments))


@torch.inference_mode()
def make_engine(kind: Any = None, config: Any = None, channels: int = 4) -> Any:
    """A model as the webui's loader makes it, but small.

    Args:
        kind: its class, if not the family's.
        config: what the webui has guessed about it.
        channels: of its latents.
    """
    KIND.prepare()
    storage = DTYPES[STORAGE]
    text_storage = torch.float32 if STORAGE == "fp32" else torch.float16
    widths = {"sd1": [32], "sd2": [40], "sdxl": [32, 48]}[FAMILY]
    components: dict[str, Any] = {}
    for number, (part, width) in enumerate(zip(TEXT[FAMILY], widths, strict=True)):
        components[part] = _text(width, text_storage, second=bool(number) or FAMILY == "sd2")
        folder = TREE / "backend" / "huggingface" / TOKENIZERS[FAMILY] / part.replace("text_encoder", "tokenizer")
        components[part.replace("text_encoder", "tokenizer")] = CLIPTokenizer.from_pretrained(folder)
    components["vae"] = _fill(IntegratedAutoencoderKL(
        down_block_types=("D",) * 4, block_out_channels=(32, 32, 32, 32), layers_per_block=1, latent_channels=4,
        scaling_factor=0.13025 if FAMILY == "sdxl" else 0.18215,
    ))  # fmt: skip
    components["unet"] = _unet(sum(widths), storage, channels)
    components["scheduler"] = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        prediction_type="v_prediction" if FAMILY == "sd2" else "epsilon",
    )  # fmt: skip
    engine = (kind or KIND.engines()[FAMILY])(config or KIND.config(FAMILY), components)
    engine.sd_checkpoint_info = types.SimpleNamespace(
        filename="m.safetensors", name="m", name_for_extra="m", sha256="", title="m"
    )
    return engine


def _networks(engine: Any) -> dict[str, torch.nn.Module]:
    objects = engine.forge_objects_original
    return {"unet": objects.unet.model, "text": objects.clip.cond_stage_model, "vae": objects.vae.first_stage_model}


def digests(engine: Any) -> dict[str, str]:
    """sha256 of the weights of each part and their types."""
    found = {}
    for part, network in _networks(engine).items():
        digest = hashlib.sha256()
        for name, tensor in sorted(network.state_dict().items()):
            value = tensor.detach().contiguous().flatten().view(torch.uint8)
            digest.update(f"{name} {tensor.dtype}".encode() + value.numpy().tobytes())
        found[part] = digest.hexdigest()
    return found


@contextlib.contextmanager
def without_memory(times: int) -> Iterator[None]:
    """Within the context so many models stay in main memory when they are loaded, one after the other."""
    original, left = memory_management.LoadedModel.model_load, [KIND.memory_for_nothing] * times

    def load(loaded: Any, *arguments: Any, **options: Any) -> Any:
        return original(loaded, left.pop()) if left else original(loaded, *arguments, **options)

    memory_management.LoadedModel.model_load = load
    try:
        yield
    finally:
        memory_management.LoadedModel.model_load = original


@torch.inference_mode()
def leave_lora(engine: Any, *, in_every_step: bool = False) -> None:
    """Leave a LoRA in UNet and text encoder, as a generation with one does.

    Args:
        engine: the webui's model.
        in_every_step: the LoRA is not merged but computed in every step.
    """
    objects = engine.forge_objects = engine.forge_objects_original.shallow_copy()
    objects.unet, objects.clip = objects.unet.clone(), objects.clip.clone()
    engine.forge_objects_after_applying_lora = objects.shallow_copy()
    patchers = [objects.unet, objects.clip.patcher]
    for patcher in patchers:
        name, weight = next((n, p) for n, p in patcher.model.named_parameters() if p.ndim == 2 and "attn" in n)
        patch = KIND.lora_patch(torch.ones(weight.shape[0], 1), torch.ones(1, weight.shape[1]))
        patcher.add_patches(filename="l", patches={name: patch}, strength_patch=0.5, online_mode=in_every_step)
    memory_management.load_models_gpu(patchers)


@torch.inference_mode()
def generated(engine: Any) -> list[torch.Tensor]:
    """Encoded text and the first prediction of a generation, computed by the webui."""
    generator = torch.Generator().manual_seed(4)
    text, vector = _theirs(engine, "a red circle")
    memory_management.load_models_gpu([engine.forge_objects.unet])
    options = {} if vector is None else {"y": vector}
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    kmodel = engine.forge_objects.unet.model
    sigma = kmodel.predictor.sigma(torch.tensor([321.0]))
    return [text, kmodel.apply_model(noise, sigma, c_crossattn=text, transformer_options={}, **options)]


def left_loras(engine: Any) -> dict[str, Any]:
    """What is left of a LoRA while the model is borrowed, for the ways in which a generation leaves one."""
    unet.attention_function = attention.attention_pytorch
    plain, before = generated(engine), digests(engine)
    found = {}
    for name, in_every_step, swapped in (("merged", False, 0), ("computed", True, 0), ("swapped", False, ALL)):
        memory_management.unload_all_models()
        with without_memory(swapped):
            leave_lora(engine, in_every_step=in_every_step)
            with_lora = generated(engine)
        swapped_layers = [_swapped_layers(engine)]
        with borrow(TrainConfig(), Control()) as borrowed:
            # Before the webui itself repairs anything.
            swapped_layers.append(_swapped_layers(engine))
            is_same = digests(engine) == before
            without_lora = generated(engine)
            borrowed.model.offloading.settle()
            found[name] = {
                "changes": [_difference(a, b) for a, b in zip(with_lora, plain, strict=True)],
                "left": [_difference(a, b) for a, b in zip(without_lora, plain, strict=True)],
                "same": is_same and digests(engine) == before,
                "swapped": swapped_layers,
            }
    return found


def _swapped_layers(engine: Any) -> int:
    """Layers of the UNet that are prepared to take their weights from main memory, or a LoRA, in every step.

    Host: backend/memory_management.py, ``prev_parameters_manual_cast``, Forge; backend/patcher/base.py, Forge-Neo.
    """
    return sum(hasattr(module, "prev_parameters_manual_cast") for module in _networks(engine)["unet"].modules())


def _theirs(engine: Any, text: str) -> tuple[torch.Tensor, Any]:
    class Prompt(list):
        width, height, is_negative_prompt = 64, 64, False

    found = engine.get_learned_conditioning(Prompt([text]))
    return (found["crossattn"], found["vector"]) if isinstance(found, dict) else (found, None)


def _encoded(model: Any, text: str, vectors: dict[str, torch.Tensor]) -> list[EncodedText]:
    result = []
    for encoder in model.text_encoders:
        own = vectors[encoder.name]
        placed = PromptChunker(encoder, {"probeword": (0, len(own))}).chunk(text)
        rows, columns = (torch.tensor(item, dtype=torch.int64) for item in (placed.rows, placed.columns))
        result.append(encoder.encode(placed.ids, rows, columns, own[list(placed.vectors)]))
    return result


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape, (one.shape, other.shape)
    return float((one.detach().float() - other.detach().float()).abs().max())


def compare(engine: Any, model: Any, sampler: Any) -> dict[str, float]:
    """Our numbers against those of the webui's own functions."""
    generator = torch.Generator().manual_seed(3)
    vectors = {item.name: torch.randn(2, item.width, generator=generator) * 0.2 for item in model.text_encoders}
    found: dict[str, float] = {}
    size = [ImageSize((64, 64), (0, 0), (64, 64))]
    with torch.no_grad():
        for name, text in (("plain", "a red circle"), ("embedding", "a probeword, left")):
            registered = (
                sampler._registered({"probeword": vectors}) if name == "embedding" else contextlib.nullcontext()
            )
            with registered:
                theirs, vector = _theirs(engine, text)
            ours = model.condition(_encoded(model, text, vectors), 1, size, [False])
            found[f"text {name}"] = _difference(ours[0] if vector is not None else ours, theirs)
            if vector is not None:
                found[f"vector {name}"] = _difference(ours[1], vector)
        noisy, times = torch.randn(1, 4, 8, 8, generator=generator), torch.tensor([321])
        kmodel = engine.forge_objects_original.unet.model
        predicted = model.predict(noisy, times, ours)
        options = {} if vector is None else {"y": ours[1]}
        context = ours if vector is None else ours[0]
        sigma = kmodel.predictor.sigma(times.float())
        scaled = noisy * (sigma**2 + 1) ** 0.5
        denoised = kmodel.apply_model(scaled, sigma, c_crossattn=context, transformer_options={}, **options)
        expected = kmodel.predictor.calculate_denoised(sigma, predicted, scaled)
        found["prediction"] = _difference(denoised, expected)
        pixels = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
        mean, std = model.vae.encode(pixels)
        vae = engine.forge_objects_original.vae.first_stage_model
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
        found["latent"] = _difference(mean + std * noise, KIND.latent(vae, pixels, noise))
    return found


def step(
    model: Any, enabled: bool, lora: Any, vectors: dict[str, torch.Tensor], *, is_lean: bool = True
) -> list[torch.Tensor]:
    """Gradients of all trained tensors in one step."""
    generator = torch.Generator().manual_seed(5)
    lora.flat.clear_gradient()
    for value in vectors.values():
        value.grad = None
    kept = ("least" if enabled else "less") if is_lean else "all"
    with attach([lora]), model.checkpointing(enabled=enabled), lean(model.unet, model.autocast, kept):
        model.verify()
        condition = model.condition(_encoded(model, "probeword and more", vectors), 1, SIZES, [False])
        output = model.predict(torch.randn(1, 4, 16, 16, generator=generator), torch.tensor([10]), condition)
        (output.float() ** 2).mean().backward()
    leaves = [value.grad.clone() for value in vectors.values()]
    return leaves + [leaf.grad.clone() for layer in lora.layers for leaf in layer.parameters.values()]


def gradients(model: Any) -> dict[str, float]:
    """Every trained tensor has a gradient, and neither recomputing nor layers that keep less change it."""
    generator = torch.Generator().manual_seed(9)
    vectors = {item.name: (torch.randn(2, item.width, generator=generator) * 0.2) for item in model.text_encoders}
    vectors = {name: value.requires_grad_(True) for name, value in vectors.items()}
    targets = model.lora_targets()
    lora = AdapterSet.with_ranks(
        "unet", [(target, 2) for target in targets if target.role != "other"], 0.5, 1, model.device
    )
    with torch.no_grad():
        lora.flat.values.normal_(0, 0.05, generator=generator)
    plain, again = step(model, False, lora, vectors), step(model, True, lora, vectors)
    keeping_all = step(model, False, lora, vectors, is_lean=False)
    with own_forwards(lora):
        added = step(model, False, lora, vectors, is_lean=False)
    scale = max(float(item.abs().max()) for item in plain)
    return {
        "leaves": len(plain),
        "without": sum(not bool(item.any()) for item in plain),
        "recomputed": max(_difference(a, b) for a, b in zip(plain, again, strict=True)) / scale,
        "lean": max(_difference(a, b) for a, b in zip(plain, keeping_all, strict=True)) / scale,
        "joined": max(_difference(a, b) for a, b in zip(plain, added, strict=True)) / scale,
        "keys": len({target.key for target in targets}),
        "targets": len(targets),
    }


@contextlib.contextmanager
def own_forwards(lora: Any) -> Iterator[None]:
    """Within the context autograd itself computes through the layers, and the LoRA is only added to their outputs."""
    modules = [layer.target.module for layer in lora.layers]
    for module in modules:
        module.forward = module.forward
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def recomputations(model: Any, vectors: dict[str, torch.Tensor]) -> int:
    """How many blocks recompute their activations though nobody asks for it."""
    original, calls = blocks.checkpoint, []
    blocks.checkpoint = lambda *arguments, **options: calls.append(1) or original(*arguments, **options)
    lora = AdapterSet.with_ranks("unet", [(model.lora_targets()[0], 2)], 0.5, 1, model.device)
    try:
        step(model, False, lora, vectors)
    finally:
        blocks.checkpoint = original
    return len(calls)


def refusals(engine: Any) -> dict[str, str]:
    """What is said about models that cannot be trained."""
    model = engine.forge_objects_original.unet.model
    found = {}
    changes: dict[str, tuple[Any, str, Any]] = {
        "inpainting": (engine, "is_inpaint", True),
        "prediction": (model.predictor, "prediction_type", KIND.unknown_prediction),
        "nf4": (model, "storage_dtype", "nf4"),
        "gguf": (model, "storage_dtype", "gguf"),
        "channels": (model.diffusion_model, "in_channels", 8),
        "scaled": (model.diffusion_model.out[2], "scale_weight", torch.ones(())),
    }
    for name, (owner, attribute, value) in changes.items():
        kept = getattr(owner, attribute, None)
        setattr(owner, attribute, value)
        found[name] = _refusal(engine)
        setattr(owner, attribute, kept)
    for kind in ("Flux", "StableDiffusion3"):
        other = type(kind, (), {"sd_checkpoint_info": engine.sd_checkpoint_info})()
        found[kind] = _refusal(other)
    if FAMILY == "sdxl":
        kept = engine.text_processing_engine_l
        del engine.text_processing_engine_l
        found["refiner"] = _refusal(engine)
        engine.text_processing_engine_l = kept
    for name, special in KIND.special_models(engine, make_engine):
        found[name] = _refusal(special)
    require_trainable(engine, TrainConfig())
    if STORAGE == "fp8":
        try:
            require_trainable(engine, TrainConfig(lora_kind="dora"))
        except HostError as error:
            found["dora"] = f"{error.message} {error.hint}"
    return found


def refused_settings(engine: Any) -> dict[str, str]:
    """What is said about settings of the run or of the webui with which this model cannot be trained."""
    found = {}
    OPTIONS.forge_unet_storage_dtype = "bnb-nf4"
    for problem in find_obstacles(TrainConfig(precision="fp16")):
        if problem.severity == "error":
            found[problem.field] = f"{problem.message} {problem.hint}"
    OPTIONS.forge_unet_storage_dtype = "Automatic"
    assert not [problem for problem in find_obstacles(TrainConfig()) if problem.severity == "error"]
    for name, precision, device in (("fp32", "fp32", None), ("two devices", "auto", torch.device("meta"))):
        try:
            with borrow(TrainConfig(precision=precision), Control()) as borrowed:
                if device is not None:
                    # As if the UNet were there.
                    borrowed.model.device = device
                    borrowed.model._require_one_device()
        except HostError as error:
            found[name] = f"{error.message} {error.hint}"
    return found


def _refusal(engine: Any) -> str:
    try:
        require_trainable(engine, TrainConfig())
    except HostError as error:
        return f"{error.message} {error.hint}"
    return ""


def _swapped(times: int) -> str:
    """What is said when the webui keeps the weights of as many models as given in main memory."""
    memory_management.unload_all_models()
    try:
        with without_memory(times), borrow(TrainConfig(), Control()):
            return ""
    except HostError as error:
        return f"{error.message} {error.hint}"
    finally:
        memory_management.unload_all_models()


def partly_unloaded(engine: Any, memory: Any) -> list[int]:
    """How many layers are swapped after the webui has moved weights to main memory, and after the next settling."""
    with torch.inference_mode():
        KIND.unload_partly(engine.forge_objects_original.unet)
    found = [_swapped_layers(engine)]
    memory.settle()
    return [*found, _swapped_layers(engine)]


def main() -> dict[str, Any]:
    """Everything that the tests compare."""
    engine = make_engine()
    DATA.sd_model = engine
    # The first generation casts the embeddings to fp32.
    generated(engine)
    before = digests(engine)
    result: dict[str, Any] = {"loras": left_loras(engine)}
    leave_lora(engine)
    result["merged"] = digests(engine) != before
    originals = {
        id(block): type(block)._forward for block in _networks(engine)["unet"].modules() if hasattr(block, "_forward")
    }
    # Another one than training uses.
    unet.attention_function = attention.attention_basic
    engine.set_clip_skip(CLIP_SKIP)
    with borrow(TrainConfig(clip_skip=CLIP_SKIP), Control()) as borrowed:
        model = borrowed.model
        result["family"], result["v"] = model.family, model.is_v_prediction
        result["unmerged"] = digests(engine) == before
        result["compared"] = compare(engine, model, borrowed.sampler)
        result["gradients"] = gradients(model)
        with model.offloading.on_device("vae"):
            model.offloading.offload("text_encoders")
        result["partly unloaded"] = partly_unloaded(engine, model.offloading)
        with model.offloading.on_device("text_encoders"):
            result["again"] = gradients(model)
        parameters = [item for network in _networks(engine).values() for item in network.parameters()]
        result["trainable"] = sum(item.requires_grad for item in parameters)
        result["base gradients"] = sum(item.grad is not None for item in parameters)
        exact = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
        result["schedule"] = _difference(model.alphas_cumprod.double(), exact)
        engine.model_config.ztsnr = True
        result["last of zero terminal SNR"] = float(noise_schedule_of(engine)[-1])
        engine.model_config.ztsnr = False
        vectors = {item.name: torch.zeros(2, item.width, requires_grad=True) for item in model.text_encoders}
        result["recomputed blocks"] = recomputations(model, vectors)
        result["attention"] = unet.attention_function.__name__
        result["live previews"] = sys.modules["modules.shared"].parallel_processing_allowed
        result["resolution"] = model.native_resolution
        try:
            with without_memory(ALL):
                partly_unloaded(engine, model.offloading)
        except HostError as error:
            result["unloaded for good"] = f"{error.message} {error.hint}"
    engine.set_clip_skip(1)
    result["attention after"] = unet.attention_function.__name__
    result["live previews after"] = sys.modules["modules.shared"].parallel_processing_allowed
    result["same"] = digests(engine) == before
    result["restored"] = not any(
        "_forward" in block.__dict__ for block in _networks(engine)["unet"].modules()
    ) and bool(originals)
    result["refusals"] = refusals(engine)
    result["settings"] = refused_settings(engine)
    result["swapped"] = _swapped(ALL)
    result["swapped once"] = _swapped(1)
    result["same after refusal"] = digests(engine) == before
    return result


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main()) + "\n")
