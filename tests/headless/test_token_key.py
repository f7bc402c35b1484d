"""Names with one key are one name to the real tokenizer, and no others are."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from lib_pivotal.core.bundle.names import token_key
from lib_pivotal.host.diffusers.tokenizer import write_tokenizer

_NAMES = (
    "mychar", "MyChar", "my char", "MY  Char", "my\nchar", "my_char", "stra\u00dfe", "strasse", "caf\u00e9", "cafe\u0301",
    "cafe", "\u65e5\u672c", "\u65e5 \u672c", "\u017fun", "sun", "\u0417\u043e\u0433", "\u0437\u043e\u0433", "<s0>", "<S0>", "< s0>", "\u00b2", "2",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer") / "clip"
    write_tokenizer(folder)
    return CLIPTokenizer.from_pretrained(folder)


def test_one_key_means_one_run_of_tokens(tokenizer: CLIPTokenizer) -> None:
    runs = {name: tuple(tokenizer(name, add_special_tokens=False)["input_ids"]) for name in _NAMES}
    # The tokenizer also ignores spaces between letters and punctuation; only token ids can tell that.
    apart = {"< s0>", "my_char"}
    for first in _NAMES:
        for second in _NAMES:
            is_same = runs[first] == runs[second]
            if not {first, second} & apart:
                assert (token_key(first) == token_key(second)) == is_same, (first, second)
            assert is_same or token_key(first) != token_key(second), (first, second)
