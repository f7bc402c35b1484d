"""What a prompt's tag says about the embeddings of its LoRA: ``<lora:NAME:1:ti=…>``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["NameOptions", "parse_name_options", "without_brackets"]


@dataclass(frozen=True)
class NameOptions:
    """How the embeddings of one LoRA are named in this prompt.

    Attributes:
        is_off: none of them is used.
        prefix: put before every name that is not renamed.
        renamed: name in the file, lower case → name in prompts. Angle brackets may be missing in the first, since the
            webui ends a tag at the first ``>``.
    """

    is_off: bool = False
    prefix: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)

    def renames(self, name: str) -> bool:
        """Whether the user gave this embedding a name of his own choice."""
        return self._chosen(name) is not None

    def name_of(self, name: str) -> str:
        """The name in prompts for a name in the file."""
        return self._chosen(name) or self.prefix + name

    def _chosen(self, name: str) -> str | None:
        exact = self.renamed.get(name.lower())
        return exact if exact is not None else self.renamed.get(without_brackets(name).lower())


def without_brackets(name: str) -> str:
    """A name as a tag can hold it."""
    return name.replace("<", "").replace(">", "")


def parse_name_options(items: Sequence[object]) -> NameOptions:
    """Read the ``ti=`` parts of a tag.

    ``ti=off`` switches the embeddings off, ``ti=old/new`` renames one (several by comma or by another ``ti=``),
    any other ``ti=text`` is a prefix.

    Args:
        items: the tag's parts between colons; numbers where another extension put some.
    """
    is_off, prefix, renamed = False, "", {}
    for item in items:
        key, equals, value = str(item).partition("=")
        if key.strip().lower() != "ti" or not equals:
            continue
        for part in value.split(","):
            old, slash, new = part.strip().partition("/")
            if slash:
                if old.strip() and new.strip():
                    renamed[old.strip().lower()] = new.strip()
            elif old.lower() == "off":
                is_off = True
            else:
                prefix = old
    return NameOptions(is_off, prefix, renamed)
