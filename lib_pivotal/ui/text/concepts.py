"""Texts of the table of concepts."""

from __future__ import annotations

from lib_pivotal.core.config.schema import concept_field_info

__all__ = ["CONCEPT_BUTTONS", "CONCEPT_LABELS", "CONCEPT_MESSAGES", "TABLE_WORDS", "concept_label"]

CONCEPT_BUTTONS = {
    "import_names": "Add names from this file",
    "folder_names": "Add names of the image folder's folders",
}

CONCEPT_LABELS = {
    "concepts_as_text": "Edit the concepts as text",
    "concepts_as_text_help": "One concept per line instead of the table; what is visible is what is trained.",
    "concepts_text": "Concepts as text",
    "concepts_text_help": "Columns are separated by semicolons or tabs. NAME = INITIALIZATION TEXT works, too.",
    "names_path": "File with names",
    "names_path_help": "CSV, emb_init.json, or settings of OneTrainer, HCP-Diffusion or kohya's scripts; "
    "only the concepts are taken.",
    "more_names": "Names from files and folders",
}

CONCEPT_MESSAGES = {
    "added": "Added {added} names, {count} in all. Ctrl+Z in the table undoes this.",
    "findings": "Some of it could not be read as it is:",
    "stays_text": "Correct the text before going back to the table:",
    "not_json": "The concepts cannot be read: {error}.",
    "not_list": "The concepts must be a list.",
    "too_long": "The concepts are longer than {limit} KiB.",
    "restore": "Restore the last settings, or edit them as text.",
    "too_many": "There are {count} names; at most {most} can be trained together.",
    "too_many_hint": "Remove some, or train them as two bundles.",
    "empty_text": "There is no text, so it is not known which concepts are meant.",
    "empty_text_hint": "Write the line of headings and one concept per line, or go back to the table.",
}

TABLE_WORDS = {
    "caption": "Concepts to train",
    "label": "{label}, row {row}",
    "select": "Select row {row}",
    "select_all": "Select all rows",
    "more": "More settings of row {row}",
    "add": "Add name",
    "remove": "Remove selected",
    "undo": "Undo",
    "redo": "Redo",
    "export": "Export",
    "set_for_all": "Set for all…",
    "setting": "Setting",
    "value": "Value for all rows, or for the selected ones",
    "set": "Set",
    "images": "Images",
    "alone": "Alone",
    "share": "Share",
    "views": "Views",
    "images_help": "Images that show the concept.",
    "alone_help": "Images that show no other concept.",
    "share_help": "Share of all samples that show the concept.",
    "views_help": "How often each image of the concept is seen in the whole run.",
    "count": "{count} names",
    "selected": "{count} selected",
    "keys": "Enter: next row. Ctrl+V: paste rows. Alt+↑, Alt+↓: move. Del: remove selected rows. Ctrl+Z, Ctrl+Y: undo, "
    "redo.",
    "file": "concepts.csv",
    "pasted": "{count} rows read.",
    "failed": "The webui does not answer. Try again, or edit the concepts as text.",
}
"""Words that the page's script shows."""


def concept_label(row: int, name: str = "") -> str:
    """Label of a cell of the table, or of a row; ``row`` counts from 0, the label from 1."""
    return f"Row {row + 1}, {concept_field_info()[name]['label']}" if name else f"Row {row + 1}"
