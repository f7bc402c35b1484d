"""The table of concepts in a browser, under both versions of Gradio: keyboard, paste, undo, text, and a whole run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Page, expect

from tests.browser.tab_page import TabPage
from tests.ui.fake_host import write_images

NOTICE = "#pivotal_concepts_notice"
COUNT = ".pivotal-names-count"
SLOW_MS = 30_000


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images whose captions name zog_0 to zog_59."""
    folder = write_images(tmp_path_factory.mktemp("images"))
    names = ", ".join(f"zog_{number}" for number in range(60))
    for path in folder.glob("*.txt"):
        path.write_text(names)
    return folder


@pytest.fixture(autouse=True)
def no_concepts(bare_tab) -> Iterator[None]:
    """A table without concepts, and no errors of the page's scripts."""
    bare_tab.clear_concepts()
    yield
    errors, bare_tab.errors = bare_tab.errors, []
    assert errors == []


def concepts(page: Page) -> list[dict]:
    """The concepts as the server gets them."""
    return json.loads(page.locator("#pivotal_concepts_json").locator("input, textarea").first.input_value())


def names(tab: TabPage) -> list[str]:
    return [cell.input_value() for cell in tab.cells("name").all()]


def field(page: Page, end: str):
    return page.locator(f"#pivotal_{end}").locator("input, textarea").first


def type_names(tab: TabPage, *typed: str) -> None:
    tab.cell(0, "name").click()
    for index, name in enumerate(typed):
        if index:
            tab.page.keyboard.press("Enter")
        tab.page.keyboard.type(name)


def test_enter_goes_down_and_every_key_is_saved_at_once(bare_tab):
    page = bare_tab.page
    type_names(bare_tab, "zog", "mib", "nim")
    assert [row["name"] for row in concepts(page)] == ["zog", "mib", "nim"]
    page.keyboard.press("Tab")
    page.keyboard.type("ring, gold")
    page.keyboard.press("Tab")
    page.keyboard.type("0.")
    page.keyboard.press("Tab")
    page.keyboard.type("a, b,")
    last = concepts(page)[-1]
    assert last == {"name": "nim", "init_text": "ring, gold", "vectors": 0, "aliases": ["a", "b"]}
    page.keyboard.press("Shift+Enter")
    expect(bare_tab.cell(1, "aliases")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(bare_tab.cell(2, "aliases")).to_be_focused()
    expect(bare_tab.cell(2, "aliases")).to_have_value("a, b")


def test_answers_of_the_server_leave_the_cell_that_is_being_edited(bare_tab):
    page = bare_tab.page
    type_names(bare_tab, "zog", "bad.name")
    bare_tab.cell(0, "vectors").click()
    page.keyboard.press("Control+a")
    page.keyboard.type("5.")
    page.evaluate("document.querySelector('#pivotal_run_check').click()")
    expect(page.locator(".pivotal-names-problems").nth(1)).to_contain_text("cannot be a name")
    expect(bare_tab.cell(1, "name")).to_have_attribute("aria-invalid", "true")
    expect(bare_tab.cell(0, "vectors")).to_be_focused()
    expect(bare_tab.cell(0, "vectors")).to_have_value("5.")
    page.keyboard.type("0")
    assert concepts(page)[0]["vectors"] == 5
    bare_tab.cell(1, "name").fill("good")
    expect(page.locator(".pivotal-names-problems").nth(1)).to_be_hidden()


def test_clashes_and_views_are_shown_while_typing(bare_tab, images):
    page = bare_tab.page
    field(page, "images_data_folder").fill(str(images))
    field(page, "training_steps").fill("300")
    type_names(bare_tab, "zog_1", "ZOG_1")
    problems = page.locator(".pivotal-names-problems")
    expect(problems.nth(1)).to_contain_text("same name", timeout=SLOW_MS)
    expect(bare_tab.cell(1, "name")).to_have_attribute("aria-invalid", "true")
    expect(bare_tab.cell(1, "name")).to_be_focused()
    bare_tab.cell(1, "name").fill("taken")
    expect(problems.nth(1)).to_contain_text("installed embedding", timeout=SLOW_MS)
    bare_tab.cell(1, "name").fill("zog_2")
    expect(problems.nth(1)).to_be_hidden(timeout=SLOW_MS)
    expect(page.locator(".pivotal-names-views").nth(1)).to_have_text("100", timeout=SLOW_MS)
    field(page, "training_steps").fill("600")
    expect(page.locator(".pivotal-names-views").nth(1)).to_have_text("200", timeout=SLOW_MS)


def test_rows_move_disappear_and_come_back(bare_tab):
    page = bare_tab.page
    type_names(bare_tab, "zog", "mib", "nim")
    page.keyboard.press("Alt+ArrowUp")
    expect(bare_tab.cell(1, "name")).to_be_focused()
    assert names(bare_tab) == ["zog", "nim", "mib"]
    page.keyboard.press("Alt+ArrowUp")
    page.keyboard.press("Alt+ArrowUp")
    assert names(bare_tab) == ["nim", "zog", "mib"]
    page.get_by_label("Select row 1").check()
    page.get_by_label("Select row 3").check()
    page.keyboard.press("Delete")
    assert names(bare_tab) == ["zog"]
    assert [row["name"] for row in concepts(page)] == ["zog"]
    page.keyboard.press("Control+z")
    assert names(bare_tab) == ["nim", "zog", "mib"]
    for _ in range(2):
        page.keyboard.press("Control+z")
    assert names(bare_tab) == ["zog", "mib", "nim"]
    page.keyboard.press("Control+y")
    page.keyboard.press("Control+Shift+z")
    assert names(bare_tab) == ["nim", "zog", "mib"]
    assert [row["name"] for row in concepts(page)] == ["nim", "zog", "mib"]
    page.locator("thead input[type=checkbox]").check()
    page.click("#pivotal_names_remove")
    assert names(bare_tab) == [""]


@pytest.mark.long
def test_sixty_names_survive_training_reload_restore_preset_and_error(bare_tab, images):
    page = bare_tab.page
    lines = ["name\tinitialization text\tvectors\tshade", *(f"zog_{n}\trobot {n}\t{1 + n % 8}\tx" for n in range(60))]
    lines[60] = "zog_3\trobot 59\t4\tx"
    bare_tab.cell(0, "name").click()
    bare_tab.paste("\r\n".join(lines) + "\r\n")
    expect(bare_tab.cells("name")).to_have_count(60)
    expect(page.locator(NOTICE).first).to_contain_text("Line 1: There is no column 'shade'")
    expect(page.locator(NOTICE).first).to_contain_text("Line 61: The name 'zog_3' is already in line 5")
    expect(page.locator(COUNT)).to_contain_text("60 names")
    page.keyboard.press("Control+z")
    expect(bare_tab.cells("name")).to_have_count(1)
    page.keyboard.press("Control+y")
    expect(bare_tab.cells("name")).to_have_count(60)
    bare_tab.cell(59, "name").fill("zog_59")
    for end, value in (("images_data_folder", images), ("images_resolution", 64), ("training_steps", 600)):
        field(page, end).fill(str(value))
    field(page, "output_output_name").fill(f"cast-{images.parent.name}")
    bare_tab.press("run_check")
    bare_tab.expect_notice("Ready to train")
    expect(page.locator(".pivotal-names-images").first).to_have_text("6")
    bare_tab.press("run_train")
    bare_tab.expect_notice("started")
    before = concepts(page)
    assert [row["name"] for row in before] == [f"zog_{number}" for number in range(60)]
    assert (before[9]["init_text"], before[9]["vectors"]) == ("robot 9", 2)
    bare_tab.open()
    expect(bare_tab.cells("name")).to_have_count(60)
    assert [(row["name"], row["init_text"], row["vectors"]) for row in concepts(page)] == [
        (row["name"], row["init_text"], row["vectors"]) for row in before
    ]
    bare_tab.press("run_discard")
    bare_tab.expect_status("Discarded")
    bare_tab.cell(0, "name").fill("other")
    bare_tab.press("run_restore")
    expect(bare_tab.cell(0, "name")).to_have_value("zog_0")
    bare_tab.cell(0, "name").focus()
    page.keyboard.press("Control+z")
    expect(bare_tab.cell(0, "name")).to_have_value("other")
    page.keyboard.press("Control+y")
    page.locator("#pivotal_run_preset input").first.click()
    page.locator("#pivotal_run_preset ul li").first.click()
    bare_tab.expect_notice("preset")
    expect(bare_tab.cell(59, "vectors")).to_have_value("8")
    field(page, "output_output_name").fill("")
    bare_tab.press("run_train")
    bare_tab.expect_notice("Output name")
    assert names(bare_tab) == [f"zog_{number}" for number in range(60)]


def test_a_pasted_column_fills_the_rows_that_are_there(bare_tab):
    page = bare_tab.page
    type_names(bare_tab, "zog", "mib")
    bare_tab.cell(0, "init_text").click()
    bare_tab.paste("red, small\nblue; round\n")
    expect(bare_tab.cell(1, "init_text")).to_have_value("blue; round")
    assert [(row["name"], row["init_text"]) for row in concepts(page)] == [
        ("zog", "red, small"),
        ("mib", "blue; round"),
    ]
    bare_tab.cell(0, "name").click()
    bare_tab.paste("one = 1\ntwo")
    expect(bare_tab.cells("name")).to_have_count(4)
    assert names(bare_tab) == ["zog", "one", "two", "mib"]


def test_a_setting_for_all_and_the_numbers_of_new_rows(bare_tab):
    page = bare_tab.page
    type_names(bare_tab, "zog", "mib")
    page.click("#pivotal_names_set_for_all")
    page.get_by_label("Setting", exact=True).select_option("Vectors")
    page.get_by_label("Value for all rows").fill("8")
    page.keyboard.press("Enter")
    page.click("#pivotal_names_add")
    assert [row["vectors"] for row in concepts(page)] == [8, 8, 8]
    page.get_by_label("Select row 2").check()
    page.get_by_label("Setting", exact=True).select_option("Class")
    page.get_by_label("Value for all rows").fill("girl")
    page.keyboard.press("Enter")
    assert [row.get("class_noun") for row in concepts(page)] == [None, "girl", None]
    page.get_by_label("More settings of row 2").click()
    expect(bare_tab.cell(1, "class_noun")).to_have_value("girl")
    bare_tab.cell(1, "stop_at").fill("half")
    bare_tab.press("run_check")
    bare_tab.expect_notice("Row 2, Stop training at", "half")


def test_the_same_as_text_and_as_a_file(bare_tab):
    page = bare_tab.page
    type_names(bare_tab, "zog", "mib")
    bare_tab.cell(0, "aliases").fill("a, b")
    as_text = page.get_by_label("Edit the concepts as text")
    as_text.check()
    text = page.locator("#pivotal_concepts_text textarea")
    expect(text).to_have_value("name; initialization text; vectors; caption tags\nzog; ; 4; a, b\nmib; ; 4;")
    expect(bare_tab.cell(0, "name")).to_be_hidden()
    text.fill("zog; robot; four")
    # Not uncheck(), which fails where the answer checks it again at once.
    as_text.click()
    wrong = "Line 1: 'four' is not a whole number"
    expect(page.locator(NOTICE).first).to_contain_text(wrong)
    # Checking the box again by the answer is a change, too.
    page.wait_for_timeout(1000)
    expect(page.locator(NOTICE).first).to_contain_text(wrong)
    # The notice can be there before the rest of the answer, which would undo what is typed until then.
    expect(as_text).to_be_checked()
    expect(text).to_be_visible()
    text.fill("zog = robot\nnim = ring")
    as_text.uncheck()
    expect(bare_tab.cell(1, "init_text")).to_have_value("ring")
    expect(text).to_be_hidden()
    assert [row["name"] for row in concepts(page)] == ["zog", "nim"]
    with page.expect_download() as download:
        page.click("#pivotal_names_export")
    exported = Path(download.value.path()).read_text(encoding="utf-8")
    assert exported == "name,initialization text,vectors,caption tags\nzog,robot,4,\nnim,ring,4,"


def test_names_of_a_file_and_of_folders(bare_tab, tmp_path):
    page = bare_tab.page
    type_names(bare_tab, "zog")
    (tmp_path / "emb_init.json").write_text('{"mib": ["gold", "ring"], "zog": ["robot"]}')
    for folder in ("5_teal robot", "nim"):
        write_images(tmp_path / folder)
    page.locator("#pivotal_concepts_more_names").get_by_text("Names from files and folders").first.click()
    field(page, "concepts_path").fill(str(tmp_path / "emb_init.json"))
    page.click("#pivotal_concepts_import_names")
    expect(page.locator(NOTICE).first).to_contain_text("Added 1 names, 2 in all")
    assert [(row["name"], row["init_text"]) for row in concepts(page)] == [("zog", "robot"), ("mib", "gold ring")]
    field(page, "images_data_folder").fill(str(tmp_path))
    page.click("#pivotal_concepts_folder_names")
    expect(bare_tab.cells("name")).to_have_count(4)
    assert names(bare_tab) == ["zog", "mib", "teal_robot", "nim"]
    expect(bare_tab.cell(2, "aliases")).to_have_value("teal robot")
    page.click("#pivotal_names_undo")
    assert names(bare_tab) == ["zog", "mib"]
