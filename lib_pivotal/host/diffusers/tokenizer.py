"""The CLIP tokenizer's files, made from the vocabulary in the package open_clip_torch."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

from lib_pivotal.core.errors import PivotalError

__all__ = ["write_tokenizer"]

_START, _END = "<|startoftext|>", "<|endoftext|>"
_MERGE_COUNT = 49152 - 256 - 2


def write_tokenizer(folder: Path) -> None:
    """Write ``vocab.json``, ``merges.txt`` and the two small settings files into ``folder``.

    Raises:
        PivotalError: open_clip_torch is not installed.

    Source: Radford et al. 2021, https://arxiv.org/abs/2103.00020, byte-level BPE of 49 408 tokens.
    """
    merges = _read_merges()
    letters = [letter for _, letter in sorted(_byte_letters().items(), key=lambda item: _order(item[0]))]
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(merge.split()) for merge in merges]
    vocabulary = {token: number for number, token in enumerate([*tokens, _START, _END])}
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "add_prefix_space": False,
        "bos_token": _START,
        "eos_token": _END,
        "pad_token": _END,
        "unk_token": _END,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": 77,
    }
    special = {name: settings[name] for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), encoding="utf-8")


def _read_merges() -> list[str]:
    # Found without importing it, since open_clip needs torchvision.
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise PivotalError(
            "The tokenizer's vocabulary is missing.", hint="pip install --no-deps open_clip_torch (run.py does it)."
        )
    path = Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read().split("\n")[1 : _MERGE_COUNT + 1]


def _printable() -> list[int]:
    return [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]


def _byte_letters() -> dict[int, str]:
    """A printable character for every byte: itself where it is printable, else one from U+0100 on."""
    printable = _printable()
    letters = {byte: chr(byte) for byte in printable}
    hidden = [byte for byte in range(256) if byte not in letters]
    letters.update({byte: chr(256 + number) for number, byte in enumerate(hidden)})
    return letters


def _order(byte: int) -> tuple[bool, int]:
    """Printable bytes come first in the vocabulary."""
    return (byte not in set(_printable()), byte)
