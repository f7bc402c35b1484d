"""Which names are everyday tags, according to CLIP's own vocabulary."""

from __future__ import annotations

import pytest

from lib_pivotal.core.bundle.names import check_names
from lib_pivotal.core.config.schema import Concept


@pytest.fixture(scope="module")
def tokenize(small):
    from lib_pivotal.host.diffusers.checkpoint import load_tokenizer

    tokenizer = load_tokenizer(small.file)
    return lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize(
    ("name", "is_warned"),
    [
        *[
            (name, True)
            for name in ("1girl", "long hair", "school uniform", "cat ears", "looking at viewer", "anime style")
        ],
        *[
            (name, False)
            for name in ("zog_v1", "mia stone", "emma watson", "hatsune miku", "sks style", "long_hair_v1")
        ],
    ],
)
def test_everyday_tags_are_a_warning(tokenize, name, is_warned):
    problems = check_names([Concept(name)], taken={}, tokenizer=tokenize)
    assert any("common tag" in problem.message for problem in problems) == is_warned
    assert not any(problem.is_error for problem in problems)
