"""The templates for other languages in docs/localization have every text of the tab, and no text that is gone."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import lib_pivotal.ui.text
from lib_pivotal.core.config.schema import concept_field_info, field_info
from lib_pivotal.ui.text.concepts import TABLE_WORDS
from lib_pivotal.ui.text.images import IMAGE_MESSAGES

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "localization"
LANGUAGES = ("ja_JP", "zh_CN")
FIELDS = {**field_info(), **concept_field_info()}
# Values of settings are the words of the settings' files, and the help names them.
VALUES = {choice for info in FIELDS.values() for choice in info["choices"]}
PLACEHOLDER = re.compile(r"\{\w+\}")


class TextNodes(HTMLParser):
    """The texts of elements, which the webui looks up one by one; and what the script of the table knows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for field in json.loads(dict(attributes).get("data-known") or "{}").get("fields", []):
            self.texts += [field["label"], field["help"]]


def texts_of_the_tab(page, programs: set[str]) -> set[str]:
    """Every text that the tab shows before anything has been pressed."""
    found: set[str] = set()
    for item in page.parts.values():
        props = item["props"]
        # Hidden components of the scripts have names in lower case, and are never shown.
        names = [props.get("label"), props.get("value") if item["type"] == "button" else None]
        if props.get("visible") is False and any(name and name[0].islower() for name in names):
            continue
        choices = [choice[0] if isinstance(choice, (list, tuple)) else choice for choice in props.get("choices") or []]
        found.update(choice for choice in choices if choice not in VALUES | programs)
        found.update(text for text in (*names, props.get("info"), props.get("placeholder")) if text)
        if item["type"] == "html" and props.get("elem_id") != "pivotal_browser_program_note":
            found.update(TextNodes(props.get("value") or "").texts)
    return {text for text in found if re.search(r"\w", text)}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def fixed_messages() -> set[str]:
    """Messages without anything to fill in, and the words of the table, which its script translates before it does."""
    found = set(TABLE_WORDS.values()) - {TABLE_WORDS["file"]}
    for module in pkgutil.iter_modules(lib_pivotal.ui.text.__path__):
        texts = importlib.import_module(f"lib_pivotal.ui.text.{module.name}")
        for name in texts.__all__:
            if name != "TABLE_WORDS":
                found.update(text.strip() for text in strings(getattr(texts, name)) if "{" not in text)
    return found - {""}


@pytest.fixture
def expected(page, host) -> set[str]:
    return texts_of_the_tab(page, {program.name for program in host.captioners()}) | fixed_messages()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_template_has_every_text_and_no_other(expected, language):
    entries = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    missing = dict.fromkeys(sorted(expected - entries.keys()), "")
    assert not missing, f"to translate in {language}.json:\n{json.dumps(missing, indent=4, ensure_ascii=False)}"
    assert sorted(entries.keys() - expected) == []
    for english, translated in entries.items():
        assert translated.strip(), english
        assert sorted(PLACEHOLDER.findall(translated)) == sorted(PLACEHOLDER.findall(english)), english


def test_the_texts_are_those_of_the_tab(expected):
    """Samples of every kind: label, help, button, heading, choice, column, message."""
    for text in (FIELDS["steps"]["label"], FIELDS["name"]["help"], "Train", "How long", "all images", "Validation loss",
                 "Style (SDXL)", "No training yet.", IMAGE_MESSAGES["first"]):  # fmt: skip
        assert text in expected
    assert "refuse" not in expected
