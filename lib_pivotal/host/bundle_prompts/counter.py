"""The token counter next to the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lib_pivotal.core.prompt_names.table import TokenTable
from lib_pivotal.host.bundle_prompts.activation import tagged_loras
from lib_pivotal.host.bundle_prompts.active_names import ActiveNames
from lib_pivotal.host.bundle_prompts.hooks import Hooks, guarded
from lib_pivotal.host.bundle_prompts.name_tables import TaggedLora

__all__ = ["add_counter_hook"]


def add_counter_hook(hooks: Hooks, names: ActiveNames) -> None:
    """Count with the names of the LoRAs in the text and no others, whether an image was made of it or not.

    A negative prompt has no tags: it is counted with the LoRAs of the prompt that was counted last.

    Args:
        hooks: takes the hook; must be there before the page is built.
        names: makes the tables.

    Host: modules/ui.py, ``update_token_counter``, A1111 1.6.1-1.10.1, Forge: takes the text first and, from 1.8, the
        styles third; from 1.7 ``is_positive=False`` for a negative prompt, which 1.6.1 does not tell apart. It runs
        on a thread of the page while a generation may be under way on another.
    """
    from modules import ui

    last: list[TaggedLora] = []

    def table_for(text: str, styles: Sequence[str], is_positive: bool) -> TokenTable:
        if is_positive:
            last[:] = tagged_loras(_with_styles(text, styles))
        return names.table_of(last)

    def update_token_counter(original: Any, text: str, *arguments: Any, **options: Any) -> Any:
        styles = arguments[1] if len(arguments) > 1 else options.get("styles") or ()
        is_positive = options.get("is_positive", True)
        table = guarded("counting tokens", lambda: table_for(text, styles, is_positive), TokenTable())
        with names.counting(table):
            return original(text, *arguments, **options)

    hooks.wrap(ui, "update_token_counter", update_token_counter)


def _with_styles(text: str, styles: Sequence[str]) -> str:
    from modules import shared

    return shared.prompt_styles.apply_styles_to_prompt(text, list(styles)) if styles else text
