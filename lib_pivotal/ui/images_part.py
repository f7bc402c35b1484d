"""The part that shows the images of the data set and edits their captions: creates its block and connects it."""

from __future__ import annotations

from typing import Any

from lib_pivotal.app.image_browser import browser_for
from lib_pivotal.app.session import Session
from lib_pivotal.ui.blocks.images import PREFIX, create_images
from lib_pivotal.ui.compat import javascript
from lib_pivotal.ui.core_tag_handlers import CHOICE, CORE_TAGS, CoreTagHandlers, concept_fields
from lib_pivotal.ui.fields import input_names
from lib_pivotal.ui.image_handlers import EDIT, FILTER, JOB, SHOWN, ImageHandlers
from lib_pivotal.ui.listener import Listener

__all__ = ["add_images"]

_STATE = f"{PREFIX}state"
_CAPTION = [f"{PREFIX}caption", f"{PREFIX}caption_sent"]


def add_images(session: Session, training: dict[str, Any]) -> None:
    """Create the part within the current tab.

    Args:
        session: knows the webui.
        training: components of the training part by name; their settings say which images are shown.
    """
    browser = browser_for(session)
    programs = browser.captioners()
    parts = {**training, **create_images(programs)}
    _wire(parts, ImageHandlers(browser))
    _wire_core_tags(parts, CoreTagHandlers(session))
    if programs:
        _wire_programs(parts, ImageHandlers(browser))


def _wire(parts: dict[str, Any], handlers: ImageHandlers) -> None:
    listen = Listener(parts, notice=f"{PREFIX}notice")

    def click(name: str, inputs: list[str], outputs: tuple[str, ...] = SHOWN) -> Any:
        button = parts[PREFIX + name]
        return listen.on(button.click, getattr(handlers, name), inputs, outputs, spinner=name != "act")

    click("look", input_names())
    click("rescan", [_STATE])
    click("filter", [_STATE, *FILTER])
    for name in ("tag", "text"):
        listen.on(parts[PREFIX + name].submit, handlers.filter, [_STATE, *FILTER], SHOWN)
    click("clear", [_STATE])
    click("save", [_STATE, f"{PREFIX}caption"])
    click("close", [_STATE])
    click("preview", [_STATE, *EDIT])
    click("apply", [_STATE, *_CAPTION])
    acted = click("act", [_STATE, f"{PREFIX}action", *_CAPTION])
    acted.then(fn=None, inputs=[], outputs=[], **javascript("() => { pivotalImages.acted(); return []; }"))


def _wire_core_tags(parts: dict[str, Any], handlers: CoreTagHandlers) -> None:
    listen = Listener(parts, notice=f"{PREFIX}notice")
    inputs = [*input_names(), *CHOICE]
    listen(f"{PREFIX}find_tags", handlers.find_tags, inputs, CORE_TAGS, spinner=True)
    listen(f"{PREFIX}update_tags", handlers.update_tags, inputs, CORE_TAGS, spinner=True)
    listen(f"{PREFIX}use_tags", handlers.use_tags, inputs, [*CORE_TAGS, *concept_fields()], spinner=True)


def _wire_programs(parts: dict[str, Any], handlers: ImageHandlers) -> None:
    listen = Listener(parts, notice=f"{PREFIX}notice")
    job, notice = f"{PREFIX}job", f"{PREFIX}notice"
    inputs = {
        "write": [_STATE, f"{PREFIX}program", f"{PREFIX}appends"],
        "stop_captions": [],
        "poll": [_STATE, job, *_CAPTION],
    }
    for name, needed in inputs.items():
        outputs = [*SHOWN, *JOB] if name == "poll" else [notice, *JOB]
        event = listen.on(parts[PREFIX + name].click, getattr(handlers, name), needed, outputs)
        code = "(job) => { pivotalImages.jobIs(job); return []; }"
        event.then(fn=None, inputs=[parts[job]], outputs=[], **javascript(code))
