"""Differences between webuis, as named questions."""

from __future__ import annotations

from typing import Any

__all__ = ["escapes_card_descriptions", "load_network_reads_file", "records_embedding_hashes"]


def load_network_reads_file(extension: Any) -> bool:
    """Whether the Lora extension reads a LoRA's file in ``load_network``.

    Args:
        extension: module of the Lora extension.

    Host: extensions-builtin/Lora/networks.py, ``load_network``, A1111 1.6.1-1.10.1: reads the file. In Forge, old
        Forge, reForge and Forge-classic ``load_lora_state_dict`` does, and A1111 has no function of that name.
    """
    return not hasattr(extension, "load_lora_state_dict")


def records_embedding_hashes() -> bool:
    """Whether the webui records the hashes of embeddings while it encodes a prompt.

    Host: modules/sd_hijack.py, ``model_hijack.extra_generation_params``, A1111 1.6.1-1.10.1, old Forge, reForge: where
        it does. Forge since August 2024 has no such attribute, and Forge-Neo no such module.
    """
    try:
        from modules import sd_hijack
    except ImportError:
        return False
    return hasattr(sd_hijack.model_hijack, "extra_generation_params")


def escapes_card_descriptions() -> bool:
    """Whether the webui itself escapes the description on a card.

    Host: modules/shared_options.py, ``extra_networks_card_description_is_html``, A1111 1.8-1.10.1, Forge, reForge: off
        unless changed; earlier webuis have no such option and escape nothing.
    """
    from modules import shared

    name = "extra_networks_card_description_is_html"
    return name in shared.opts.data_labels and not shared.opts.data.get(name, False)
