"""What the table of concepts asks the server, and what its buttons do; inputs and outputs are passed by name."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from lib_pivotal.app.concept_names import AddedNames, add_folder_names, add_names_of_file
from lib_pivotal.app.session import Session
from lib_pivotal.core.config.concept_lines import read_concept_lines, show_concept_lines
from lib_pivotal.core.config.schema import concept_field_info
from lib_pivotal.ui import panels
from lib_pivotal.ui.blocks.concepts import ANSWER, NOTICE, PATH, REQUEST, TABLE
from lib_pivotal.ui.concept_rows import AS_TEXT, CONCEPTS, TEXT, put_rows, read_rows, rows_to_change
from lib_pivotal.ui.listener import Outputs, Values
from lib_pivotal.ui.text.concepts import CONCEPT_MESSAGES

__all__ = ["ConceptHandlers"]


class ConceptHandlers:
    """Every method takes its inputs by name and returns the outputs it changes, by name.

    Args:
        session: knows the webui.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def switch(self, values: Values) -> Outputs:
        """Show the table or the text; the text stays while it has errors, which the table could not show."""
        if values[AS_TEXT]:
            rows = read_rows({**values, AS_TEXT: False})
            if rows.problems:
                return {AS_TEXT: False, NOTICE: panels.show_problems(rows.problems)}
            if values[TEXT]:
                # The answer to a refused switch has checked the box again; what it says is still to be read.
                return {TABLE: gr.update(visible=False), TEXT: gr.update(visible=True)}
            text = put_rows(rows.rows, as_text=True)[TEXT]
            return {TABLE: gr.update(visible=False), TEXT: gr.update(value=text, visible=True), NOTICE: ""}
        shown: Outputs = {TABLE: gr.update(visible=True), TEXT: gr.update(value="", visible=False), NOTICE: ""}
        if not (values[TEXT] or "").strip():
            return shown
        read = read_rows({**values, AS_TEXT: True})
        if read.problems:
            notice = panels.show_problems(read.problems, heading=CONCEPT_MESSAGES["stays_text"])
            return {AS_TEXT: True, NOTICE: notice}
        return {**shown, CONCEPTS: put_rows(read.rows)[CONCEPTS]}

    def answer(self, values: Values) -> Outputs:
        """Read pasted text, or write the concepts as text; the answer carries the number of the request."""
        request = json.loads(values[REQUEST])
        if request["action"] == "write":
            text = show_concept_lines([row for row in request["rows"] if isinstance(row, dict)], ",")
            return {ANSWER: json.dumps({"id": request["id"], "text": text})}
        first = request["first"] if request["first"] in concept_field_info() else "name"
        read = read_concept_lines(request["text"], first)
        notice = ""
        if read.problems:
            notice = panels.show_problems(read.problems, heading=CONCEPT_MESSAGES["findings"])
        return {ANSWER: json.dumps({"id": request["id"], "rows": read.rows}), NOTICE: notice}

    def import_names(self, values: Values) -> Outputs:
        """Add the concepts of a file."""
        return _show(add_names_of_file(self._session, values[PATH] or "", rows_to_change(values)), values)

    def folder_names(self, values: Values) -> Outputs:
        """Add a concept for each folder in the image folder."""
        return _show(add_folder_names(self._session, values["data_folder"] or "", rows_to_change(values)), values)


def _show(result: AddedNames, values: Values) -> dict[str, Any]:
    as_text = bool(values[AS_TEXT])
    message = CONCEPT_MESSAGES["added"].format(added=result.added, count=len(result.rows))
    notice = panels.show_message(message, "good")
    if result.problems:
        notice = panels.show_problems(result.problems, heading=message)
    return {**put_rows(result.rows, as_text=as_text), NOTICE: notice}
