"""The part "Bundles" under a real Gradio: every tool receives the values of its fields, and every answer is shown."""

from __future__ import annotations

import pytest

from lib_pivotal.app.bundle_library import Destination
from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.tab import build_tab_without_host
from tests.ui.page import Page


def part(name: str) -> str:
    return element_id("bundles", name)


NOTICE, VIEW, NAMES = part("notice"), part("view"), part("names")


def choices(changed, name: str) -> list[str]:
    # Gradio 4 sends pairs of label and value.
    return [item[1] if isinstance(item, (list, tuple)) else item for item in changed[part(name)]["choices"]]


def choose(page: Page, **values) -> None:
    for name, value in values.items():
        page.values[part(name)] = value


def test_opening_lists_the_files(page, library):
    changed = page.press(element_id("tab", "bundles"))
    assert choices(changed, "bundle") == choices(changed, "other") == ["people/x", "y"]
    assert choices(changed, "files") == ["hat.safetensors", "coat.pt"]
    library.files.append("late")
    assert choices(page.press(part("refresh")), "bundle") == ["people/x", "y", "late"]


def test_a_selected_file_that_disappears_is_cleared(page, library):
    choose(page, bundle="people/x", other="y")
    library.files.remove("y")
    changed = page.press(part("refresh"))
    # Another one may have been chosen since the page asked, and is not taken back.
    assert "value" not in changed[part("bundle")]
    assert changed[part("other")]["value"] is None


def test_a_file_that_cannot_be_read_is_not_shown_as_the_one_before_it(page):
    choose(page, bundle="people/x")
    page.press(part("bundle"))
    choose(page, bundle="gone")
    changed = page.press(part("bundle"))
    assert "gone" in page.values[NOTICE]
    assert page.values[VIEW] == ""
    assert choices(changed, "names") == []


def test_the_selected_file_is_shown_and_its_texts_are_escaped(page):
    choose(page, bundle="people/x")
    changed = page.press(part("bundle"))
    assert choices(changed, "names") == ["zog <b>", "nim"]
    view = page.values[VIEW]
    for words in ("zog &lt;b&gt;", "SDXL", "0.40 – 0.50", "0.40; 1.25", "abc123", "LoRA: rank 16, alpha 8; layers: 4; read by all webuis",
                  "This file: LoRA + embeddings, for SD1", "odd: &lt;i&gt;one&lt;/i&gt;", "&lt;script&gt;", "pivotal_bundle"):  # fmt: skip
        assert words in view
    assert "<script>" not in view
    assert "x" * 400 not in view


def test_verify_says_what_is_wrong(page):
    for name, words in (("people/x", "No problems found."), ("y", "It is long."), ("gone", "Refresh the list.")):
        choose(page, bundle=name)
        page.press(part("verify"))
        assert words in page.values[NOTICE]
    assert "train" not in page.values[NOTICE]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("rename", ("people/x", "nim", "nim_v2")),
        ("remove", ("people/x", ["nim"])),
        ("merge", ("people/x", "y")),
        ("pack", ("people/x", ["hat.safetensors", "coat.pt"], "nim_v2")),
        ("split", ("people/x",)),
    ],
)
def test_every_tool_receives_the_values_of_its_fields(page, library, tool, arguments):
    choose(page, bundle="people/x", names=["nim"], new_name="nim_v2", other="y", target="mine", overwrite=True)
    choose(page, files=["hat.safetensors", "coat.pt"])
    changed = page.press(part(tool))
    assert library.calls == [(tool, *arguments, Destination("mine", overwrite=True))]
    assert "Saved:" in page.values[NOTICE]
    if tool != "split":
        assert changed[part("bundle")]["value"] == "new"
        assert "new" in choices(changed, "bundle")
        assert "Mind &lt;it&gt;." in page.values[NOTICE]
    choose(page, target="", overwrite=False)
    page.press(part(tool))
    assert library.calls[-1][-1] == Destination("", overwrite=False)


def test_missing_fields_are_asked_for(page, library):
    for tool, words in (("rename", "One name"), ("remove", "No embedding"), ("pack", "No file is selected")):
        page.press(part(tool))
        assert words in page.values[NOTICE]
    choose(page, bundle="people/x", names=["zog <b>", "nim"])
    page.press(part("rename"))
    assert "Select one." in page.values[NOTICE]
    assert library.calls == []


def test_a_webui_that_cannot_train_still_has_the_bundle_tools(library):
    page = Page(build_tab_without_host("Too old.", library))
    choose(page, bundle="y")
    page.press(part("verify"))
    assert "It is long." in page.values[NOTICE]
