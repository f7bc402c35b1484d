"""What is to be said about captions and repeats as they were read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from lib_pivotal.core.config.data_settings import DataSettings
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.caption_encoding import decodings
from lib_pivotal.core.data.folder import FolderContents
from lib_pivotal.core.data.image_captions import CaptionNotes
from lib_pivotal.core.data.metadata_file import Metadata
from lib_pivotal.core.data.repeats import MAX_REPEATS, FolderRepeats
from lib_pivotal.core.data.shown import listed
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.printable import printable

__all__ = ["caption_notes", "metadata_notes", "repeat_notes"]

_SAMPLE_BYTES = 200
_SAMPLE_LENGTH = 40
_MAX_PROBLEMS = 5

_Show = Callable[[Path], str]


def caption_notes(
    notes: CaptionNotes, subset: Subset, settings: DataSettings, field: str, folder: str
) -> list[Problem]:
    """Problems with the captions of a folder.

    Args:
        notes: what was noticed while reading.
        subset: the settings of the folder.
        settings: of the whole data set.
        field: the setting that holds the folder.
        folder: its name for messages.
    """
    problems = _encoding(notes, settings, folder)
    if subset.captions == "template" and not settings.caption_template.strip():
        text = "Captions are to come from templates only, but no file with templates is given."
        problems.append(Problem("caption_template", "error", text, "Choose one, or another source of captions."))
    if notes.several:
        text = f"{_images(notes.several.total())} have more than one caption, and the first is used: "
        parts = [f"{kinds[0]} before {', '.join(kinds[1:] or kinds)}" for kinds in notes.several]
        text += f"{_counted(dict(zip(parts, notes.several.values(), strict=True)))}."
        problems.append(Problem(field, "warning", text, 'Another source can be chosen with "Captions from".'))
    if notes.wide_commas:
        count = len(notes.wide_commas)
        text = f"Full-width commas count as commas in {count} caption{'s' if count != 1 else ''}: "
        hint = 'Turn off "Full-width commas separate tags" to keep them.'
        problems.append(Problem(field, "warning", f"{text}{listed(notes.wide_commas)}.", hint))
    if notes.damaged:
        text = f"Captions contain damaged or invisible characters: {listed(notes.damaged)}."
        problems.append(Problem(field, "warning", text, "Write them again, and save them as UTF-8."))
    if notes.objects:
        text = f"Caption files of {listed(notes.objects)} contain Python objects, which may hide programs."
        problems.append(Problem(field, "warning", text, "They are not loaded; only plain text is used."))
    if notes.folder_texts:
        text = f"Images without a caption file take the name of their folder: {_counted(notes.folder_texts)}."
        hint = "Add caption files if they should say more."
        problems.append(Problem(field, "warning", text, hint))
    return problems


def _encoding(notes: CaptionNotes, settings: DataSettings, folder: str) -> list[Problem]:
    if not notes.undecoded:
        return []
    count, name = len(notes.undecoded), notes.undecoded[0]
    other = f" or {settings.caption_encoding}" if settings.caption_encoding else ""
    line = notes.sample[:_SAMPLE_BYTES].strip().partition(b"\n")[0]
    texts = "; ".join(f"{encoding}: {printable(text, _SAMPLE_LENGTH)}" for encoding, text in decodings(line))
    what = f"{count} captions in {folder} are" if count > 1 else f"1 caption in {folder} is"
    message = f"{what} not Unicode text{other}. {name} could say: {texts}."
    hint = f'Save {name} as UTF-8. If one of these is right, choose it under "Caption encoding".'
    return [Problem("caption_encoding", "error", message, hint)]


def metadata_notes(metadata: Metadata, field: str, show: _Show) -> list[Problem]:
    """Entries of metadata files that belong to no image.

    Args:
        metadata: the files, after all images have been looked up.
        field: the setting that holds the folder.
        show: path → name for messages.
    """
    problems = []
    for file, count, unused in metadata.unused():
        name = show(file.path)
        if unused == count:
            text = f"{name} describes none of the images here; none of the {count} images in it was found."
        elif unused:
            text = f"{unused} entries of {name} belong to no image here."
        else:
            continue
        hint = "Its paths must be relative to the file, or its file names unique."
        problems.append(Problem(field, "warning", text, hint))
    return problems[:_MAX_PROBLEMS]


def repeat_notes(repeats: FolderRepeats, contents: FolderContents, field: str, show: _Show) -> list[Problem]:
    """What was recognized in names of folders and in files multiply.txt.

    Args:
        repeats: after all folders have been looked up.
        contents: what is in the data folder.
        field: the setting that holds the folder.
        show: path → name for messages.
    """
    problems = [
        Problem(field, "error", f"{show(path)} does not say how often images count.", _MULTIPLY_HINT)
        for path in repeats.broken[:_MAX_PROBLEMS]
    ]

    def note(text: str, folders: Iterable[Path], hint: str) -> None:
        names = [_name(folder, show) for folder in folders]
        if names:
            problems.append(Problem(field, "warning", f"{text}: {listed(names)}.", hint))

    note(
        "The number counts people, as anime_screenshot_pipeline writes it, and does not repeat images",
        repeats.people,
        'If it should repeat them, set "Folder names are repeats" to yes.',
    )
    note(
        "The number looks like a date and does not repeat images",
        repeats.not_repeats,
        'If it should repeat them, set "Folder names are repeats" to yes.',
    )
    note(
        "The name of the folder repeats its images unusually often",
        repeats.many,
        'If that is not intended, rename it, or set "Folder names are repeats" to no.',
    )
    note(
        "Its number is 0; other programs leave such a folder out, but here its images count once",
        repeats.zero,
        "Move it out of the data folder if its images should not be used.",
    )
    if repeats.multiplied:
        numbers = {_name(folder, show): f"{number:g}" for folder, number in repeats.multiplied.items()}
        text = f"multiply.txt says how often the images of a folder count: {_counted(numbers)}."
        problems.append(Problem(field, "warning", text, "Subfolders need a file of their own."))
    for path in contents.hidden_suffix[:_MAX_PROBLEMS]:
        text = f"{show(path)} is not used, because its name ends twice with .txt."
        problems.append(Problem(field, "warning", text, "Rename it to multiply.txt; Windows hides the second one."))
    return problems


_MULTIPLY_HINT = f"Write a number above 0, up to {MAX_REPEATS:g}, such as 2.5."


def _name(folder: Path, show: _Show) -> str:
    """A folder for messages; by its last part where it is the data folder itself."""
    return show(folder) if folder.name else str(folder)


def _images(count: int) -> str:
    return f"{count} image{'s' if count != 1 else ''}"


def _counted(numbers: dict[str, object] | dict[str, int] | dict[str, str] | Counter[str]) -> str:
    """The first few names, each with its number in brackets."""
    return listed([f"{printable(name)} ({number})" for name, number in numbers.items()])
