"""Options in a prompt's tag for the embeddings of its LoRA: ``<lora:NAME:1:ti=…>``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lib_pivotal.core.bundle.names import token_key

__all__ = ["NameOptions", "parse_name_options", "without_brackets"]


@dataclass(frozen=True)
class NameOptions:
    """How the embeddings of a LoRA are named in this prompt.

    Attributes:
        is_off: whether none of them are used.
        prefix: prepended to every name that is not renamed.
        renamed: :func:`token_key` of the name in the file → name in prompts. The name in the file may lack its angle
            brackets, since the webui ends a tag at the first ``>``.
    """

    is_off: bool = False
    prefix: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)

    def renames(self, name: str) -> bool:
        """Whether the user renamed this embedding."""
        return self._chosen(name) is not None

    def name_of(self, name: str) -> str:
        """The name in prompts for a name in the file."""
        return self._chosen(name) or self.prefix + name

    def _chosen(self, name: str) -> str | None:
        exact = self.renamed.get(token_key(name))
        return exact if exact is not None else self.renamed.get(token_key(without_brackets(name)))


def without_brackets(name: str) -> str:
    """A name without the angle brackets that a tag cannot contain."""
    return name.replace("<", "").replace(">", "")


def parse_name_options(items: Sequence[object]) -> NameOptions:
    """Read the ``ti=`` parts of a tag.

    ``ti=off`` switches the embeddings off, ``ti=old/new`` renames one (several, separated by commas or in further
    ``ti=`` parts), any other ``ti=text`` is a prefix.

    Args:
        items: the tag's parts between colons; may include numbers added by another extension.
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
                    renamed[token_key(old)] = new.strip()
            elif old.lower() == "off":
                is_off = True
            elif old:
                prefix = old
    return NameOptions(is_off, prefix, renamed)
