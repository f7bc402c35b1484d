"""Names that are common in prompts give a warning; made-up ones do not."""

from __future__ import annotations

import re

import pytest

from lib_pivotal.core.bundle.names import check_names
from lib_pivotal.core.config.schema import Concept

COMMON = {
    word: 500 + index
    for index, word in enumerate(
        [
            "long",
            "hair",
            "blue",
            "eyes",
            "girl",
            "boys",
            "open",
            "mouth",
            "looking",
            "at",
            "viewer",
            "white",
            "background",
            "anna",
            "mia",
            "stone",
            "smith",
            "my",
            "hero",
        ]
    )
}


def tokenize(text: str) -> list[int]:
    """Like CLIP: common words are one token with a low id, digits are separate, other words are split."""
    ids: list[int] = []
    for piece in re.findall(r"[a-z]+|\d|[^\s\w]|_", text.lower()):
        ids += [COMMON[piece]] if piece in COMMON else [40_000 + ord(letter) for letter in piece[:2]]
    return ids


def warned(name: str) -> list[str]:
    problems = check_names([Concept(name)], taken={}, tokenizer=tokenize)
    return [str(problem) for problem in problems if "common tag" in problem.message]


@pytest.mark.parametrize(
    "name", ["long hair", "Long_Hair", "1girl", "2boys", "open mouth", "looking at viewer", "blue-eyes"]
)
def test_tags_in_many_prompts_give_a_warning_that_suggests_another_name(name):
    (warning,) = warned(name)
    proposed = re.search(r"Use (.+)\.$", warning).group(1)
    assert not warned(proposed)


@pytest.mark.parametrize(
    "name", ["zog_v1", "mia stone", "anna smith", "my hero", "zog hair", "long_hair_v1", "girl2", "x hair", "zog-girl"]
)
def test_made_up_names_and_names_of_people_give_no_warning(name):
    assert not warned(name)
