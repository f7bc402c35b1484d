"""How the webui finds names among tokens, with ours among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lib_pivotal.core.prompt_names.table import Entry
from lib_pivotal.host.bundle_prompts.active_names import ActiveNames
from lib_pivotal.host.bundle_prompts.database import HostEmbeddings
from lib_pivotal.host.bundle_prompts.hooks import Hooks, guarded
from lib_pivotal.host.bundle_prompts.settings import read_settings
from lib_pivotal.host.bundle_prompts.webui_symbols import live_stores, store_module, tokenizing_classes

__all__ = ["add_lookup_hooks", "unhooked_find", "unhooked_tokenize"]


def unhooked_find() -> Callable[[Sequence[int]], tuple[Any, Any]]:
    """The webui's own look-up of a token run; call it before our hook is installed.

    Host: textual_inversion.py, ``EmbeddingDatabase.find_embedding_at_position``, A1111 1.6.1-1.10.1, Forge, reForge:
        the longest registered run at an offset, as embedding and length; both are None where there is none.
    """
    original = store_module().EmbeddingDatabase.find_embedding_at_position

    def find(run: Sequence[int]) -> tuple[Any, Any]:
        for store in live_stores():
            found = original(store, list(run), 0)
            if found[0] is not None:
                return found[0], found[1]
        return None, None

    return find


def unhooked_tokenize() -> Callable[[Any, list[str]], list[list[int]]]:
    """The webui's own tokenizer, given a text encoder and texts; call it before our hook is installed."""
    originals: dict[type, Callable[..., Any]] = {owner: vars(owner)["tokenize"] for owner in tokenizing_classes()}

    def tokenize(encoder: Any, texts: list[str]) -> list[list[int]]:
        # SDXL's first encoder inherits its tokenizer from the class that our hook is in.
        original = next((originals[owner] for owner in type(encoder).__mro__ if owner in originals), None)
        return original(encoder, texts) if original is not None else encoder.tokenize(texts)

    return tokenize


def add_lookup_hooks(hooks: Hooks, names: ActiveNames) -> None:
    """Let the webui's look-up see the active names, also where they touch punctuation.

    Args:
        hooks: takes the hooks.
        names: the active names.
    """
    embeddings = HostEmbeddings()

    def embedding_of(entry: Entry) -> Any:
        encoders = names.encoders()
        return embeddings.get(entry.name, entry.embedding, encoders.widths) if encoders is not None else None

    def find(original: Any, database: Any, tokens: list[int], offset: int) -> tuple[Any, Any]:
        theirs = original(database, tokens, offset)
        ours = guarded("looking up a name", lambda: names.current().find(tokens, offset), None)
        if ours is None:
            return theirs
        length = len(ours.ids)
        # The longer name wins. Of two equally long ones the installed one does, unless the user wants it otherwise: the
        # table has ours all the same, since files of embeddings come and go.
        if theirs[0] is not None and (theirs[1] > length or (theirs[1] == length and not read_settings().bundle_wins)):
            return theirs
        made = guarded("making an embedding", lambda: embedding_of(ours), None)
        return theirs if made is None else (made, length)

    def padded(texts: list[str]) -> list[str]:
        table = names.current()
        return [table.pad_punctuation(text) for text in texts]

    def tokenize(original: Any, encoder: Any, texts: list[str], *rest: Any) -> Any:
        return original(encoder, guarded("reading a prompt", lambda: padded(texts), texts), *rest)

    hooks.wrap(store_module().EmbeddingDatabase, "find_embedding_at_position", find)
    for owner in tokenizing_classes():
        hooks.wrap(owner, "tokenize", tokenize)
