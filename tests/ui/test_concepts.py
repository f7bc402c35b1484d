"""The concepts on the tab through its real events: the table's questions, the text, and names from files."""

from __future__ import annotations

import json
import time

import pytest

from lib_pivotal.app.session import Session
from lib_pivotal.core.config.concept_lines import show_concept_lines
from lib_pivotal.core.config.presets import presets
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.ui.ids import element_id
from lib_pivotal.ui.tab import build_tab
from tests.ui.fake_host import FakeBundleLibrary, GatedEngine, write_images
from tests.ui.page import Page

JSON, AS_TEXT, TEXT = (element_id("concepts", name) for name in ("json", "as_text", "text"))
REQUEST, ANSWER, ASK = (element_id("concepts", name) for name in ("request", "answer", "ask"))
FOUND = element_id("concepts", "notice")
LIVE = element_id("length", "refresh")
NOTICE, TRAIN, CHECK = (element_id("run", name) for name in ("notice", "train", "check"))
SIXTY = [
    {"name": f"zog_{row}", "init_text": f"robot {row}", "vectors": 1 + row % 8, "aliases": [f"tag {row}"]}
    for row in range(60)
]


def concepts(page: Page) -> list:
    return json.loads(page.values[JSON])


def names(page: Page) -> list[str]:
    return [row["name"] for row in concepts(page)]


def ask(page: Page, **request) -> dict:
    page.values[REQUEST] = json.dumps({"id": 7, **request})
    page.press(ASK)
    return json.loads(page.values[ANSWER])


def switch(page: Page, *, as_text: bool) -> dict:
    """Tick the box, with its event."""
    page.values[AS_TEXT] = as_text
    return page.press(AS_TEXT)


@pytest.fixture
def ready(page, images) -> Page:
    """A page on which only the concepts are missing."""
    for path in images.glob("*.txt"):
        path.write_text(", ".join(row["aliases"][0] for row in SIXTY))
    page.values[element_id("images", "data_folder")] = str(images)
    page.values[element_id("images", "resolution")] = 64
    page.values[element_id("training", "steps")] = 600
    page.values[element_id("output", "output_name")] = "cast"
    return page


def started(engine: GatedEngine) -> tuple[Concept, ...]:
    deadline = time.monotonic() + 60
    while not engine.configs:
        assert time.monotonic() < deadline, "no run was started"
        time.sleep(0.01)
    return engine.configs[0].concepts


def wanted(rows: list) -> tuple[Concept, ...]:
    return tuple(Concept(**{**row, "aliases": tuple(row["aliases"])}) for row in rows)


def test_a_pasted_table_with_faults_names_the_lines_and_trains_once_they_are_mended(ready, engine):
    lines = show_concept_lines(SIXTY, "\t").split("\n")
    lines[0] += "\tshade"
    lines[60] = lines[60].replace("zog_59", "zog_3") + "\tred"
    answer = ask(ready, action="read", text="\n".join(lines), first="name")
    assert answer["id"] == 7
    found = ready.values[FOUND]
    assert "Line 1: There is no column &#x27;shade&#x27;" in found
    assert "Line 61: The name &#x27;zog_3&#x27; is already in line 5" in found
    ready.values[JSON] = json.dumps(answer["rows"])
    ready.press(TRAIN)
    assert "Row 60, Name" in ready.values[NOTICE]
    answer["rows"][59]["name"] = "zog_59"
    ready.values[JSON] = json.dumps(answer["rows"])
    ready.press(TRAIN)
    assert started(engine) == wanted(SIXTY)


def test_sixty_names_survive_reload_restore_preset_and_error(ready, session, engine):
    ready.values[JSON] = json.dumps(SIXTY)
    ready.press(TRAIN)
    assert started(engine) == wanted(SIXTY)
    session.stop(discard=True)
    session.join(5)
    fresh = Page(build_tab(Session(session.host, GatedEngine()), FakeBundleLibrary()))
    for button in ("load", "restore"):
        fresh.values[JSON] = "[]"
        fresh.press(element_id("run", button))
        assert names(fresh) == [row["name"] for row in SIXTY]
    preset = presets()[0]
    fresh.values[element_id("run", "preset")] = preset.title
    fresh.press(element_id("run", "preset"))
    assert names(fresh) == [row["name"] for row in SIXTY]
    assert {row["vectors"] for row in concepts(fresh)} == {preset.concept["vectors"]}
    fresh.values[element_id("output", "output_name")] = ""
    before = fresh.values[JSON]
    fresh.press(TRAIN)
    assert "Output name" in fresh.values[NOTICE]
    assert fresh.values[JSON] == before


def test_as_text_what_is_visible_is_trained(ready, engine):
    ready.values[JSON] = json.dumps(SIXTY)
    changed = switch(ready, as_text=True)
    assert changed[TEXT] == {"visible": True, "value": show_concept_lines(SIXTY)}
    assert changed[element_id("concepts", "table")]["visible"] is False
    ready.values[TEXT] = "\nzog_1 = robot\n\nbad.name\n"
    ready.press(CHECK)
    assert "Line 4: name: &#x27;bad.name&#x27;" in ready.values[NOTICE]
    ready.values[TEXT] = show_concept_lines(SIXTY[:2])
    ready.press(TRAIN)
    assert started(engine) == wanted(SIXTY[:2])


def test_an_empty_text_is_no_list_of_no_concepts(ready, session):
    ready.values[JSON] = json.dumps(SIXTY)
    ready.values[AS_TEXT] = True
    ready.values[TEXT] = " "
    ready.press(TRAIN)
    assert "Concepts as text" in ready.values[NOTICE]
    assert session.status()["state"] == "idle"


def test_the_text_becomes_the_table_unless_it_has_errors(page):
    page.values[JSON] = json.dumps(SIXTY)
    page.values[TEXT] = "zog; robot; four"
    changed = switch(page, as_text=False)
    assert page.values[AS_TEXT] is True and "Line 1" in page.values[FOUND]
    assert TEXT not in changed and JSON not in changed
    page.values[TEXT] = show_concept_lines(SIXTY[:3])
    changed = switch(page, as_text=False)
    assert changed[TEXT] == {"visible": False, "value": ""}
    assert concepts(page) == SIXTY[:3]


@pytest.mark.parametrize("button", [CHECK, TRAIN])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "cannot be read"),
        ("{}", "must be a list"),
        ("[" * 100_000, "cannot be read"),
        ('[{"name": "zog", "vectors": "four"}]', "Row 1, Vectors"),
        ('[{"name": "zog", "vectors": null, "aliases": "a"}]', "Row 1, Caption tags"),
        (json.dumps([{"name": f"zog_{row}"} for row in range(101)]), "There are 101 names; at most 100"),
    ],
)
def test_what_is_wrong_with_the_json_is_said(ready, session, button, text, words):
    ready.values[JSON] = text
    ready.press(button)
    assert words in ready.values[NOTICE]
    assert session.status()["state"] == "idle"


def test_a_check_tells_the_table_what_each_row_gets(ready):
    ready.values[JSON] = json.dumps([{"name": ""}, *SIXTY[:2]])
    ready.press(CHECK)
    report = json.loads(ready.values[element_id("concepts", "report")])
    assert [(row["row"], row["name"], row["images"]) for row in report["rows"]] == [
        (1, "zog_0", "6"),
        (2, "zog_1", "6"),
    ]
    assert [row["views"] for row in report["rows"]] == ["200", "200"]
    assert "6 images" in report["summary"] and not report["is_live"]


def test_while_the_table_is_edited_it_learns_of_clashes_and_exposure(ready):
    ready.values[JSON] = json.dumps(
        [{"name": "Taken"}, {"name": ""}, *SIXTY[:1], {"name": "ZOG_0"}, {"init_text": "x"}]
    )
    ready.press(LIVE)
    report = json.loads(ready.values[element_id("concepts", "report")])
    assert report["is_live"]
    assert [(found["row"], found["severity"]) for found in report["problems"]] == [(0, "warning"), (3, "error")]
    assert "installed embedding" in report["problems"][0]["text"] and "same name" in report["problems"][1]["text"]
    assert [(row["row"], row["images"]) for row in report["rows"]][1] == (2, "6")
    ready.values[element_id("images", "data_folder")] = ""
    ready.press(LIVE)
    report = json.loads(ready.values[element_id("concepts", "report")])
    assert (len(report["problems"]), report["rows"]) == (2, None)


def test_names_of_a_file_are_added_and_nothing_else(page, tmp_path):
    page.values[JSON] = json.dumps([{"name": "zog", "vectors": 2}, {"name": ""}])
    embeddings = [{"placeholder": "<mib>", "token_count": 3, "initial_embedding_text": "ring"}, {"placeholder": "zog"}]
    path = tmp_path / "onetrainer.json"
    path.write_text(json.dumps({"additional_embeddings": embeddings, "learning_rate": 0.5}))
    page.values[element_id("concepts", "path")] = str(path)
    changed = page.press(element_id("concepts", "import_names"))
    assert set(changed) == {JSON, AS_TEXT, TEXT, FOUND}
    assert [(row["name"], row["vectors"]) for row in concepts(page)] == [("zog", 2), ("mib", 3)]
    assert concepts(page)[1]["init_text"] == "ring"
    path.write_text("{")
    assert set(page.press(element_id("concepts", "import_names"))) == {FOUND}
    assert "onetrainer.json" in page.values[FOUND]


def test_names_of_folders(page, tmp_path):
    for name in ("5_teal robot", "nim", "girl!", "reg"):
        write_images(tmp_path / "cast" / name)
    (tmp_path / "cast" / "empty").mkdir()
    page.values[element_id("images", "data_folder")] = f'"{tmp_path / "cast"}"'
    page.press(element_id("concepts", "folder_names"))
    assert [(row["name"], row["aliases"]) for row in concepts(page)] == [
        ("teal_robot", ["teal robot"]),
        ("girl", ["girl!"]),
        ("nim", []),
    ]
    assert "Added 3 names" in page.values[FOUND] and "reg" in page.values[FOUND]
    page.values[element_id("images", "data_folder")] = str(tmp_path / "gone")
    page.press(element_id("concepts", "folder_names"))
    assert "does not exist" in page.values[FOUND] and len(concepts(page)) == 3


def test_names_are_added_to_the_text_while_it_is_edited(page, tmp_path):
    (tmp_path / "emb_init.json").write_text('{"mib": ["ring"]}')
    page.values[element_id("concepts", "path")] = str(tmp_path / "emb_init.json")
    page.values[AS_TEXT] = True
    page.values[TEXT] = "zog = robot"
    page.press(element_id("concepts", "import_names"))
    assert page.values[TEXT].endswith("zog; robot; 4;\nmib; ring; 4;")
    page.values[TEXT] = "zog; robot; four"
    page.press(element_id("concepts", "import_names"))
    assert page.values[TEXT] == "zog; robot; four" and "Line 1" in page.values[FOUND]


def test_the_table_is_exported_as_csv(page):
    answer = ask(page, action="write", rows=SIXTY[:1])
    assert answer["text"] == "name,initialization text,vectors,caption tags\nzog_0,robot 0,1,tag 0"
