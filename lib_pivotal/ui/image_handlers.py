"""What the buttons of "Data set" do; inputs and outputs are passed by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import gradio as gr

from lib_pivotal.app.image_browser import CaptionChange, ImageBrowser, ImageSearch
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.ui import panels
from lib_pivotal.ui.blocks.images import PREFIX
from lib_pivotal.ui.fields import in_rows, read_config
from lib_pivotal.ui.image_view import (
    line,
    listed,
    show_cards,
    show_details,
    show_draws,
    show_history,
    show_job,
    show_lists,
    show_plan,
)
from lib_pivotal.ui.listener import Outputs, Values
from lib_pivotal.ui.text.images import (
    ALL_IMAGES,
    ANY_CONCEPT,
    EDIT_TITLES,
    IMAGE_ACTIONS,
    IMAGE_MARKS,
    IMAGE_MESSAGES,
)

__all__ = ["EDIT", "FILTER", "JOB", "SHOWN", "ImageHandlers"]

FILTER = tuple(f"{PREFIX}{name}" for name in ("mark", "concept", "tag", "text"))
"""Inputs of the filter."""
EDIT = tuple(f"{PREFIX}{name}" for name in ("edit", "edit_tags", "replacement", "is_pattern", "writes_files"))
"""Inputs of an edit."""
SHOWN = (
    *(f"{PREFIX}{name}" for name in ("notice", "state", "cards", "tags", "details", "caption", "draws", "opened")),
    f"{PREFIX}caption_sent",
    *(f"{PREFIX}{name}" for name in ("plan", "history")),
    *FILTER,
)
"""Outputs that show images."""

JOB = (f"{PREFIX}progress", f"{PREFIX}job")
"""Outputs that show how far captions are."""

_MAX_TEXT = 10_000
_ACTIVE = "active"


@dataclass(frozen=True)
class _State:
    """What the page shows."""

    look: str = ""
    number: int = 1
    image: str = ""
    plan: str = ""
    search: ImageSearch = field(default_factory=ImageSearch)

    def as_json(self) -> str:
        return json.dumps(asdict(self))


class ImageHandlers:
    """Every method takes its inputs by name and returns the outputs it changes, by name.

    Args:
        browser: reads and edits the data set.
    """

    def __init__(self, browser: ImageBrowser) -> None:
        self._browser = browser

    def look(self, values: Values) -> Outputs:
        """Read the images of the settings on the tab."""
        config, parse_problems = read_config(values)
        try:
            answer = self._browser.look(config, parse_problems)
        except ConfigError as error:
            raise ConfigError(in_rows(error.problems, values)) from error
        state = _State(look=answer["look"])
        notice = panels.show_problems(in_rows(answer["problems"], values), purpose="look")
        concepts = [ANY_CONCEPT, *(concept.name for concept in config.concepts)]
        shown = {**self._show(state), **_filter_fields(state.search)}
        shown[f"{PREFIX}concept"] = gr.update(choices=concepts, value=ANY_CONCEPT)
        return {**shown, **_closed(), f"{PREFIX}notice": notice, f"{PREFIX}plan": ""}

    def rescan(self, values: Values) -> Outputs:
        """Read the images again and say what has changed."""
        state = _state(values)
        changes = self._browser.rescan(state.look)
        found = {kind: names for kind, names in changes.items() if names}
        lines = [line(kind, names=listed(names)) for kind, names in found.items()] or [line("nothing_new")]
        notice = f'<div class="pivotal-box" role="status">{"".join(lines)}</div>'
        return {**self._show(replace(state, plan="")), **_closed(), f"{PREFIX}notice": notice, f"{PREFIX}plan": ""}

    def filter(self, values: Values) -> Outputs:
        """Show the images that the fields of the filter find."""
        marks = {text: mark for mark, text in IMAGE_MARKS.items()}
        concept = values[f"{PREFIX}concept"] or ""
        search = ImageSearch(
            mark=marks.get(values[f"{PREFIX}mark"], ""),
            concept="" if concept == ANY_CONCEPT else concept,
            tag=(values[f"{PREFIX}tag"] or "").strip(),
            text=(values[f"{PREFIX}text"] or "").strip(),
        )
        return self._search(_state(values), search)

    def clear(self, values: Values) -> Outputs:
        """Show all images."""
        return self._search(_state(values), ImageSearch())

    def act(self, values: Values) -> Outputs:
        """Do what a button within the images says."""
        action = _parsed(values[f"{PREFIX}action"])
        state = _state(values)
        what = action.get("do")
        if what in ("mark", "concept", "tag"):
            return self._search(state, replace(state.search, **{what: str(action.get(what, ""))}))
        methods: dict[Any, Callable[[_State, dict[str, Any]], Outputs]] = {"page": self._turn, "open": self._open}
        if what == "undo":
            return self._undo(state, values, action)
        return methods[what](state, action) if what in methods else {}

    def save(self, values: Values) -> Outputs:
        """Write the caption of the open image."""
        state = _state(values)
        title = EDIT_TITLES["caption"].format(image=state.image)
        done = self._browser.save_caption(state.look, state.image, values[f"{PREFIX}caption"] or "", title=title)
        state = replace(state, plan="")
        message = "saved" if done["files"] else "caption_same"
        notice = panels.show_message(IMAGE_MESSAGES[message].format(name=state.image), "good")
        return {**self._show(state), **self._show_image(state), f"{PREFIX}notice": notice, f"{PREFIX}plan": ""}

    def close(self, values: Values) -> Outputs:
        """Close the open image."""
        return {**self._show(replace(_state(values), image="")), **_closed()}

    def preview(self, values: Values) -> Outputs:
        """Show what an edit of the found images would do."""
        state = _state(values)
        action = _action(values)
        change = CaptionChange(
            action,
            (values[f"{PREFIX}edit_tags"] or "")[:_MAX_TEXT],
            (values[f"{PREFIX}replacement"] or "")[:_MAX_TEXT],
            bool(values[f"{PREFIX}is_pattern"]),
        )
        title = EDIT_TITLES[action].format(tags=change.tags.strip(), replacement=change.replacement.strip() or "–")
        writes_files = bool(values[f"{PREFIX}writes_files"])
        plan = self._browser.preview(state.look, state.search, change, title=title, writes_files=writes_files)
        state = replace(state, plan=plan["plan"])
        return {f"{PREFIX}plan": show_plan(plan), f"{PREFIX}state": state.as_json(), f"{PREFIX}notice": ""}

    def apply(self, values: Values) -> Outputs:
        """Write what the preview has shown."""
        state = _state(values)
        if not state.plan:
            return {f"{PREFIX}notice": panels.show_message(IMAGE_MESSAGES["no_plan"])}
        done = self._browser.apply(state.look, state.plan)
        return self._edited(state, values, IMAGE_MESSAGES["applied"].format(**done))

    def write(self, values: Values) -> Outputs:
        """Let a program of the webui write captions."""
        state = _state(values)
        program = values[f"{PREFIX}program"] or ""
        title = EDIT_TITLES["program"].format(program=program)
        appends = bool(values[f"{PREFIX}appends"])
        self._browser.write_captions(state.look, state.search, program, appends=appends, title=title)
        return {f"{PREFIX}notice": "", **self._show_job()}

    def stop_captions(self, _values: Values) -> Outputs:
        """Stop writing captions."""
        self._browser.stop_captions()
        return self._show_job()

    def poll(self, values: Values) -> Outputs:
        """Show how far the captions are; once they are written, show the images again."""
        shown = self._show_job()
        was_active = values[f"{PREFIX}job"] == _ACTIVE
        if not was_active or shown[f"{PREFIX}job"] == _ACTIVE:
            return shown
        try:
            state = replace(_state(values), plan="")
            return {**self._show(state), **self._show_image_again(state, values), **shown, f"{PREFIX}plan": ""}
        except PivotalError as error:
            # The page must still learn that the job has ended.
            return {**shown, f"{PREFIX}notice": panels.show_error(error)}

    def _show_job(self) -> Outputs:
        job = self._browser.job()
        marker = _ACTIVE if job.is_active else ""
        return {f"{PREFIX}progress": show_job(job), f"{PREFIX}job": marker}

    def _undo(self, state: _State, values: Values, action: dict[str, Any]) -> Outputs:
        done = self._browser.undo(state.look, str(action.get("entry", "")))
        text = IMAGE_MESSAGES["undone"].format(count=done["restored"])
        refused = IMAGE_MESSAGES["refused"].format(names=listed(done["refused"])) if done["refused"] else ""
        return self._edited(state, values, text, refused)

    def _edited(self, state: _State, values: Values, text: str, hint: str = "") -> Outputs:
        """The images after captions have changed."""
        state = replace(state, plan="")
        image = self._show_image_again(state, values)
        notice = panels.show_message(text, "good", hint)
        return {**self._show(state), **image, f"{PREFIX}notice": notice, f"{PREFIX}plan": notice}

    def _search(self, state: _State, search: ImageSearch) -> Outputs:
        state = replace(state, search=search, number=1, plan="")
        return {**self._show(state), **_filter_fields(search), f"{PREFIX}notice": "", f"{PREFIX}plan": ""}

    def _turn(self, state: _State, action: dict[str, Any]) -> Outputs:
        number = action.get("number")
        return self._show(replace(state, number=number if isinstance(number, int) else 1))

    def _open(self, state: _State, action: dict[str, Any]) -> Outputs:
        state = replace(state, image=str(action.get("image", "")))
        return {**self._show_image(state), **self._show(state), f"{PREFIX}notice": ""}

    def _show(self, state: _State) -> Outputs:
        page = self._browser.page(state.look, state.search, state.number)
        state = replace(state, number=page["number"])
        return {
            f"{PREFIX}state": state.as_json(),
            f"{PREFIX}cards": show_cards(page, state.image),
            f"{PREFIX}tags": show_lists(page, asdict(state.search)),
            f"{PREFIX}history": show_history(self._browser.entries()),
        }

    def _show_image(self, state: _State) -> Outputs:
        details = self._browser.details(state.look, state.image)
        return {
            f"{PREFIX}details": show_details(details),
            f"{PREFIX}caption": details["caption"],
            f"{PREFIX}caption_sent": details["caption"],
            f"{PREFIX}draws": show_draws(details),
            f"{PREFIX}opened": gr.update(visible=True),
        }

    def _show_image_again(self, state: _State, values: Values) -> Outputs:
        """The open image, if there is one, after its caption may have changed; what the user has typed stays."""
        if not state.image:
            return {}
        shown = self._show_image(state)
        if values[f"{PREFIX}caption"] != values[f"{PREFIX}caption_sent"]:
            del shown[f"{PREFIX}caption"]
        return shown


def _closed() -> Outputs:
    empty = {f"{PREFIX}{name}": "" for name in ("details", "caption", "caption_sent", "draws")}
    return {**empty, f"{PREFIX}opened": gr.update(visible=False)}


def _filter_fields(search: ImageSearch) -> Outputs:
    return {
        f"{PREFIX}mark": IMAGE_MARKS.get(search.mark, ALL_IMAGES),
        f"{PREFIX}concept": search.concept or ANY_CONCEPT,
        f"{PREFIX}tag": search.tag,
        f"{PREFIX}text": search.text,
    }


def _action(values: Values) -> str:
    chosen = values[f"{PREFIX}edit"]
    action = next((action for action, text in IMAGE_ACTIONS.items() if text == chosen), None)
    if action is None:
        raise ConfigError([Problem("change", "error", "No edit is selected.", "Select one.")])
    return action


def _state(values: Values) -> _State:
    """What the page shows; the page sends it back as it got it.

    Raises:
        PivotalError: the images have not been read.
    """
    given = _parsed(values[f"{PREFIX}state"])
    if not given:
        raise PivotalError("The images have not been read yet.", hint="Click Look at the images.")
    names = {item.name for item in fields(ImageSearch)}
    search = {name: str(text) for name, text in given.get("search", {}).items() if name in names}
    number = given.get("number", 1)
    texts = {name: str(given.get(name, "")) for name in ("look", "image", "plan")}
    return _State(**texts, number=number if isinstance(number, int) else 1, search=ImageSearch(**search))


def _parsed(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
