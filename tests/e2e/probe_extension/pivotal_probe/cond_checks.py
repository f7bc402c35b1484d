"""Encodings, comments and texts of the generations since the last look."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import torch

from pivotal_probe.hosts import read_embeddings_again, runner_without_scripts

_SEEN: dict[str, list[Any]] = {"conds": [], "comments": [], "errors": []}


def _feed(value: Any, digest: Any) -> None:
    if isinstance(value, torch.Tensor):
        digest.update(str(tuple(value.shape)).encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    elif isinstance(value, dict):
        for key in sorted(value):
            digest.update(str(key).encode())
            _feed(value[key], digest)
    elif isinstance(value, list | tuple):
        digest.update(str(len(value)).encode())
        for item in value:
            _feed(item, digest)
    elif hasattr(value, "__dict__"):
        _feed(vars(value), digest)
    else:
        digest.update(repr(value).encode())


def watch() -> None:
    """Wrap the function that gives a generation its encodings, outside of all other wrappers."""
    from modules import processing

    original = processing.StableDiffusionProcessing.get_conds_with_caching

    @functools.wraps(original)
    def get_conds(task: Any, function: Any, prompts: Any, *arguments: Any, **options: Any) -> Any:
        result = original(task, function, prompts, *arguments, **options)
        digest = hashlib.sha256()
        _feed(result, digest)
        kind = "c" if "multicond" in function.__name__ else "uc"
        _SEEN["conds"].append([kind, digest.hexdigest(), [str(prompt) for prompt in prompts]])
        return result

    processing.StableDiffusionProcessing.get_conds_with_caching = get_conds


def note_comments(task: Any) -> None:
    """Keep the comments of a generation."""
    _SEEN["comments"].append(sorted(task.comments))


def take() -> dict[str, Any]:
    """What was seen since the last call."""
    taken = {name: list(values) for name, values in _SEEN.items()}
    for values in _SEEN.values():
        values.clear()
    return taken


def token_count(text: str, negative: bool = False) -> dict[str, str]:
    """What the page's counter says of a text."""
    import inspect

    from modules import ui

    takes_styles = "styles" in inspect.signature(inspect.unwrap(ui.update_token_counter)).parameters
    count = ui.update_negative_prompt_token_counter if negative else ui.update_token_counter
    return {"answer": count(text, 20, *([[]] if takes_styles else []))}


def token_count_of(text: str) -> dict[str, int]:
    """Tokens of a text as the generation that was made last would count them."""
    from modules import sd_hijack

    return {"count": sd_hijack.model_hijack.get_prompt_lengths(text)[0]}


def cards(page: str) -> list[dict[str, Any]]:
    """Items of a page of cards, ``lora`` or ``textual``, as a page that is opened now would show them."""
    from modules import ui_extra_networks

    found = next(item for item in ui_extra_networks.extra_pages if page in item.name.lower())
    if not hasattr(found, "create_card_view_html"):
        # Host: modules/ui_extra_networks.py, ``pages_html``, A1111 1.6.1-1.7.0: refreshes before it shows.
        found.refresh()
    wanted = ("name", "description", "prompt", "search_terms", "search_term")
    return [{key: item.get(key) for key in wanted} for item in found.list_items()]


def card_html(page: str) -> dict[str, str]:
    """The same page as markup."""
    from modules import ui_extra_networks

    found = next(item for item in ui_extra_networks.extra_pages if page in item.name.lower())
    found.refresh()
    return {"html": found.create_html("txt2img")}


def reload_textual_inversion() -> dict[str, int]:
    """What the refresh button of the page of embeddings does."""
    return {"known": read_embeddings_again()}


def _task(prompt: str | list[str]) -> Any:
    """A small generation; several prompts make one image each, in one batch."""
    from modules import processing, shared

    task = processing.StableDiffusionProcessingTxt2Img(
        sd_model=shared.sd_model, prompt=prompt, steps=1, width=64, height=64, seed=1,
        do_not_save_samples=True, do_not_save_grid=True, sampler_name="Euler",
        batch_size=len(prompt) if isinstance(prompt, list) else 1,
    )  # fmt: skip
    task.scripts = runner_without_scripts()
    return task


def failing_pass(prompt: str) -> dict[str, bool]:
    """A generation that is interrupted while it samples."""
    import contextlib

    from modules import call_queue, processing

    task = _task(prompt)
    task.sample = lambda **_options: 1 / 0
    with call_queue.queue_lock, contextlib.closing(task):
        try:
            processing.process_images(task)
        except ZeroDivisionError:
            return {"failed": True}
    return {"failed": False}


def inner_pass(prompt: str | list[str]) -> dict[str, Any]:
    """A whole generation without scripts, as extensions start them inside other generations."""
    import contextlib

    from modules import call_queue, processing

    task = _task(prompt)
    with call_queue.queue_lock, contextlib.closing(task):
        processing.process_images(task)
    return take()


def loader_times(lora: str, met: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of what a bundle makes a generation do, each so many times."""
    import contextlib
    import os
    import time

    import networks
    from modules import call_queue, extra_networks, processing

    path = networks.available_networks[lora].filename

    def timed(action: Any, *arguments: Any) -> float:
        started = time.perf_counter()
        action(*arguments)
        return time.perf_counter() - started

    def activate(prompt: str) -> None:
        task = _task(prompt)
        task.setup_prompts()
        task.prompts, task.negative_prompts = task.all_prompts, task.all_negative_prompts
        task.iteration, task.seeds, task.subseeds, task.sampler_name = 0, [1], [1], "Euler"
        task.parse_extra_network_prompts()
        extra_networks.activate(task, task.extra_network_data)
        task.setup_conds()

    def generate(prompt: str) -> None:
        with contextlib.closing(_task(prompt)) as task:
            processing.process_images(task)

    def first() -> float:
        activate("cat")
        os.utime(path)
        return timed(activate, tagged)

    tagged = f"<lora:{lora}:1> quizname3 and quizname7"
    with call_queue.queue_lock, torch.no_grad():
        for prompt in (tagged, "cat"):
            activate(prompt)
            generate(prompt)
        activate(tagged)
        kept = [timed(activate, tagged) for _ in range(rounds)]
        switched = [timed(activate, prompt) for _ in range(rounds // 2) for prompt in (tagged, "cat")]
        loaded = [first() for _ in range(rounds // 4)]
        activate("cat")
        plain = [timed(generate, "cat on a hill") for _ in range(rounds)]
        activate("cat")
        none = [timed(activate, "cat") for _ in range(rounds)]
        for name in met:
            activate(f"<lora:{name}:1> cat")
        activate("cat")
        many = [timed(activate, "cat") for _ in range(rounds)]
    return {"activate": kept, "switch": switched, "first": loaded, "plain": plain, "none": none, "met": many}


def parse_infotext(text: str) -> dict[str, Any]:
    """How the webui itself parses an infotext.

    Host: modules/generation_parameters_copypaste.py, ``parse_generation_parameters``, A1111 1.6.1-1.10.1, Forge:
        modules/infotext_utils.py in Forge-Neo, and in newer versions of the others, too.
    """
    try:
        from modules import infotext_utils as reader
    except ImportError:
        from modules import generation_parameters_copypaste as reader

    return {key: str(value) for key, value in reader.parse_generation_parameters(text).items()}


CHECKS = (
    take,
    token_count,
    token_count_of,
    cards,
    card_html,
    reload_textual_inversion,
    inner_pass,
    failing_pass,
    loader_times,
    parse_infotext,
)
