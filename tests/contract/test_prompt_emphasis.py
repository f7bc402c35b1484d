"""Emphasis in captions is parsed as the webui parses it in prompts; compared with the webui's own source."""

from __future__ import annotations

import random
import re

import pytest

from lib_pivotal.core.textual_inversion.emphasis import parse_emphasis
from tests.contract.test_real_tree import _trees

PIECES = ("(", ")", "[", "]", "a", " b", ",", ":1.2)", ":0.5 )", r"\(", r"\)", "\\", "red hat", ":", ": -2)", "(x:1.1)")


@pytest.mark.parametrize("tree", _trees(), ids=lambda tree: tree.name)
def test_emphasis_is_parsed_as_the_webui_does(tree):
    source = (tree / "modules" / "prompt_parser.py").read_text(encoding="utf-8")
    host = {"re": re}
    exec(source[source.index("re_attention =") : source.index("if __name__ ==")], host)
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choice(PIECES) for _ in range(rng.randrange(9)))
        ours, theirs = parse_emphasis(text), host["parse_prompt_attention"](text)
        assert [piece for piece, _ in ours] == [piece for piece, _ in theirs], text
        assert [weight for _, weight in ours] == pytest.approx([weight for _, weight in theirs]), text
