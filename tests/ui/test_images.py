"""The part "Data set" under a real Gradio: look, filter, open, edit, undo."""

from __future__ import annotations

import html
import json
import re
import threading
import time
from pathlib import Path

import pytest

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.errors import HostError, Interrupted
from lib_pivotal.ui.core_tag_handlers import concept_fields
from lib_pivotal.ui.fields import input_names, read_config, show_config
from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.tab import build_tab
from lib_pivotal.ui.text.images import ALL_IMAGES, ANY_CONCEPT, IMAGE_ACTIONS, IMAGE_MARKS
from tests.ui.fake_host import write_images
from tests.ui.page import Page
from tests.ui.test_tab import page_id


def part(name: str) -> str:
    return element_id("browser", name)


FOLDER = element_id("images", "data_folder")
NOTICE, CARDS, TAGS, PLAN = part("notice"), part("cards"), part("tags"), part("plan")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_images(tmp_path / "images", 70)
    (folder / "3.txt").write_text('zog, <b>bold</b>, "quoted"')
    (folder / "4.txt").unlink()
    return folder


@pytest.fixture
def page(page: Page, folder: Path) -> Page:
    page.values[FOLDER] = str(folder)
    page.values[element_id("images", "resolution")] = 64
    shown = show_config(TrainConfig(concepts=(Concept("zog", init_text="hill"),)))
    page.values.update({page_id(name): shown[name] for name in concept_fields()})
    return page


def concept_on(page: Page) -> Concept:
    """The concept in the settings on the tab."""
    config, problems = read_config({name: page.values[page_id(name)] for name in input_names()})
    assert not problems
    (concept,) = config.concepts
    return concept


def look(page: Page) -> dict:
    return page.press(part("look"))


def actions(text: str) -> list[dict]:
    """What the buttons in a text send."""
    return [json.loads(html.unescape(data)) for data in re.findall(r'data-pivotal="([^"]*)"', text)]


def act(page: Page, **action) -> dict:
    page.values[part("action")] = json.dumps(action)
    return page.press(part("act"))


def edit(page: Page, action: str, tags: str = "", **values) -> None:
    page.values[part("edit")] = IMAGE_ACTIONS[action]
    page.values[part("edit_tags")] = tags
    for name, value in values.items():
        page.values[part(name)] = value
    page.press(part("preview"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.txt"))}


def test_pages_of_images_with_small_copies(page):
    look(page)
    assert "Page 1 of 2: 70 of 70 images" in page.values[CARDS]
    opens = [action for action in actions(page.values[CARDS]) if action["do"] == "open"]
    assert len(opens) == 60
    assert page.values[CARDS].count("data:image/jpeg;base64,") == 60
    act(page, do="page", number=2)
    assert "Page 2 of 2" in page.values[CARDS]
    assert page.values[CARDS].count('"pivotal-image"') == 10
    act(page, do="page", number=99)
    assert "Page 2 of 2" in page.values[CARDS]


def test_problems_are_shown_and_texts_are_escaped(page):
    look(page)
    assert "No caption: 4.png" in page.values[NOTICE]
    assert "<b>bold" not in page.values[TAGS] and "&lt;b&gt;bold&lt;/b&gt;" in page.values[TAGS]
    assert {"do": "tag", "tag": '"quoted"'} in actions(page.values[TAGS])


def test_missing_folders_are_explained(page):
    page.values[FOLDER] = "/nowhere/at/all"
    assert look(page).keys() == {NOTICE}
    assert "Image folder" in page.values[NOTICE] and "does not exist" in page.values[NOTICE]


def test_every_button_answers_before_the_images_are_read(page):
    for name in ("rescan", "filter", "clear", "save", "close", "preview", "apply", "act"):
        page.press(part(name))
        assert "Look at the images" in page.values[NOTICE], name


def test_filters(page):
    look(page)
    act(page, do="tag", tag="number 7")
    assert "1 of 70" in page.values[CARDS] and "7.png" in page.values[CARDS]
    assert page.values[part("tag")] == "number 7"
    act(page, do="tag", tag="")
    assert "70 of 70" in page.values[CARDS]
    page.values[part("mark")] = IMAGE_MARKS["no caption"]
    page.press(part("filter"))
    assert "1 of 70" in page.values[CARDS] and "4.png" in page.values[CARDS]
    act(page, do="concept", concept="zog")
    assert "No image matches" in page.values[CARDS]
    assert page.values[part("concept")] == "zog"
    page.press(part("clear"))
    assert "70 of 70" in page.values[CARDS]
    assert (page.values[part("mark")], page.values[part("concept")]) == (ALL_IMAGES, ANY_CONCEPT)
    page.values[part("text")] = "NUMBER 69"
    page.press(part("filter"))
    assert "1 of 70" in page.values[CARDS]


def test_an_image_opens_with_its_caption_and_draws(page):
    look(page)
    changed = act(page, do="open", image="7.png")
    assert page.values[part("caption")] == "zog, number 7"
    assert changed[part("opened")]["visible"] is True
    draws = page.values[part("draws")]
    assert draws.count("<tr>") == 12 and "name" in draws and 'class="pivotal-part-name"' in draws
    assert "pivotal-frame" in page.values[part("details")]
    changed = page.press(part("close"))
    assert changed[part("opened")]["visible"] is False
    act(page, do="open", image="gone.png")
    assert "no image" in page.values[NOTICE]


def test_a_caption_is_saved_and_the_save_can_be_undone(page, folder):
    look(page)
    before = contents(folder)
    for name, caption in (("7.png", "zog, changed"), ("4.png", "zog, new")):
        act(page, do="open", image=name)
        page.values[part("caption")] = caption
        page.press(part("save"))
        assert "Saved" in page.values[NOTICE]
    assert contents(folder) == {**before, "7.txt": b"zog, changed", "4.txt": b"zog, new"}
    assert "Edited the caption of 4.png" in page.values[part("history")]
    for _ in range(2):
        act(page, **actions(page.values[part("history")])[0])
    assert contents(folder) == before
    assert "no edits" in page.values[part("history")]


def test_edits_are_shown_before_they_are_written(page, folder):
    look(page)
    before = contents(folder)
    act(page, do="tag", tag="number 7")
    edit(page, "add_front", "tall & <i>")
    plan = page.values[PLAN]
    assert "Files that would change: 1." in plan and "tall &amp; &lt;i&gt;, zog, number 7" in plan
    assert contents(folder) == before
    page.press(part("apply"))
    assert contents(folder) == {**before, "7.txt": b"tall & <i>, zog, number 7"}
    assert "Files changed: 1." in page.values[NOTICE]
    page.press(part("apply"))
    assert "Preview the edit first" in page.values[NOTICE]
    act(page, **actions(page.values[part("history")])[0])
    assert contents(folder) == before


def test_a_bad_expression_is_a_message(page):
    look(page)
    edit(page, "replace", "(", is_pattern=True)
    assert "not a valid regular expression" in page.values[NOTICE]
    edit(page, "remove", "", is_pattern=False)
    assert "No tag is given" in page.values[NOTICE]


def test_changes_on_disk_are_listed(page, folder):
    look(page)
    page.press(part("rescan"))
    assert "Nothing has changed" in page.values[NOTICE]
    (folder / "7.txt").write_text("zog, other")
    # What is edited here is not news.
    act(page, do="open", image="9.png")
    page.values[part("caption")] = "zog, by hand"
    page.press(part("save"))
    (folder / "8.png").unlink()
    (folder / "5.png").rename(folder / "new.png")
    page.press(part("rescan"))
    notice = page.values[NOTICE]
    for words in ("New images: new.png", "gone: 5.png, 8.png", "captions have changed: 7.png<"):
        assert words in notice
    assert "69 of 69" in page.values[CARDS]


def test_what_changed_since_the_preview_or_the_edit_is_kept(page, folder):
    look(page)
    edit(page, "add_end", "night")
    (folder / "7.txt").write_text("mine")
    page.press(part("apply"))
    assert "7.txt" in page.values[NOTICE] and "Nothing was written" in page.values[NOTICE]
    edit(page, "add_end", "night")
    page.press(part("apply"))
    (folder / "9.txt").write_text("mine")
    act(page, **actions(page.values[part("history")])[0])
    assert "have changed since" in page.values[NOTICE] and "9.txt" in page.values[NOTICE]
    assert (folder / "9.txt").read_text() == "mine" and (folder / "7.txt").read_text() == "mine"


TICKS, TABLE = part("ticks"), part("core_tags")


def boxes(text: str) -> dict[str, bool]:
    """Tag → whether its box is ticked."""
    found = re.findall(
        r'<input type="checkbox" data-pivotal-concept="zog" data-pivotal-tag="([^"]*)"[^>]*?( checked)?>', text
    )
    return {html.unescape(tag): bool(checked) for tag, checked in found}


@pytest.fixture
def tagged(page, folder):
    for path in folder.glob("*.txt"):
        path.write_text(f"zog, 1girl, red hair, horns, hat, number {path.stem}")
    return page


def test_core_tags_are_ticked_previewed_and_used(tagged, folder):
    page, before = tagged, contents(folder)
    page.press(part("find_tags"))
    assert boxes(page.values[TABLE])["red hair"] and boxes(page.values[TABLE])["horns"]
    assert not boxes(page.values[TABLE])["hat"]
    assert "zog, 1girl, hat, number" in page.values[TABLE]
    assert json.loads(page.values[TICKS]) == {"zog": ["horns", "red hair"]}
    page.values[TICKS] = json.dumps({"zog": ["hat", "horns"]})
    page.press(part("update_tags"))
    assert boxes(page.values[TABLE])["hat"] and not boxes(page.values[TABLE])["red hair"]
    assert "zog, 1girl, red hair, number" in page.values[TABLE] and "girl hat horns" in page.values[TABLE]
    page.press(part("use_tags"))
    assert concept_on(page).core_tags == ("hat", "horns") and concept_on(page).init_text == "hill"
    page.values[part("replaces_text")] = True
    page.press(part("use_tags"))
    assert concept_on(page).init_text == "girl hat horns"
    assert contents(folder) == before
    # What is chosen is ticked when the tags are looked for again, and nothing may be ticked at all.
    page.press(part("find_tags"))
    assert [tag for tag, is_ticked in boxes(page.values[TABLE]).items() if is_ticked] == ["horns", "hat"]
    page.values[TICKS] = json.dumps({"zog": []})
    page.press(part("use_tags"))
    assert concept_on(page).core_tags == () and concept_on(page).init_text == "girl hat horns"


def test_core_tags_without_a_table_or_images(page):
    for name in ("update_tags", "use_tags"):
        page.press(part(name))
        assert "Find core tags first" in page.values[NOTICE]
    page.values[FOLDER] = "/nowhere/at/all"
    page.press(part("find_tags"))
    assert "does not exist" in page.values[NOTICE]


WRITE, STOP, POLL, PROGRESS = part("write"), part("stop_captions"), part("poll"), part("progress")


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def finish(page: Page) -> None:
    """Poll as the page's script does, until the job is over."""
    assert page.values[part("job")] == "active"
    deadline = time.monotonic() + 20
    while page.values[part("job")] == "active":
        assert time.monotonic() < deadline, "waited too long"
        page.press(POLL)


@pytest.fixture
def program(host):
    return host.captioner


def test_missing_captions_are_written_and_can_be_undone(page, folder, program, host):
    look(page)
    before = contents(folder)
    page.press(WRITE)
    finish(page)
    assert contents(folder) == {**before, "4.txt": b"zog, width 64, square"}
    assert "Caption files written: 1" in page.values[PROGRESS]
    assert program.log == ["open", "image", "close"]
    assert host.log == ["enter queue", "leave queue"]
    assert "Captions from Fake &lt;program&gt;" in page.values[part("history")]
    act(page, **actions(page.values[part("history")])[0])
    assert contents(folder) == before
    page.press(part("clear"))
    act(page, do="tag", tag="number 7")
    page.press(WRITE)
    assert "needs a caption" in page.values[NOTICE]


def test_captions_are_appended_and_never_replaced(page, folder, program):
    look(page)
    page.values[part("text")] = "number 7"
    page.press(part("filter"))
    page.values[part("appends")] = True
    page.press(WRITE)
    finish(page)
    assert (folder / "7.txt").read_text() == "zog, number 7, width 64, square"
    assert (folder / "69.txt").read_text() == "zog, number 69"


@pytest.mark.parametrize("how", ["button", "webui's Interrupt"])
def test_writing_can_be_stopped_and_what_is_done_stays(page, folder, program, how):
    for number in range(10):
        (folder / f"{number}.txt").unlink(missing_ok=True)
    program.gate = threading.Semaphore(3)
    look(page)
    page.press(WRITE)
    wait_for(lambda: program.log.count("image") == 3)
    page.press(POLL)
    assert "Writing captions: " in page.values[PROGRESS]
    page.press(WRITE)
    assert "already being written" in page.values[NOTICE]
    if how == "button":
        page.press(STOP)
    else:
        program.error = Interrupted("Interrupted.")
    program.gate.release()
    finish(page)
    count = 4 if how == "button" else 3
    assert f"Stopped. Caption files written: {count}" in page.values[PROGRESS]
    assert sum((folder / f"{number}.txt").exists() for number in range(10)) == count


def test_a_job_waits_for_the_queue_and_a_failure_is_shown(page, folder, program, host):
    program.error = HostError("No <model>.", hint="Download it.")
    look(page)
    with host.queue:
        page.press(WRITE)
        page.press(POLL)
        assert "Waiting for the webui" in page.values[PROGRESS]
    finish(page)
    assert "No &lt;model&gt;. Download it." in page.values[PROGRESS]
    assert not (folder / "4.txt").exists()


def test_programs_are_offered_only_where_there_are_some(session, library, host, monkeypatch):
    monkeypatch.setattr(host, "captioners", list)
    page = Page(build_tab(session, library))
    assert WRITE not in page.ids() and part("look") in page.ids()


def test_what_is_typed_stays_when_captions_are_written_meanwhile(page, folder, program):
    look(page)
    act(page, do="open", image="4.png")
    page.press(WRITE)
    page.values[part("caption")] = "zog, typed"
    finish(page)
    assert (folder / "4.txt").read_text() == "zog, width 64, square"
    assert page.values[part("caption")] == "zog, typed"
    # What nobody has changed follows its file.
    act(page, do="open", image="4.png")
    edit(page, "add_end", "hat")
    page.press(part("apply"))
    assert page.values[part("caption")] == "zog, width 64, square, hat"
    page.values[part("caption")] = "typed again"
    act(page, **actions(page.values[part("history")])[0])
    assert page.values[part("caption")] == "typed again"


def test_a_job_ends_on_the_page_even_if_its_images_can_no_longer_be_shown(page, folder, program):
    look(page)
    act(page, do="open", image="4.png")
    page.press(WRITE)
    page.values[part("state")] = json.dumps({**json.loads(page.values[part("state")]), "look": "forgotten"})
    finish(page)
    assert "Caption files written: 1" in page.values[PROGRESS]
    assert "have not been read yet" in page.values[NOTICE]


def test_a_page_that_is_loaded_later_sees_the_job(page, folder, program, session, library, host):
    program.gate = threading.Semaphore(0)
    look(page)
    page.press(WRITE)
    # As after Reload UI.
    later = Page(build_tab(session, library))
    later.press(POLL)
    assert later.values[part("job")] == "active"
    later.press(STOP)
    program.gate.release()
    finish(later)
    assert "Stopped" in later.values[PROGRESS]
