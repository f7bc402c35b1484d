"""Who owns which run of token ids while some bundles are active."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lib_pivotal.core.bundle.embeddings import BundledEmbedding
from lib_pivotal.core.prompt_names.names import SpacedNames, why_unusable
from lib_pivotal.core.prompt_names.options import NameOptions, without_brackets

__all__ = ["ActiveBundle", "Entry", "Notice", "TokenTable", "build_table", "family_of"]

Run = tuple[int, ...]
"""Token ids of a name."""

_FAMILIES = {(768,): "SD1", (1024,): "SD2", (768, 1280): "SDXL", (1280,): "the SDXL refiner"}


@dataclass(frozen=True)
class ActiveBundle:
    """One LoRA that a prompt names.

    Attributes:
        label: as the prompt names it.
        file: identity of the file; two labels of one file are one bundle.
        embeddings: name in the file → embedding.
        options: how they are named in this prompt.
    """

    label: str
    file: str
    embeddings: Mapping[str, BundledEmbedding]
    options: NameOptions = field(default_factory=NameOptions)


@dataclass(frozen=True)
class Entry:
    """A name that acts.

    Attributes:
        name: as typed.
        ids: token ids.
        embedding: what it stands for.
        label: LoRA it comes from.
    """

    name: str
    ids: Run
    embedding: BundledEmbedding
    label: str


@dataclass(frozen=True)
class Notice:
    """Something that a user must be told.

    Attributes:
        text: a sentence.
        name: tell only where a prompt holds this name; empty to tell always.
    """

    text: str
    name: str = ""


class TokenTable:
    """Looks up token runs; immutable, so that threads may share it.

    Args:
        entries: in order of rank; of the same run only the first counts.
        notices: what was decided along the way.
    """

    def __init__(self, entries: Sequence[Entry] = (), notices: Sequence[Notice] = ()) -> None:
        self.entries = tuple(entries)
        self.notices = tuple(notices)
        self.spaced = SpacedNames(entry.name for entry in self.entries)
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
        """Equal for tables under which every prompt gives the same encoding."""
        return tuple((entry.ids, entry.embedding.hash) for entry in self.entries)


def build_table(
    bundles: Sequence[ActiveBundle],
    *,
    widths: Mapping[str, int],
    tokenize: Callable[[str], Sequence[Run]],
    installed: Callable[[Run], str],
    bundle_wins: bool = False,
) -> TokenTable:
    """Decide for every name which embedding it means.

    The bundle that the prompt names first wins over later ones; an installed embedding wins over all, unless
    ``bundle_wins``. Every embedding can be had as ``name@label`` besides.

    Args:
        bundles: in the prompt's order.
        widths: encoder name → width of the loaded model's token vectors.
        tokenize: name → its token runs, one for each different tokenizer of the model; empty when it has none.
        installed: token run → name of the embedding file that the host itself knows for it, or an empty text.
        bundle_wins: whether bundles hide installed embeddings.
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
                misfits.setdefault(_widths_text(_widths(embedding)), []).append(name)
                continue
            for run in tokenize(f"{name}@{bundle.label}"):
                entries.setdefault(run, Entry(f"{name}@{bundle.label}", run, embedding, bundle.label))
            runs = tokenize(name)
            # A run that is harmless to one tokenizer of the model may be a common word to the other.
            is_chosen = bundle.options.renames(embedding.name)
            reasons = [why_unusable(name, run, is_chosen=is_chosen) for run in runs or [()]]
            reason = next(filter(None, reasons), "")
            if reason:
                notices.append(_refusal(name, embedding.name, bundle.label, reason))
            else:
                notices += _place(name, embedding, bundle.label, entries, runs, installed, bundle_wins)
        for kind, names in misfits.items():
            notices.append(
                Notice(
                    f"LoRA {bundle.label}: {_list(names)} {'is' if len(names) == 1 else 'are'} for {kind}, but the "
                    f"loaded model is {_widths_text(tuple(widths.values()))}; not used."
                )
            )
    return TokenTable(list(entries.values()), notices)


def _refusal(name: str, own_name: str, label: str, reason: str) -> Notice:
    old = without_brackets(own_name)
    # Only some names can stand in a tag; something can be put before every name.
    part = "NEW_" if not old.strip() or set(old) & set(":,/=") else f"{old}/NEW"
    remedy = f"Give it another name with <lora:{label}:1:ti={part}>."
    return Notice(f"LoRA {label}: {name!r} is not used, since {reason}. {remedy}", name)


def _place(
    name: str,
    embedding: BundledEmbedding,
    label: str,
    entries: dict[Run, Entry],
    runs: Sequence[Run],
    installed: Callable[[Run], str],
    bundle_wins: bool,
) -> list[Notice]:
    """Give a name its runs if they are free, and say so if not."""
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
    """Whether the model's encoders find their vectors.

    A single tensor has no name of its own in many files, so a model with one encoder takes the one of its width.
    SDXL's refiner has the second of SDXL's encoders and takes its half.
    """
    own = {name: int(value.shape[1]) for name, value in embedding.encoders.items()}
    if dict(widths) == own:
        return True
    if len(widths) != 1:
        return False
    (encoder, width), *_ = widths.items()
    if encoder == "clip_g":
        return own.get(encoder) == width
    return list(own.values()) == [width]


def _widths(embedding: BundledEmbedding) -> tuple[int, ...]:
    return tuple(int(value.shape[1]) for value in embedding.encoders.values())


def family_of(widths: tuple[int, ...]) -> str:
    """Model family of token widths, or an empty text."""
    return _FAMILIES.get(tuple(sorted(widths)), "")


def _widths_text(widths: tuple[int, ...]) -> str:
    numbers = " + ".join(str(width) for width in sorted(widths))
    family = family_of(widths)
    return f"{family} ({numbers})" if family else f"a model of width {numbers}"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
