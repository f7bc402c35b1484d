"""The commands ``data edit`` and ``data undo``: captions are edited and edits are undone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_pivotal.cli.console import say
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.printable import printable

if TYPE_CHECKING:
    from lib_pivotal.core.data.caption_changes import CaptionChange
    from lib_pivotal.core.data.caption_edits import EditPlan

__all__ = ["add_edit_commands"]

_UNDO_FOLDER = Path("caption-undo")
_EXAMPLES = 8
_MAX_CAPTION_LENGTH = 300


def add_edit_commands(commands: Any) -> None:
    """Add the commands that edit captions.

    Args:
        commands: return value of ``add_subparsers``.
    """
    edit = commands.add_parser("edit", help="show what an edit of captions would do, or apply it")
    edit.add_argument("config", type=Path, help="JSON settings file")
    what = edit.add_mutually_exclusive_group(required=True)
    what.add_argument("--add-front", metavar="TAGS", help="add tags in front")
    what.add_argument("--add-end", metavar="TAGS", help="add tags at the end")
    what.add_argument("--remove", metavar="TAGS", help="remove tags")
    what.add_argument("--replace", metavar="TAGS", help="replace tags with those of --with")
    what.add_argument("--dedupe", action="store_true", help="remove repeated tags")
    what.add_argument("--concepts-first", action="store_true", help="put concepts first")
    edit.add_argument("--with", dest="replacement", metavar="TAGS", default="", help="see --replace")
    edit.add_argument("--pattern", action="store_true", help="TAGS to remove or replace are a regular expression")
    edit.add_argument("--concept", default="", metavar="NAME", help="only images of this concept")
    edit.add_argument("--tag", default="", help="only images with this tag")
    edit.add_argument("--text", default="", help="only images with this text in their caption or name")
    edit.add_argument("--write-files", action="store_true", help="copy captions from elsewhere to .txt files first")
    edit.add_argument("--apply", action="store_true", help="write the files")
    edit.set_defaults(run=_edit)

    undo = commands.add_parser("undo", help="list the edits of captions that can be undone, or undo one")
    undo.add_argument("entry", nargs="?", help="name of the edit in the list")
    undo.set_defaults(run=_undo)
    for command in (edit, undo):
        command.add_argument(
            "--undo-folder",
            type=Path,
            default=_UNDO_FOLDER,
            metavar="FOLDER",
            help=f"where the old captions are kept (default: {_UNDO_FOLDER} in the current folder)",
        )


def _edit(options: argparse.Namespace) -> int:
    from lib_pivotal.core.config.io import from_json
    from lib_pivotal.core.config.settings_file import read_settings_file
    from lib_pivotal.core.data.caption_changes import CaptionChanger
    from lib_pivotal.core.data.caption_edits import plan_edits
    from lib_pivotal.core.data.caption_undo import CaptionHistory
    from lib_pivotal.core.data.dataset_report import read_dataset
    from lib_pivotal.core.data.image_cards import ImageSearch, cards_of, found_by

    config = from_json(read_settings_file(options.config))
    change = _change(options)
    changer = CaptionChanger(config, change)
    report = read_dataset(config)
    errors = [problem for problem in report.problems if problem.is_error]
    if errors:
        raise ConfigError(errors)
    search = ImageSearch(concept=options.concept, tag=options.tag, text=options.text)
    chosen = [card.image for card in found_by(search, cards_of(report, config))]
    title = " ".join([change.action.replace("_", " "), change.tags, change.replacement]).strip()
    plan = plan_edits(chosen, report.images, changer.changed, config, title=title, writes_files=options.write_files)
    say(_plan_text(plan, len(chosen)))
    if not options.apply:
        say("Nothing was written; --apply writes the files.\n")
    elif plan.files:
        entry = CaptionHistory(options.undo_folder).apply(plan)
        say(f"Written. Undo it with: data undo {entry}\n")
    return 0


def _change(options: argparse.Namespace) -> CaptionChange:
    from lib_pivotal.core.data.caption_changes import ACTIONS, CaptionChange

    action = next(action for action in ACTIONS if getattr(options, action) not in (None, False))
    if options.replacement and action != "replace":
        raise ConfigError([Problem("--with", "error", "It belongs to --replace.", "Leave it out.")])
    tags = getattr(options, action)
    return CaptionChange(action, tags if isinstance(tags, str) else "", options.replacement, options.pattern)


def _plan_text(plan: EditPlan, chosen: int) -> str:
    new = sum(file.before is None for file in plan.files)
    lines = [f"{chosen} images; files that change: {len(plan.files)}, new ones among them: {new}."]
    lines += [
        f"{printable(file.path.name)} is stored as {file.encoding} and becomes UTF-8."
        for file in plan.files
        if file.encoding
    ]
    for reason, names in plan.skipped.items():
        lines.append(f"Left out: {_listed(names)}. {reason}")
    if plan.elsewhere:
        lines.append(f"Left out, because their captions are not in files of their own: {_listed(plan.elsewhere)}.")
        lines.append("--write-files copies them to .txt files.")
    for file in plan.files[:: max(1, len(plan.files) // _EXAMPLES)][:_EXAMPLES]:
        lines.append(f"  {printable(file.path.name)}")
        lines.append(f"    before: {printable(file.old, _MAX_CAPTION_LENGTH)}")
        lines.append(f"    after:  {printable(file.new, _MAX_CAPTION_LENGTH)}")
    return "\n".join(lines) + "\n"


def _listed(names: tuple[str, ...]) -> str:
    from lib_pivotal.core.data.shown import listed

    return printable(listed(names), None)


def _undo(options: argparse.Namespace) -> int:
    from lib_pivotal.core.data.caption_undo import CaptionHistory

    history = CaptionHistory(options.undo_folder)
    if options.entry is None:
        entries = history.entries()
        for entry in entries:
            say(f"{entry.id}  {entry.time}  {entry.count} files  {printable(entry.title)}\n")
        if not entries:
            say("There are no edits to undo.\n")
        return 0
    undone = history.undo(options.entry)
    say(f"Files restored: {len(undone.restored)}.\n")
    for path in undone.refused:
        say(f"{printable(path, None)} has changed since and stays as it is.\n", is_error=True)
    return 1 if undone.refused else 0
