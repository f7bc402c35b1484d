"""How the webui finds names among tokens, with ours among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lib_pivotal.host.bundle_prompts.hooks import Hooks, guarded
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.bundle_prompts.state import LoaderState
from lib_pivotal.host.bundle_prompts.webui_symbols import live_stores, store_module, tokenizing_classes

__all__ = ["add_lookup_hooks", "ask_host"]


def ask_host() -> Callable[[Sequence[int]], tuple[Any, Any]]:
    """A function that asks the webui's own stores of embeddings; to be made before our hook stands there.

    Host: textual_inversion.py, ``EmbeddingDatabase.find_embedding_at_position``, A1111 1.6.1-1.10.1, Forge, reForge:
        the longest registered run at an offset, as embedding and length.
    """
    original = store_module().EmbeddingDatabase.find_embedding_at_position

    def ask(run: Sequence[int]) -> tuple[Any, Any]:
        for store in live_stores():
            found = original(store, list(run), 0)
            if found[0] is not None:
                return found[0], found[1]
        return None, None

    return ask


def add_lookup_hooks(hooks: Hooks, state: LoaderState) -> None:
    """Let the webui's look-up see the table, and names beside punctuation.

    Args:
        hooks: takes the hooks.
        state: has the table.
    """

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

    hooks.wrap(store_module().EmbeddingDatabase, "find_embedding_at_position", find)
    for owner in tokenizing_classes():
        hooks.wrap(owner, "tokenize", tokenize)
