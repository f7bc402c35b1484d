"""The guide for artists: its settings and commands are accepted, and the labels and links that it names exist."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
from collections.abc import Iterator

import pytest

from lib_pivotal.cli.main import make_parser
from lib_pivotal.core.config.concept_lines import read_concept_lines
from lib_pivotal.core.config.io import read_dict
from lib_pivotal.core.config.presets import presets, with_preset
from lib_pivotal.core.config.schema import concept_field_info, field_info, subset_field_info
from lib_pivotal.core.train.setting_checks import check_settings
from lib_pivotal.ui import text as texts
from tests.guide import COMMANDS, CONFIGS, GUIDE, TEXT

EXAMPLES = ("zogling.json", "inkish.json", "cast.json")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_settings_of_an_example_are_accepted(name):
    used = {options.preset for options in parsed_commands() if getattr(options, "preset", None)}
    assert used <= {preset.name for preset in presets()}
    for preset in {options.preset for options in parsed_commands(name) if getattr(options, "preset", None)}:
        config, problems = read_dict(with_preset(CONFIGS[name], preset))
        assert not problems
        assert not [str(problem) for problem in check_settings(config)]


def test_there_are_three_examples_with_commands():
    assert tuple(CONFIGS) == EXAMPLES
    for name in EXAMPLES:
        assert [options for options in parsed_commands(name) if getattr(options, "out", None)], name


def test_every_settings_file_in_a_command_is_shown():
    files = {str(options.config) for options in parsed_commands() if getattr(options, "config", None)}
    assert files == set(CONFIGS)


def parsed_commands(name: str = ""):
    """The options of each command; a command that cannot be parsed ends the test."""
    parsed = [make_parser().parse_args(shlex.split(command)) for command in COMMANDS]
    return [options for options in parsed if not name or str(getattr(options, "config", "")) == name]


def test_the_pasted_lines_are_concepts_of_the_settings():
    (pasted,) = re.findall(r"^ *```text\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL)
    found = read_concept_lines(re.sub(r"^ +", "", pasted, flags=re.MULTILINE))
    assert not found.problems
    concepts = {(concept["name"], concept["init_text"]) for concept in CONFIGS["cast.json"]["concepts"]}
    assert len(concepts) == 16
    assert {(row["name"], row["init_text"]) for row in found.rows} < concepts


def test_every_label_in_bold_is_on_the_tab():
    """Nothing else in the guide is bold."""
    labels = {" ".join(label.split()) for label in re.findall(r"\*\*(.+?)\*\*", TEXT, re.DOTALL)}
    assert len(labels) > 40
    known = list(texts_of_the_tab())
    templates = [re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(text))) for text in known if "{" in text]
    missing = [label for label in labels - set(known) if not any(one.fullmatch(label) for one in templates)]
    assert not missing


def texts_of_the_tab() -> Iterator[str]:
    for info in (field_info(), concept_field_info(), subset_field_info()):
        yield from (item["label"] for item in info.values())
    yield from (preset.title for preset in presets())
    for module in pkgutil.iter_modules(texts.__path__):
        contents = importlib.import_module(f"{texts.__name__}.{module.name}")
        yield from strings_in([getattr(contents, name) for name in contents.__all__])


def strings_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from strings_in(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from strings_in(item)


def test_links_and_images_exist():
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        file, _, anchor = target.partition("#")
        path = GUIDE.parent / file if file else GUIDE
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_prompts_name_bundles_and_words_of_the_examples():
    files = {config["output_name"] for config in CONFIGS.values()}
    tags = set(re.findall(r"<lora:(\w+):", TEXT)) - {"NAME"}
    assert tags == files
