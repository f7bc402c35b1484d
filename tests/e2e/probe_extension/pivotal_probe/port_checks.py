"""Each method of the borrowed model, compared with the webui's own code."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from lib_pivotal.core.activations.lean import lean
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.errors import HostError
from lib_pivotal.core.events import Control
from lib_pivotal.core.families import Kept
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.ports import ImageSize, SampleRequest
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingWeights
from lib_pivotal.core.textual_inversion.prompt_chunks import PromptChunker
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.batches import Batch
from lib_pivotal.core.train.guided_prediction import GuidedPrediction
from lib_pivotal.core.train.prediction import CaptionPrediction
from pivotal_probe.checks import digest
from pivotal_probe.hosts import embedding_stores, networks_of

_TASK = "task(pivotal-probe)"
_PROMPTS = ("", "a red circle", "one, two, " * 60 + "three", 'miku vocaloid, "quoted" text; café', "probeword sits")


def _host() -> Any:
    from lib_pivotal.host.detect import current_host

    found, reason = current_host()
    assert found is not None, reason
    return found


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape, (one.shape, other.shape)
    return float((one.detach().float() - other.detach().float()).abs().max())


def _encode(model: Any, text: str, spans: dict[str, tuple[int, int]], vectors: torch.Tensor) -> tuple[Any, int]:
    encoder = model.text_encoders[0]
    placed = PromptChunker(encoder, spans).chunk(text)
    rows, columns = torch.tensor(placed.rows, dtype=torch.int64), torch.tensor(placed.columns, dtype=torch.int64)
    return encoder.encode(placed.ids, rows, columns, vectors[list(placed.vectors)]), len(placed.ids)


def encoding(clip_skip: int = 1) -> dict[str, Any]:
    """Our text path against the webui's, plain prompts and one with a spliced embedding."""
    from modules import sd_hijack, shared
    from modules.textual_inversion.textual_inversion import Embedding

    torch.manual_seed(3)
    result: dict[str, Any] = {}
    host = _host()
    with host.exclusive(_TASK), host.borrow(TrainConfig(clip_skip=clip_skip), Control()) as borrowed:
        width = borrowed.model.text_encoders[0].width
        vectors = torch.randn(3, width) * 0.1
        embedding = Embedding(vectors, "probeword")
        embedding.vectors, embedding.shape, embedding.filename = 3, width, "probeword.pt"
        database = sd_hijack.model_hijack.embedding_db
        database.register_embedding(embedding, shared.sd_model)
        kept = shared.opts.data.get("CLIP_stop_at_last_layers")
        shared.opts.data["CLIP_stop_at_last_layers"] = clip_skip
        try:
            for text in _PROMPTS:
                with torch.no_grad():
                    theirs = shared.sd_model.get_learned_conditioning([text])
                    encoded, count = _encode(borrowed.model, text, {"probeword": (0, 3)}, vectors)
                size = ImageSize((64, 64), (0, 0), (64, 64))
                result[text[:12]] = _difference(borrowed.model.condition([encoded], count, [size], [False]), theirs)
        finally:
            database.register_embedding_by_name(None, shared.sd_model, "probeword")
            shared.opts.data["CLIP_stop_at_last_layers"] = 1 if kept is None else kept
    return result


def literal_brackets(caption: str, escaped: str) -> dict[str, float]:
    """Our encoding of a caption against the webui's of two prompts: with its brackets escaped, and as it is."""
    from modules import shared

    host = _host()
    with host.exclusive(_TASK), host.borrow(TrainConfig(), Control()) as borrowed, torch.no_grad():
        encoded, count = _encode(borrowed.model, caption, {}, torch.zeros(0, borrowed.model.text_encoders[0].width))
        ours = borrowed.model.condition([encoded], count, [ImageSize((64, 64), (0, 0), (64, 64))], [False])
        escaped_prompt, plain_prompt = (shared.sd_model.get_learned_conditioning([text]) for text in (escaped, caption))
        return {"escaped": _difference(ours, escaped_prompt), "plain": _difference(ours, plain_prompt)}


def attention() -> dict[str, list[str]]:
    """Name and function of the attention in force before, while the model is borrowed, and after."""
    from ldm.modules.attention import CrossAttention
    from modules import sd_hijack

    def now() -> list[str]:
        chosen = sd_hijack.current_optimizer
        return [chosen.name if chosen else "none", CrossAttention.forward.__name__]

    host = _host()
    before = now()
    with host.exclusive(_TASK), host.borrow(TrainConfig(), Control()):
        inside = now()
    return {"before": before, "inside": inside, "after": now()}


def training_step() -> dict[str, Any]:
    """Gradients through UNet and text encoder, with and without checkpointing; eps against apply_model."""
    from modules import devices, shared

    result: dict[str, Any] = {}
    host = _host()
    with host.exclusive(_TASK), host.borrow(TrainConfig(), Control()) as borrowed:
        model = borrowed.model
        generator = torch.Generator().manual_seed(5)
        # Large enough for the middle block to see several tokens: attention over one has no gradient for its queries.
        noisy = torch.randn(2, 4, 16, 16, generator=generator)
        times = torch.tensor([10, 700])
        sizes = [ImageSize((64, 64), (0, 0), (64, 64))] * 2
        vectors = (torch.randn(2, model.text_encoders[0].width, generator=generator) * 0.1).requires_grad_(True)
        chosen = [(target, 4) for target in model.lora_targets() if target.role != "other"]
        lora = AdapterSet.with_ranks("unet", chosen, 0.5, 1, model.device)
        with torch.no_grad():
            for layer in lora.layers:
                layer.parameters["up"].normal_(0, 0.02, generator=generator)

        def step(enabled: bool, kept: Kept = "all") -> tuple[torch.Tensor, list[torch.Tensor]]:
            vectors.grad = None
            lora.flat.clear_gradient()
            layers = lean(model.unet, model.autocast, kept)
            with attach([lora]), layers, model.checkpointing(enabled=enabled):
                model.verify()
                encoded = [_encode(model, "probeword and more", {"probeword": (0, 2)}, vectors)[0] for _ in range(2)]
                joined = type(encoded[0])(torch.cat([item.hidden for item in encoded]))
                output = model.predict(noisy, times, model.condition([joined], 1, sizes, [False] * len(sizes)))
                (output.float() ** 2).mean().backward()
            leaves = [vectors.grad.clone()]
            leaves += [leaf.grad.clone() for layer in lora.layers for leaf in layer.parameters.values()]
            return output.detach(), leaves

        plain, plain_grads = step(False)
        calls = dict.fromkeys(("BasicTransformerBlock", "ResBlock"), 0)
        with _counted(model.unet, calls):
            again, again_grads = step(True)
        result["calls"] = calls
        result["checkpointing"] = max(_difference(a, b) for a, b in zip(plain_grads, again_grads, strict=True))
        for kept in ("less", "least"):
            leaner = step(False, kept)[1]
            result[f"keeping_{kept}"] = max(_difference(a, b) for a, b in zip(plain_grads, leaner, strict=True))
        result["checkpointing_output"] = _difference(plain, again)
        result["without_gradient"] = sum(not bool(item.any()) for item in plain_grads)
        result["leaves"] = len(plain_grads)
        result["base_gradients"] = sum(item.grad is not None for item in shared.sd_model.parameters())
        result["base_trainable"] = sum(item.requires_grad for item in shared.sd_model.parameters())
        with torch.no_grad(), devices.autocast():
            encoded, _ = _encode(model, "probeword", {}, vectors)
            context = model.condition([encoded], 1, sizes[:1], [False])
            theirs = shared.sd_model.apply_model(noisy[:1], times[:1], context.clone())
            result["eps"] = _difference(model.predict(noisy[:1], times[:1], context), theirs)
            result["eps_size"] = float(theirs.abs().max())
            pixels = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
            mean, deviation = model.vae.encode(pixels)
            posterior = shared.sd_model.encode_first_stage(pixels)
            result["latent"] = _difference(mean, posterior.mean * shared.sd_model.scale_factor)
            result["deviation"] = _difference(deviation, posterior.std * shared.sd_model.scale_factor)
        exact = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
        result["schedule"] = _difference(model.alphas_cumprod.double(), exact)
        result["name"] = model.model_name
    return result


def guided_step(kind: str = "lora") -> dict[str, Any]:
    """Gradients of captions against their negative captions, with and without checkpointing."""
    host = _host()
    with host.exclusive(_TASK), host.borrow(TrainConfig(), Control()) as borrowed:
        model = borrowed.model
        generator = torch.Generator().manual_seed(5)
        chosen = [(target, 4) for target in model.lora_targets() if target.part == "unet" and target.role != "other"]
        lora = AdapterSet.with_ranks("unet", chosen, 0.5, 1, model.device, kind=kind)
        lora.flat.values.data.normal_(0, 0.02, generator=generator)
        vectors = (torch.randn(4, model.text_encoders[0].width, generator=generator) * 0.1).requires_grad_()
        embeddings = EmbeddingWeights({"probeword": (0, 2), "neg_probeword": (2, 2)}, {"clip_l": vectors})
        captions = CaptionPrediction(model, TextConditioner(model, embeddings))
        batch = Batch(
            latents=torch.randn(2, 4, 16, 16, generator=generator),
            noise=torch.zeros(2, 4, 16, 16),
            timesteps=torch.tensor([10, 700]),
            # Of different lengths, so that there are two predictions.
            captions=["probeword and more", "one, two, " * 40 + "probeword"],
            sizes=[ImageSize((64, 64), (0, 0), (64, 64))] * 2,
            negatives=["neg_probeword"] * 2,
        )

        def gradients(enabled: bool) -> list[torch.Tensor]:
            vectors.grad = None
            lora.flat.clear_gradient()
            with attach([lora]), model.checkpointing(enabled=enabled):
                (GuidedPrediction(captions, 3.0)(batch.latents, batch) ** 2).mean().backward()
            return [lora.flat.gradient.clone(), vectors.grad.clone()]

        plain, again = gradients(False), gradients(True)
        largest = [float(item.abs().max()) for item in plain]
        differences = [_difference(one, other) for one, other in zip(plain, again, strict=True)]
        return {"largest": largest, "difference": max(a / b for a, b in zip(differences, largest, strict=True))}


def lora_names() -> dict[str, Any]:
    """Each kohya key leads the built-in Lora extension to the very layer it came from."""
    import networks

    host = _host()
    wrong, keys = [], []
    with host.exclusive(_TASK), host.borrow(TrainConfig(), Control()) as borrowed:
        from modules import shared

        mapping = shared.sd_model.network_layer_mapping
        for target in borrowed.model.lora_targets():
            keys.append(target.key)
            if mapping.get(networks.convert_diffusers_name_to_compvis(target.key, False)) is not target.module:
                wrong.append(target.key)
        roles: dict[str, int] = {}
        for target in borrowed.model.lora_targets():
            roles[f"{target.part}/{target.role}"] = roles.get(f"{target.part}/{target.role}", 0) + 1
    return {"count": len(keys), "unique": len(set(keys)), "wrong": wrong, "roles": roles}


def preview(prompt: str = "probeword on a red circle", interrupt: bool = False) -> dict[str, Any]:
    """Previews in the middle of a run: live embeddings, nothing left behind."""
    from modules import sd_models, shared

    host = _host()
    control = Control()
    with host.exclusive(_TASK), host.borrow(TrainConfig(), control) as borrowed:
        width = borrowed.model.text_encoders[0].width
        request = SampleRequest(prompt, "", 64, 64, 3, 4.0, 7)
        one = {"probeword": {"clip_l": torch.randn(2, width) * 0.3}}
        other = {"probeword": {"clip_l": torch.randn(2, width) * 0.3}}
        shared.state.job_no, shared.state.job_count, shared.state.textinfo = 3, 10, "Step 3"
        torch.manual_seed(11)
        np.random.seed(12)
        random.seed(13)
        if interrupt:
            shared.state.interrupted = True
            sample = borrowed.sampler.make(request, one)
            borrowed.model.poll_requests()
            return {"none": sample is None, "stop": control.stop_requested}
        images = [borrowed.sampler.make(request, item) for item in (one, one, other, {})]
        after = (float(torch.rand(1)), float(np.random.rand()), random.random())
        torch.manual_seed(11)
        np.random.seed(12)
        random.seed(13)
        expected = (float(torch.rand(1)), float(np.random.rand()), random.random())
        hashes = [digest(torch.from_numpy(np.asarray(item.image).copy())) for item in images]
        loaded = sd_models.model_data.sd_model
        networks = {part: network for part, network in networks_of(loaded).items() if part != "vae"}
        return {
            "same": hashes[0] == hashes[1],
            "vectors_matter": hashes[0] != hashes[2] and hashes[0] != hashes[3],
            "infotext": images[0].infotext,
            "size": list(images[0].image.size),
            "rng_untouched": after == expected,
            "state": [shared.state.job_no, shared.state.job_count, shared.state.textinfo],
            "left_behind": any("probeword" in store.word_embeddings for store in embedding_stores(loaded)),
            "inference_tensors": sum(item.is_inference() for one in networks.values() for item in one.parameters()),
        }


def identity() -> dict[str, str]:
    """``verify`` notices an unloaded and an exchanged model."""
    from modules import sd_models

    host = _host()
    messages: dict[str, str] = {}
    with host.exclusive(_TASK), host.borrow(TrainConfig(), Control()) as borrowed:
        model = sd_models.model_data.sd_model
        borrowed.model.verify()
        sd_models.model_data.sd_model = None
        try:
            borrowed.model.verify()
        except HostError as error:
            messages["exchanged"] = error.message
        finally:
            sd_models.model_data.sd_model = model
        time_embed = borrowed.model.unet.time_embed
        kept = time_embed[0].weight
        time_embed[0].weight = torch.nn.Parameter(torch.empty_like(kept, device="meta"), requires_grad=False)
        try:
            borrowed.model.verify()
        except HostError as error:
            messages["moved"] = error.message
        finally:
            time_embed[0].weight = kept
    return messages


def raise_mid_step() -> dict[str, str]:
    """Fail between forward and backward, with hooks, checkpointing and an autocast open."""
    host = _host()
    try:
        with host.exclusive(_TASK), host.borrow(TrainConfig(), Control()) as borrowed:
            model = borrowed.model
            targets = [(target, 4) for target in model.lora_targets() if target.role == "attention"]
            lora = AdapterSet.with_ranks("unet", targets, 0.5, 1, model.device)
            vectors = torch.zeros(1, model.text_encoders[0].width, requires_grad=True)
            with attach([lora]), model.checkpointing(enabled=True), model.autocast():
                encoded, _ = _encode(model, "probeword", {"probeword": (0, 1)}, vectors)
                size = ImageSize((64, 64), (0, 0), (64, 64))
                condition = model.condition([encoded], 1, [size], [False])
                output = model.predict(torch.randn(1, 4, 8, 8), torch.tensor([5]), condition)
                assert output.requires_grad
                raise RuntimeError("deliberate")
    except RuntimeError as error:
        return {"error": str(error), "thread": threading.current_thread().name}
    return {"error": ""}


CHECKS = (
    encoding,
    literal_brackets,
    attention,
    training_step,
    guided_step,
    lora_names,
    preview,
    identity,
    raise_mid_step,
)


@contextlib.contextmanager
def _counted(unet: Any, calls: dict[str, int]) -> Iterator[None]:
    """Within the context, count how often a layer within the first block of each kind is called."""
    handles = []
    for name in calls:
        block = next(module for module in unet.modules() if name in {base.__name__ for base in type(module).__mro__})
        layer = block.norm1 if hasattr(block, "norm1") else block.out_layers[0]

        def count(*_: Any, name: str = name) -> None:
            calls[name] += 1

        handles.append(layer.register_forward_pre_hook(count))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
