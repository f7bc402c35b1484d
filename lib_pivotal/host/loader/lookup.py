"""How the webui finds names among tokens, with ours among them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from lib_pivotal.host.loader.hooks import Hooks, guarded
from lib_pivotal.host.loader.settings import read_settings
from lib_pivotal.host.loader.state import LoaderState

__all__ = ["add_lookup_hooks", "ask_host"]

_TOKENIZING = (
    ("modules.sd_hijack_clip", "FrozenCLIPEmbedderWithCustomWords"),
    ("modules.sd_hijack_open_clip", "FrozenOpenCLIPEmbedderWithCustomWords"),
    ("modules.sd_hijack_open_clip", "FrozenOpenCLIPEmbedder2WithCustomWords"),
)
"""Host: A1111 1.6.1-1.10.1: the classes whose ``tokenize`` a prompt passes, and a name on being registered."""


def ask_host() -> Callable[[Sequence[int]], tuple[Any, Any]]:
    """A function that asks the webui's own store of embeddings; to be made before our hook stands there.

    Host: modules/textual_inversion/textual_inversion.py, ``EmbeddingDatabase.find_embedding_at_position``,
        A1111 1.6.1-1.10.1: the longest registered run at an offset, as embedding and length.
    """
    from modules import sd_hijack
    from modules.textual_inversion import textual_inversion

    original = textual_inversion.EmbeddingDatabase.find_embedding_at_position
    return lambda run: original(sd_hijack.model_hijack.embedding_db, list(run), 0)


def add_lookup_hooks(hooks: Hooks, state: LoaderState) -> None:
    """Let the webui's look-up see the table, and names beside punctuation.

    Args:
        hooks: takes the hooks.
        state: has the table.
    """
    from modules.textual_inversion import textual_inversion

    def find(original: Any, database: Any, tokens: list[int], offset: int) -> tuple[Any, Any]:
        theirs = original(database, tokens, offset)
        ours = guarded("looking a name up", lambda: state.current().find(tokens, offset), None)
        if ours is None:
            return theirs
        length = len(ours.ids)
        # The longer name wins. Of two that are the same the installed one does, unless the user wants it otherwise;
        # the table holds ours nevertheless, since the installed one may come and go.
        if theirs[0] is not None and (theirs[1] > length or (theirs[1] == length and not read_settings().bundle_wins)):
            return theirs
        made = guarded("making an embedding", lambda: state.object_for(ours), None)
        return theirs if made is None else (made, length)

    def tokenize(original: Any, encoder: Any, texts: list[str], *rest: Any) -> Any:
        spaced = guarded("reading a prompt", lambda: [state.spaced(text) for text in texts], texts)
        return original(encoder, spaced, *rest)

    hooks.wrap(textual_inversion.EmbeddingDatabase, "find_embedding_at_position", find)
    for module, name in _TOKENIZING:
        owner = getattr(importlib.import_module(module), name, None)
        # A class that inherits the function has it from one that is in the list.
        if owner is not None and "tokenize" in vars(owner):
            hooks.wrap(owner, "tokenize", tokenize)
