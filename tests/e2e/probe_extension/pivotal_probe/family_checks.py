"""A model of any family behind our port, against the webui's own way."""

from __future__ import annotations

from typing import Any

import torch

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.events import Control
from lib_pivotal.core.lora.adapter_set import AdapterSet, attach
from lib_pivotal.core.ports import ImageSize, SampleRequest
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.host.detect import current_host
from pivotal_probe.checks import digest
from pivotal_probe.numbers import probe_embedding

_TASK = "task(pivotal-probe)"
_SIZE = ImageSize((64, 64), (0, 0), (64, 64))
_PROMPTS = ("a red circle", "one, two, " * 60 + "three", 'miku vocaloid, "quoted" text; café', "probeword rests")


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape, (one.shape, other.shape)
    return float((one.detach().float() - other.detach().float()).abs().max())


def _theirs(text: str, negative: bool = False) -> Any:
    from modules import prompt_parser, shared

    given = prompt_parser.SdConditioning([text], is_negative_prompt=negative, width=64, height=64)
    return shared.sd_model.get_learned_conditioning(given)


def _compare(ours: Any, theirs: Any) -> float:
    if not isinstance(theirs, dict):
        return _difference(ours, theirs)
    return max(_difference(ours[0], theirs["crossattn"]), _difference(ours[1], theirs["vector"]))


def family_parity() -> dict[str, Any]:
    """Texts, with an embedding and empty; noise prediction; latents: ours minus the webui's."""
    from modules import devices, sd_hijack, shared
    from modules.textual_inversion.textual_inversion import Embedding

    host, reason = current_host()
    assert host is not None, reason
    result: dict[str, Any] = {"texts": {}}
    with host.exclusive(_TASK), host.borrow(TrainConfig(), Control()) as borrowed, torch.no_grad():
        model = borrowed.model
        generator = torch.Generator().manual_seed(3)
        probe = probe_embedding(model, generator, 3)
        parts = dict(probe.weights)
        embedding = Embedding(parts if len(parts) > 1 else next(iter(parts.values())), "probeword")
        embedding.vectors, embedding.filename = 3, "probeword.pt"
        embedding.shape = sum(weight.shape[1] for weight in parts.values())
        database = sd_hijack.model_hijack.embedding_db
        database.register_embedding(embedding, shared.sd_model)
        try:
            for text in _PROMPTS:
                ours = TextConditioner(model, probe).encode([text], [_SIZE])[0].conditioning
                result["texts"][text[:12]] = _compare(ours, _theirs(text))
            empty = TextConditioner(model, probe).encode([""], [_SIZE])[0].conditioning
            result["texts"]["empty"] = _compare(empty, _theirs("", negative=True))
        finally:
            database.register_embedding_by_name(None, shared.sd_model, "probeword")
        noisy = torch.randn(1, 4, 16, 16, generator=generator)
        ours = TextConditioner(model, probe).encode(["a red circle"], [_SIZE])[0].conditioning
        with devices.autocast():
            theirs = shared.sd_model.apply_model(noisy, torch.tensor([400]), _theirs("a red circle"))
        result["eps"] = _difference(model.predict(noisy, torch.tensor([400]), ours), theirs)
        result["eps_size"] = float(theirs.abs().max())
        pixels = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
        vae = shared.sd_model.first_stage_model
        moments = vae.quant_conv(vae.encoder(pixels)).chunk(2, dim=1)[0] * shared.sd_model.scale_factor
        result["latent"] = _difference(model.vae.encode(pixels)[0], moments)
        result["family"], result["v"] = model.family, model.is_v_prediction
        result["encoders"] = [encoder.name for encoder in model.text_encoders]
    return result


def family_step() -> dict[str, Any]:
    """Gradients of a step with a LoRA on everything, with and without checkpointing."""
    from modules import shared

    host, reason = current_host()
    assert host is not None, reason
    result: dict[str, Any] = {}
    config = TrainConfig(text_encoder_rank=2)
    with host.exclusive(_TASK), host.borrow(config, Control()) as borrowed:
        model = borrowed.model
        generator = torch.Generator().manual_seed(5)
        noisy, times = torch.randn(2, 4, 16, 16, generator=generator), torch.tensor([10, 700])
        probe = probe_embedding(model, generator)
        for weight in probe.weights.values():
            weight.requires_grad_(True)
        targets = [target for target in model.lora_targets() if target.part != "unet" or target.role != "other"]
        parts = sorted({target.part for target in targets})
        loras = [
            AdapterSet.with_ranks(
                part, [(target, 2) for target in targets if target.part == part], 0.5, 1, model.device
            )
            for part in parts
        ]
        with torch.no_grad():
            for lora in loras:
                for layer in lora.layers:
                    layer.parameters["up"].normal_(0, 0.02, generator=generator)

        def step(enabled: bool) -> list[torch.Tensor]:
            for lora in loras:
                lora.flat.clear_gradient()
            for weight in probe.weights.values():
                weight.grad = None
            with attach(loras), model.checkpointing(enabled=enabled):
                model.verify()
                text = TextConditioner(model, probe, loras).encode(["probeword and more"] * 2, [_SIZE] * 2)[0]
                model.predict(noisy, times, text.conditioning).float().square().mean().backward()
            leaves = [leaf.grad.clone() for lora in loras for leaf in lora.flat.leaves]
            return leaves + [weight.grad.clone() for weight in probe.weights.values()]

        plain, again = step(False), step(True)
        result["parts"] = parts
        result["leaves"] = len(plain)
        # The last layer of an encoder that is read before it, and what only it would use, get none.
        silent = [
            layer.target.key
            for lora in loras
            for layer in lora.layers
            if not all(bool(value.grad.any()) for value in layer.parameters.values())
        ]
        result["silent"] = silent
        result["checkpointing"] = max(_difference(a, b) for a, b in zip(plain, again, strict=True))
        result["base_gradients"] = sum(item.grad is not None for item in shared.sd_model.parameters())
    return result


def family_preview() -> dict[str, Any]:
    """A preview with live embeddings of every encoder."""
    host, reason = current_host()
    assert host is not None, reason
    with host.exclusive(_TASK), host.borrow(TrainConfig(), Control()) as borrowed:
        generator = torch.Generator().manual_seed(5)
        request = SampleRequest("probeword on a red circle", "", 64, 64, 2, 4.0, 7)
        found = []
        for scale in (1.0, 1.0, 2.0):
            generator.manual_seed(5)
            probe = probe_embedding(borrowed.model, generator)
            vectors = {encoder: weight * scale for encoder, weight in probe.weights.items()}
            image = borrowed.sampler.make(request, {"probeword": vectors}).image
            found.append(digest(torch.tensor(list(image.tobytes()), dtype=torch.uint8)))
    return {"same": found[0] == found[1], "vectors_matter": found[0] != found[2]}


CHECKS = (family_parity, family_step, family_preview)
