"""Rules for the names of embeddings and files; every problem suggests a name that follows the rules."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from lib_pivotal.core.bundle.everyday_words import is_everyday_tag
from lib_pivotal.core.bundle.nested_names import nested_names, parts_of_installed
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.config.user_path import RESERVED_NAMES
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.families import CHUNK_TOKENS, COMMON_TOKENS_BELOW
from lib_pivotal.core.printable import printable

__all__ = [
    "EMBEDDING_SUFFIXES",
    "IMAGE_SUFFIXES",
    "MAX_NAME_LENGTH",
    "Tokenizer",
    "as_warnings",
    "check_file_name",
    "check_names",
    "file_stem_for",
    "name_problems",
    "suggest_name",
    "token_key",
    "why_untypable",
]

Tokenizer = Callable[[str], list[int]]
"""Text → token ids without start and end tokens."""

EMBEDDING_SUFFIXES = (".safetensors", ".pti", ".pt", ".bin")
"""Suffixes of embedding files; cog-sdxl uses ``.pti`` for a safetensors file."""
IMAGE_SUFFIXES = (".png", ".webp", ".avif", ".jxl")
"""Suffixes of images that an embedding may be stored in."""
MAX_NAME_LENGTH = 100
"""Maximum length of a name in a file; names to be trained must be shorter."""
_MAX_NEW_NAME_LENGTH = 60
_MAX_FILE_NAME_LENGTH = 100
_MAX_FILE_NAME_BYTES = 180
"""UTF-8 bytes; a file name may have 255, but suffixes, numbers and temporary names are added to it."""
_ALLOWED = frozenset(" _-")
_ALLOWED_IN_FILES = frozenset(" _-.")
_UNTYPABLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories of control, format (including bidi), surrogate, private-use and line separator characters."""
_GRAMMAR = re.compile(r"\b(?:AND|BREAK)\b")
"""Words that split a prompt.

Host: modules/prompt_parser.py, ``re_AND`` and ``re_break``, A1111 1.6.1-1.10.1: in capitals, between any two letters
    that belong to no word.
"""
_COSTLY_FROM = 9
_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
"""First words of the Unicode names of scripts written without spaces or with attached endings."""
_VERSION = re.compile(r"_v(\d{1,4})$")


def token_key(text: str) -> str:
    """Normalize a text as every CLIP tokenizer does; names with equal keys are the same name in a prompt.

    Case, the amount of whitespace and the composition of accented letters make no difference. Letters that
    only look or sound alike stay different, as they are for the tokenizer: ``straße`` is not ``strasse``.

    Source: https://github.com/openai/CLIP, clip/simple_tokenizer.py: the text is normalized to NFC by ftfy, white space
        is collapsed, and the rest is in lower case. ftfy changes more (full-width letters, say), which tokenizers
        without it leave alone.
    """
    return " ".join(unicodedata.normalize("NFC", text.lower()).split())


def why_untypable(name: str) -> str:
    """Why a name cannot be typed in a prompt, or an empty string; does not check how it is tokenized."""
    if not name.strip():
        return "its name is empty"
    if len(name) > MAX_NAME_LENGTH:
        return f"its name has {len(name)} characters; at most {MAX_NAME_LENGTH} are allowed"
    if any(unicodedata.category(letter) in _UNTYPABLE for letter in name):
        return "its name has characters that cannot be typed"
    return ""


def suggest_name(name: str, tokenizer: Tokenizer | None = None, avoid: Collection[str] = ()) -> str:
    """Suggest a name similar to ``name`` that passes :func:`check_names`.

    Args:
        name: a name that breaks the rules or is taken.
        tokenizer: ensures that the suggestion is not a single word of the vocabulary; may be None.
        avoid: keys (see :func:`token_key`) of taken names.
    """
    base = _GRAMMAR.sub(lambda match: match.group().lower(), _spelled(name)) or "my_concept"
    version = _VERSION.search(base)
    first = int(version.group(1)) + 1 if version else 1
    stem = base[: version.start()] if version else base
    for candidate in (base, *(f"{stem}_v{number}" for number in range(first, first + 1000))):
        is_one_word = tokenizer is not None and len(tokenizer(candidate)) <= 1
        if not _spelling_fault(candidate) and not is_one_word and token_key(candidate) not in avoid:
            return candidate
    return "my_concept_v1"


def _spelled(name: str) -> str:
    """The allowed characters of a name, in their ordinary form."""
    plain = "".join(unicodedata.normalize("NFKC", letter) if _is_variant(letter) else letter for letter in name)
    plain = unicodedata.normalize("NFC", plain[: 4 * _MAX_NEW_NAME_LENGTH])
    kept = "".join(letter if _is_word(letter) or letter in "_-" else " " for letter in plain)
    kept = "_".join(kept.split()).strip("_-")[: _MAX_NEW_NAME_LENGTH - len("_v1000")]
    while kept and unicodedata.category(kept[0])[0] == "M":
        kept = kept[1:].lstrip("_-")
    return kept.strip("_-")


def _is_word(letter: str) -> bool:
    """Whether a character is a letter, a digit or a mark such as a vowel sign."""
    return unicodedata.category(letter)[0] in "LMN"


def _is_variant(letter: str) -> bool:
    """Whether a character is full-width, half-width or a ligature; ftfy replaces these before tokenizing.

    Host: transformers' CLIPTokenizer and open_clip's tokenizer, A1111 1.6.1-1.10.1: both call ``ftfy.fix_text``.
    """
    return "\ufb00" <= letter <= "\ufb06" or unicodedata.decomposition(letter).startswith(("<wide>", "<narrow>"))


def check_names(
    concepts: Sequence[Concept],
    *,
    taken: Mapping[str, str],
    tokenizer: Tokenizer | None,
) -> list[Problem]:
    """Find all problems with the names of the concepts.

    Args:
        concepts: the concepts to check; problems have the field ``concepts[i].name``.
        taken: installed embeddings: name → source.
        tokenizer: text → token ids; None skips the checks that need it.
    """
    problems: list[Problem] = []
    installed = {token_key(name): source for name, source in taken.items()}
    first: dict[str, str] = {}
    avoid = {*installed, *(token_key(concept.name) for concept in concepts)}
    for index, concept in enumerate(concepts):
        field, name = f"concepts[{index}].name", concept.name
        key = token_key(name)
        found = _name_faults(field, name, tokenizer, avoid)
        if key in first:
            text = f"{printable(first[key])} and {printable(name)} are the same name to the tokenizer."
            found.append(Problem(field, "error", text, "Rename one."))
        elif key in installed:
            text = f"An installed embedding ({printable(installed[key])}) has the same name and would hide this one."
            hint = f"Rename it, for example to {suggest_name(name, tokenizer, avoid)}."
            found.append(Problem(field, "warning", text, hint))
        first.setdefault(key, name)
        if not any(problem.is_error for problem in found):
            found += _advice(field, name, tokenizer)
        problems += found
    if tokenizer is not None:
        names = [concept.name for concept in concepts]
        runs = {index: tuple(tokenizer(name)) for index, name in enumerate(names) if not _spelling_fault(name)}
        problems += nested_names(names, runs)
        problems += parts_of_installed(names, runs, {name: token_key(name) for name in taken}, tokenizer)
    return problems


def name_problems(names: Iterable[str], tokenizer: Tokenizer | None) -> list[Problem]:
    """Check each name by itself; the field of a problem is the name."""
    return [problem for name in names for problem in _name_faults(printable(name) or "name", name, tokenizer, ())]


def as_warnings(problems: Iterable[Problem]) -> list[Problem]:
    """The problems as warnings."""
    return [Problem(problem.field, "warning", problem.message, problem.hint) for problem in problems]


def _name_faults(field: str, name: str, tokenizer: Tokenizer | None, avoid: Collection[str]) -> list[Problem]:
    """Check the spelling of a name and, if that is valid, its tokens."""
    fault = _spelling_fault(name)
    if fault:
        hint = "Shorten it." if len(name) > _MAX_NEW_NAME_LENGTH else "Enter the word that you will type in prompts."
        if name.strip() and len(name) <= _MAX_NEW_NAME_LENGTH:
            # The plain form of the name itself is available.
            hint = f"Use {suggest_name(name, tokenizer, set(avoid) - {token_key(name)})}."
        return [Problem(field, "error", fault, hint)]
    run = tokenizer(name) if tokenizer is not None else [0, 0]
    if len(run) > 1:
        return []
    is_rare = bool(run) and run[0] >= COMMON_TOKENS_BELOW
    text = f"{name} is a single token of the model's vocabulary and already has a meaning."
    hint = f"Use {suggest_name(name, tokenizer, avoid)}." + (
        " The word is rare, so it may still work." if is_rare else ""
    )
    if not run:
        text = f"{name} has no tokens: the tokenizer ignores it."
    return [Problem(field, "warning" if is_rare else "error", text, hint)]


def _spelling_fault(name: str) -> str:
    """Why the spelling of a name is not allowed, as a sentence; empty if it is."""
    if not name.strip():
        return "The name is empty."
    if len(name) > _MAX_NEW_NAME_LENGTH:
        return f"{printable(name, 20)} is longer than {_MAX_NEW_NAME_LENGTH} characters."
    fault = _letters_fault(name)
    if fault:
        return f"'{printable(name)}' cannot be a name: {fault}."
    cut = _GRAMMAR.search(name)
    return f"{cut.group()} splits the prompt, so {name} would never be found." if cut else ""


def _letters_fault(name: str) -> str:
    if not all(_is_word(letter) or letter in _ALLOWED for letter in name):
        return "letters of any alphabet, digits, spaces, _ and - are allowed"
    if unicodedata.category(name[0])[0] not in "LN" or unicodedata.category(name[-1])[0] not in "LN":
        # The tokenizer would join a punctuation mark at the end with the comma that follows.
        return "it must begin and end with a letter or digit, not with a space or punctuation"
    if any(_is_variant(letter) for letter in name):
        return "it has full-width letters or ligatures, which not all programs treat as the same word"
    if unicodedata.normalize("NFC", name) != name:
        return "its accents are stored separately from their letters, which not all programs do"
    return ""


def _advice(field: str, name: str, tokenizer: Tokenizer | None) -> list[Problem]:
    """Warnings about a name that can be used."""
    problems = []
    if tokenizer is not None and is_everyday_tag(name, tokenizer, rare_from=COMMON_TOKENS_BELOW):
        text = f"{name} is a common tag in prompts, so it would match where the concept is not meant."
        problems.append(Problem(field, "warning", text, f"Use {'_'.join(name.split())}_v1."))
    if any(unicodedata.name(letter, "").startswith(_WITHOUT_SPACES) for letter in (name[0], name[-1])):
        text = f"{name} is found only between spaces or punctuation, not within a run of letters."
        problems.append(Problem(field, "warning", text, "Put spaces or commas around it, in captions as in prompts."))
    count = len(tokenizer(name)) if tokenizer is not None else 0
    if count >= _COSTLY_FROM:
        text = f"{name} takes {count} of a prompt's {CHUNK_TOKENS} tokens whenever the bundle is not loaded."
        problems.append(Problem(field, "warning", text, "A shorter name, or one in Latin letters, takes fewer."))
    return problems


def check_file_name(name: str) -> list[Problem]:
    """Check the output name: it must be a valid file name on every system and work in ``<lora:NAME:1>``."""
    field = "output_name"
    if not name.strip():
        return [Problem(field, "error", "The output name is empty.", "Enter a name for the bundle.")]
    if len(name) > _MAX_FILE_NAME_LENGTH or len(name.encode("utf-8", "replace")) > _MAX_FILE_NAME_BYTES:
        text = f"The output name is longer than {_MAX_FILE_NAME_LENGTH} characters (fewer for non-Latin scripts)."
        return [Problem(field, "error", text, "Shorten it.")]
    kept = _without_device(_file_letters(name).strip("_. -")) or "my_bundle"
    if kept == name:
        return []
    text = f"'{printable(name)}' is not a valid file name that can be used in a prompt."
    if name.partition(".")[0].strip().lower() in RESERVED_NAMES:
        text = f"'{printable(name)}' is a device name reserved by Windows."
    return [Problem(field, "error", text, f"Use {kept}.")]


def file_stem_for(name: str) -> str:
    """A file name without suffix for an embedding of any name; it never contains a path separator."""
    kept = _file_letters(name)
    if kept != unicodedata.normalize("NFC", name):
        kept = kept.strip("_")
    while len(kept.encode("utf-8")) > _MAX_FILE_NAME_BYTES - len("-1000"):
        kept = kept[:-1]
    return _without_device(kept.strip(". ")) or "embedding"


def _file_letters(name: str) -> str:
    """Replace each run of characters that are invalid in file names with one ``_``."""
    composed = unicodedata.normalize("NFC", name)
    kept = "".join(letter if _is_word(letter) or letter in _ALLOWED_IN_FILES else "\0" for letter in composed)
    return re.sub("\0+", "_", kept)


def _without_device(name: str) -> str:
    base, dot, rest = name.partition(".")
    return f"{base.strip()}_1{dot}{rest}" if base.strip().lower() in RESERVED_NAMES else name
