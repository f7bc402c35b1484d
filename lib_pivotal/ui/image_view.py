"""HTML for the images of a data set; every text from a file is made printable and escaped here.

Buttons in it carry what they do as JSON in ``data-pivotal``; ``javascript/pivotal_images.js`` sends that to the server.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lib_pivotal.app.caption_job import JobState
from lib_pivotal.ui.escape import escape_html
from lib_pivotal.ui.text.images import IMAGE_MARKS, IMAGE_MESSAGES, PART_LEGEND, PART_MARKS

__all__ = [
    "action_button",
    "line",
    "listed",
    "show_cards",
    "show_changes",
    "show_details",
    "show_draws",
    "show_history",
    "show_job",
    "show_lists",
    "show_plan",
]

_LISTED = 10


def line(message: str, style: str = "", **values: Any) -> str:
    """A line of text with the class ``style``."""
    attribute = f' class="{style}"' if style else ""
    return f"<div{attribute}>{escape_html(IMAGE_MESSAGES[message].format(**values))}</div>"


def listed(names: Sequence[str]) -> str:
    """The first few names and how many more there are."""
    more = len(names) - _LISTED
    tail = f" {IMAGE_MESSAGES['more_tags'].format(count=more)}" if more > 0 else ""
    return ", ".join(names[:_LISTED]) + tail


def action_button(action: Mapping[str, Any], contents: str, style: str, label: str = "", **attributes: str) -> str:
    """A button; ``contents`` is HTML, ``label`` is read out instead if it is given."""
    data = html.escape(json.dumps(action), quote=True)
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    spoken = f' aria-label="{escape_html(label)}"' if label else ""
    return f'<button type="button" class="{style}" data-pivotal="{data}"{spoken}{more}>{contents}</button>'


def show_cards(page: Mapping[str, Any], opened: str) -> str:
    """A page of images with buttons to turn it.

    Args:
        page: see ``app.image_look.ImageLook.page``.
        opened: name of the image that is open.
    """
    if not page["cards"]:
        return line("none_found", "pivotal-later")
    cards = "".join(f"<li>{_card(card, is_open=card['name'] == opened)}</li>" for card in page["cards"])
    pager = _pager(page)
    return f'{pager}<ul class="pivotal-images">{cards}</ul>{pager if page["pages"] > 1 else ""}'


def _pager(page: Mapping[str, Any]) -> str:
    number = page["number"]
    steps = {"previous": number - 1, "next": number + 1}
    buttons = {
        name: action_button({"do": "page", "number": to}, escape_html(IMAGE_MESSAGES[name]), "pivotal-small-button",
                            **({} if 1 <= to <= page["pages"] else {"disabled": "disabled"}))
        for name, to in steps.items()
    }  # fmt: skip
    text = escape_html(IMAGE_MESSAGES["page"].format(**page))
    return (
        f'<nav class="pivotal-pager">{buttons["previous"]}<span class="pivotal-page" tabindex="-1" role="status">'
        f"{text}</span>{buttons['next']}</nav>"
    )


def _card(card: Mapping[str, Any], *, is_open: bool) -> str:
    marks = [IMAGE_MARKS[mark] for mark in card["marks"]]
    facts = [IMAGE_MESSAGES["tag_count"].format(count=card["tags"])]
    if card["repeats"] != 1:
        facts.append(IMAGE_MESSAGES["repeats"].format(count=f"{card['repeats']:g}"))
    if card["loss_weight"] != 1:
        facts.append(IMAGE_MESSAGES["loss_weight"].format(weight=f"{card['loss_weight']:g}"))
    chips = _chips(card["names"], "pivotal-chip-name") + _chips(marks, "pivotal-chip")
    contents = (
        f"{_framed(card)}"
        f'<span class="pivotal-image-name">{escape_html(card["name"])}</span>'
        f'<span class="pivotal-chips">{chips}</span>'
        f'<span class="pivotal-hint">{escape_html(" · ".join(facts))}</span>'
    )
    label = ", ".join([card["name"], *card["names"], *facts, *marks])
    style = "pivotal-image" + (" pivotal-image-open" if is_open else "")
    return action_button({"do": "open", "image": card["name"]}, contents, style, label)


def _chips(texts: Sequence[str], style: str) -> str:
    return "".join(f'<span class="{style}">{escape_html(text)}</span>' for text in texts)


def _framed(card: Mapping[str, Any], overlay: str = "") -> str:
    """The image with a frame around what is trained."""
    if not card["thumbnail"]:
        return f'<span class="pivotal-no-image">{escape_html(IMAGE_MESSAGES["no_thumbnail"])}</span>'
    frame = ""
    if card["frame"]:
        left, top, width, height = card["frame"]
        place = f"left:{left:.2f}%;top:{top:.2f}%;width:{width:.2f}%;height:{height:.2f}%"
        inside = f'<img src="{overlay}" alt="">' if overlay else ""
        frame = f'<span class="pivotal-frame" style="{place}">{inside}</span>'
    return f'<span class="pivotal-framed"><img src="{card["thumbnail"]}" alt="" loading="lazy">{frame}</span>'


def show_lists(page: Mapping[str, Any], search: Mapping[str, str]) -> str:
    """Concepts, problems and tags with their numbers of images; a click filters by them.

    Args:
        page: see ``app.image_look.ImageLook.page``.
        search: the filter that is in use.
    """
    marks = [(mark, IMAGE_MARKS[mark], count) for mark, count in page["marks"]]
    lists = [
        ("concepts", "concept", [(name, name, count) for name, count in page["concepts"]]),
        ("marks", "mark", marks),
        ("tags", "tag", [(tag, tag, count) for tag, count in page["tags"]]),
    ]
    parts = []
    for heading, field, rows in lists:
        items = "".join(_list_row(field, *row, is_chosen=search[field] == row[0]) for row in rows)
        if field == "tag" and page["more_tags"]:
            items += f"<li>{line('more_tags', 'pivotal-hint', count=page['more_tags'])}</li>"
        if items:
            title = escape_html(IMAGE_MESSAGES[heading])
            parts.append(f'<h4 class="pivotal-heading">{title}</h4><ul class="pivotal-tags">{items}</ul>')
    return "".join(parts)


def _list_row(field: str, value: str, text: str, count: int, *, is_chosen: bool) -> str:
    contents = f"<span>{escape_html(text)}</span><small>{count}</small>"
    action = {"do": field, field: "" if is_chosen else value}
    button = action_button(action, contents, "pivotal-tag", aria_pressed="true" if is_chosen else "false")
    return f"<li>{button}</li>"


def show_details(details: Mapping[str, Any]) -> str:
    """An image and where its caption comes from.

    Args:
        details: see ``app.image_look.ImageLook.details``.
    """
    heading = escape_html(IMAGE_MESSAGES["opened"].format(name=details["name"]))
    lines = [f'<h4 class="pivotal-heading" tabindex="-1">{heading}</h4>']
    if details["bucket"]:
        (width, height), (bucket_width, bucket_height) = details["size"], details["bucket"]
        sizes = {"width": width, "height": height, "bucket_width": bucket_width, "bucket_height": bucket_height}
        lines += [line("size", **sizes), line("frame", "pivotal-hint")]
    if details["overlay"]:
        lines.append(line("overlay", "pivotal-hint"))
    lines += [f"<div>{escape_html(text)}</div>" for text in details["flaws"]]
    if details["source"]:
        lines.append(line("source", source=details["source"]))
    if not details["is_editable"]:
        lines.append(line("not_in_place"))
    if details["encoding"]:
        lines.append(line("recoded_file", encoding=details["encoding"]))
    marks = [IMAGE_MARKS[mark] for mark in details["marks"]]
    chips = f"{_chips(details['names'], 'pivotal-chip-name')}{_chips(marks, 'pivotal-chip')}"
    lines.append(f'<div class="pivotal-chips">{chips}</div>')
    return f'<div class="pivotal-details">{_framed(details, details["overlay"])}<div>{"".join(lines)}</div></div>'


def show_draws(details: Mapping[str, Any]) -> str:
    """The captions of an image as they are trained, with what becomes of each part."""
    if details["no_draws"]:
        return line("no_draws", "pivotal-hint") + f"<div>{escape_html(details['no_draws'])}</div>"
    rows = "".join(_draw(draw) for draw in details["draws"])
    heading = escape_html(IMAGE_MESSAGES["draws"].format(count=len(details["draws"])))
    used = {part["mark"] for draw in details["draws"] for part in draw["parts"]}
    legend = " · ".join(_marked(mark, escape_html(text)) for mark, text in PART_LEGEND.items() if mark in used)
    return (
        f'<h4 class="pivotal-heading">{heading}</h4><div class="pivotal-legend">{legend}</div>'
        f'<table class="pivotal-table">{rows}</table>'
    )


def _draw(draw: Mapping[str, Any]) -> str:
    parts = ", ".join(_part(part) for part in draw["parts"])
    if not draw["text"]:
        parts = f"<i>{escape_html(IMAGE_MESSAGES['empty_caption'])}</i> {parts}"
    tokens = IMAGE_MESSAGES["tokens"].format(tokens=draw["tokens"]) if "tokens" in draw else ""
    step = escape_html(IMAGE_MESSAGES["draw"].format(step=draw["step"]))
    return f"<tr><th>{step}</th><td>{parts}</td><td>{escape_html(tokens)}</td></tr>"


def _part(part: Mapping[str, str]) -> str:
    text = escape_html(part["text"])
    if not part["mark"]:
        return text
    return _marked(part["mark"], text, escape_html(PART_MARKS[part["mark"]].format(written=part["written"])))


def _marked(mark: str, contents: str, title: str = "") -> str:
    element = "del" if mark in ("dropped", "removed") else "span"
    tooltip = f' title="{title}"' if title else ""
    return f'<{element} class="pivotal-part-{mark}"{tooltip}>{contents}</{element}>'


def show_plan(plan: Mapping[str, Any]) -> str:
    """What an edit would do.

    Args:
        plan: see ``app.image_browser.ImageBrowser.preview``.
    """
    lines = [line("would_change", **plan) if plan["files"] else line("nothing_changes")]
    if plan["new"]:
        lines.append(line("would_create", count=plan["new"]))
    recoded = [f"{name} ({encoding})" for name, encoding in plan["recoded"].items()]
    named = {"emptied": plan["emptied"], "recoded": recoded, "shared": plan["shared"], "elsewhere": plan["elsewhere"]}
    lines += [line(message, "pivotal-warning", names=listed(names)) for message, names in named.items() if names]
    for reason, names in plan["skipped"].items():
        lines.append(line("skipped", "pivotal-warning", names=listed(names), reason=reason))
    lines.append(show_changes(plan["examples"]))
    return f'<div class="pivotal-box" role="status">{"".join(lines)}</div>'


def show_changes(examples: Sequence[Mapping[str, str]]) -> str:
    """Captions before and after an edit."""
    rows = [
        f"<tr><th>{escape_html(example['image'])}</th><th>{escape_html(IMAGE_MESSAGES[which])}</th>"
        f'<td class="pivotal-caption">{escape_html(example[which])}</td></tr>'
        for example in examples
        for which in ("before", "after")
    ]
    return f'<table class="pivotal-table">{"".join(rows)}</table>' if rows else ""


def show_history(entries: Sequence[Mapping[str, Any]]) -> str:
    """The edits that can be undone, each with its button.

    Args:
        entries: see ``core.data.caption_undo.UndoEntry``.
    """
    if not entries:
        return line("no_edits", "pivotal-hint")
    rows = []
    for entry in entries:
        text = IMAGE_MESSAGES["entry"].format(**{**entry, "names": listed(entry["files"])})
        undo = escape_html(IMAGE_MESSAGES["undo"])
        button = action_button({"do": "undo", "entry": entry["id"]}, undo, "pivotal-small-button", f"{undo}: {text}")
        rows.append(f"<li>{button} {escape_html(text)}</li>")
    return f'<ul class="pivotal-history">{"".join(rows)}</ul>'


def show_job(job: JobState) -> str:
    """How far the captions of a program are, or what has become of them."""
    if not job.state:
        return ""
    texts = {
        "waiting": IMAGE_MESSAGES["captioning_waits"],
        "working": IMAGE_MESSAGES["captioning"].format(done=job.done, total=job.total),
        "done": IMAGE_MESSAGES["captions_done"].format(files=job.files),
        "stopped": IMAGE_MESSAGES["captions_stopped"].format(files=job.files),
        "failed": IMAGE_MESSAGES["captions_failed"].format(error=job.error, files=job.files),
    }
    kind = "bad" if job.state == "failed" else "plain"
    return f'<div class="pivotal-box pivotal-{kind}" role="status">{escape_html(texts[job.state])}</div>'
