"""Maps runs of token ids to embeddings while bundles are active."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lib_pivotal.core.bundle.embeddings import BundledEmbedding
from lib_pivotal.core.families import family_of_widths
from lib_pivotal.core.prompt_names.names import PunctuationPadding, why_unusable
from lib_pivotal.core.prompt_names.options import NameOptions, without_brackets

__all__ = ["ActiveBundle", "Entry", "Notice", "TokenTable", "build_table"]

Run = tuple[int, ...]
"""Token ids of a name."""


@dataclass(frozen=True)
class ActiveBundle:
    """A LoRA that a prompt uses.

    Attributes:
        label: name of the LoRA in the prompt.
        file: its path; two labels of the same file are one bundle.
        embeddings: name in the file → embedding.
        options: how the embeddings are named in this prompt.
    """

    label: str
    file: str
    embeddings: Mapping[str, BundledEmbedding]
    options: NameOptions = field(default_factory=NameOptions)


@dataclass(frozen=True)
class Entry:
    """An active name.

    Attributes:
        name: as typed in a prompt.
        ids: token ids.
        embedding: what it stands for.
        label: name of its LoRA in the prompt.
    """

    name: str
    ids: Run
    embedding: BundledEmbedding
    label: str


@dataclass(frozen=True)
class Notice:
    """A message for the user.

    Attributes:
        text: a sentence.
        name: show it only if a prompt contains this name; empty to show it always.
    """

    text: str
    name: str = ""


class TokenTable:
    """Looks up token runs; immutable, so that threads may share it.

    Args:
        entries: active names; each run of token ids occurs only once.
        notices: which names are not used and why.
    """

    def __init__(self, entries: Sequence[Entry] = (), notices: Sequence[Notice] = ()) -> None:
        self.entries = tuple(entries)
        self.notices = tuple(notices)
        self.pad_punctuation = PunctuationPadding(entry.name for entry in self.entries)
        self._by_first: dict[int, list[tuple[list[int], Entry]]] = {}
        for entry in sorted(self.entries, key=lambda entry: -len(entry.ids)):
            self._by_first.setdefault(entry.ids[0], []).append((list(entry.ids), entry))

    def find(self, tokens: Sequence[int], offset: int) -> Entry | None:
        """The longest name that begins at ``tokens[offset]``, or None."""
        for ids, entry in self._by_first.get(tokens[offset], ()):
            if list(tokens[offset : offset + len(ids)]) == ids:
                return entry
        return None

    def identity(self) -> tuple[tuple[Run, str], ...]:
        """A value that is equal for two tables if every prompt has the same encoding with both."""
        return tuple((entry.ids, entry.embedding.hash) for entry in self.entries)


def build_table(
    bundles: Sequence[ActiveBundle],
    *,
    widths: Mapping[str, int],
    tokenize: Callable[[str], Sequence[Run]],
    installed: Callable[[Run], str],
    bundle_wins: bool = False,
) -> TokenTable:
    """Build the table that maps names to embeddings.

    The first LoRA in the prompt wins over later ones; an installed embedding wins over all of them, unless
    ``bundle_wins``. Every embedding is also available as ``name@label``.

    Args:
        bundles: active bundles in the order of the prompt.
        widths: encoder name → width of the loaded model's token vectors.
        tokenize: name → its token runs, one for each tokenizer of the model that sees it differently; empty when it has
            no tokens.
        installed: token run → name of the installed embedding with these tokens, or an empty string.
        bundle_wins: whether bundles win over installed embeddings.
    """
    entries: dict[Run, Entry] = {}
    notices: list[Notice] = []
    seen: set[str] = set()
    for bundle in bundles:
        if bundle.file in seen or bundle.options.is_off:
            continue
        seen.add(bundle.file)
        misfits: dict[str, list[str]] = {}
        for embedding in bundle.embeddings.values():
            name = bundle.options.name_of(embedding.name)
            if not _fits(embedding, widths):
                misfits.setdefault(_model_text(_widths(embedding).values()), []).append(name)
                continue
            for run in tokenize(f"{name}@{bundle.label}"):
                entries.setdefault(run, Entry(f"{name}@{bundle.label}", run, embedding, bundle.label))
            runs = tokenize(name)
            # A word that is rare for one tokenizer of the model may be common for the other.
            is_chosen = bundle.options.renames(embedding.name)
            reasons = [why_unusable(name, run, is_chosen=is_chosen) for run in runs or [()]]
            reason = next(filter(None, reasons), "")
            if reason:
                notices.append(_refusal(name, embedding.name, bundle.label, reason))
            else:
                notices += _place(name, embedding, bundle.label, entries, runs, installed, bundle_wins)
        notices += [_misfit(names, model, bundle.label, widths) for model, names in misfits.items()]
    return TokenTable(list(entries.values()), notices)


def _refusal(name: str, own_name: str, label: str, reason: str) -> Notice:
    old = without_brackets(own_name)
    # Not every name can be written in a tag, but a prefix works for all.
    part = "NEW_" if not old.strip() or set(old) & set(":,/=") else f"{old}/NEW"
    remedy = f"Give it another name with <lora:{label}:1:ti={part}>."
    return Notice(f"LoRA {label}: {name!r} is not used: {reason}. {remedy}", name)


def _misfit(names: Sequence[str], model: str, label: str, widths: Mapping[str, int]) -> Notice:
    are = "is" if len(names) == 1 else "are"
    loaded = _model_text(widths.values())
    return Notice(f"LoRA {label}: {_list(names)} {are} not used: made for {model}, but the loaded model is {loaded}.")


def _place(
    name: str,
    embedding: BundledEmbedding,
    label: str,
    entries: dict[Run, Entry],
    runs: Sequence[Run],
    installed: Callable[[Run], str],
    bundle_wins: bool,
) -> list[Notice]:
    """Add the token runs of a name that are not taken; return notices about the others."""
    notices = []
    for run in runs:
        owner, on_disk = entries.get(run), installed(run)
        if owner is not None:
            if owner.embedding.hash != embedding.hash:
                notices.append(
                    Notice(f"{name} is in the LoRAs {owner.label} and {label}; {owner.label} is used. "
                           f"The other one is {name}@{label}.", name)
                )  # fmt: skip
            continue
        if on_disk and not bundle_wins:
            notices.append(
                Notice(f"{name} is an installed embedding and in the LoRA {label}; the installed one is used. "
                       f"The other one is {name}@{label}.", name)
            )  # fmt: skip
            continue
        if on_disk:
            notices.append(
                Notice(f"{name} is an installed embedding and in the LoRA {label}; the LoRA's is used.", name)
            )
        entries[run] = Entry(name, run, embedding, label)
    return list(dict.fromkeys(notices))


def _fits(embedding: BundledEmbedding, widths: Mapping[str, int]) -> bool:
    """Whether the embedding has vectors for the model's text encoders.

    In many files a single tensor has no encoder name, so a model with one encoder uses a tensor of its width. The SDXL
    refiner has the second of SDXL's encoders and uses those vectors.
    """
    own = _widths(embedding)
    if dict(widths) == own:
        return True
    if len(widths) != 1:
        return False
    (encoder, width), *_ = widths.items()
    if encoder == "clip_g":
        return own.get(encoder) == width
    return list(own.values()) == [width]


def _widths(embedding: BundledEmbedding) -> dict[str, int]:
    return {name: int(value.shape[1]) for name, value in embedding.encoders.items()}


def _model_text(widths: Iterable[int]) -> str:
    ordered = sorted(widths)
    numbers = " + ".join(str(width) for width in ordered)
    family = family_of_widths(ordered)
    return f"{family} ({numbers})" if family else f"a model of width {numbers}"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
