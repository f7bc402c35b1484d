"""Texts of the part that shows the images of the data set and edits their captions."""

from __future__ import annotations

__all__ = [
    "ALL_IMAGES",
    "ANY_CONCEPT",
    "CORE_TAG_TABLE",
    "EDIT_TITLES",
    "IMAGE_ACTIONS",
    "IMAGE_BUTTONS",
    "IMAGE_FIELDS",
    "IMAGE_HEADINGS",
    "IMAGE_MARKS",
    "IMAGE_MESSAGES",
    "PART_LEGEND",
    "PART_MARKS",
    "TAG_STATES",
]

IMAGE_BUTTONS = {
    "look": "Look at the images",
    "rescan": "Look again",
    "filter": "Filter",
    "clear": "Clear filter",
    "save": "Save caption",
    "close": "Close image",
    "preview": "Preview edit",
    "apply": "Apply edit",
    "find_tags": "Find core tags",
    "update_tags": "Update preview",
    "use_tags": "Use these core tags",
    "caption": "Write captions",
    "stop_captions": "Stop writing",
}

IMAGE_HEADINGS = {
    "edit": "Edit the captions of all images that the filter finds",
    "undo": "Undo edits",
    "tags": "Core tags",
    "missing": "Captions from the webui's own programs",
}

ALL_IMAGES = "all images"
ANY_CONCEPT = "any concept"

IMAGE_FIELDS = {
    "mark": ("Show only", "Images with this problem or property."),
    "concept": ("Concept shown", "Images whose captions mention it, or to which it always applies."),
    "tag": ("Tag shown", "Images whose captions contain this whole tag."),
    "text": ("Text shown", "Images whose caption or file name contains this text."),
    "caption": ("Caption in its file", "Line breaks separate alternatives."),
    "action": ("Edit", "What is done to each caption; nothing is written before Apply edit."),
    "edit_tags": ("Tags to edit", "Separated by commas; each is compared as a whole, ignoring case and underscores."),
    "replacement": ("Replacement", "What replaces these tags; empty removes them."),
    "is_pattern": (
        "Regular expression",
        "Tags to edit is one regular expression, which is searched in each tag when removing or replacing.",
    ),
    "writes_files": (
        "Write caption files",
        "Captions from metadata, folders, file names or settings are copied to .txt files next to their images first.",
    ),
    "replaces_text": (
        "Replace initialization texts",
        "Otherwise only empty initialization texts are filled in.",
    ),
    "program": ("Captioning program", "It runs in the webui's queue, one image at a time."),
    "appends": (
        "Append to captions",
        "Also images with captions get new tags at the end; otherwise only images without a caption. "
        "Nothing is overwritten.",
    ),
}
"""Field → label and help."""

IMAGE_ACTIONS = {
    "add_front": "Add tags in front",
    "add_end": "Add tags at the end",
    "remove": "Remove tags",
    "replace": "Replace tags",
    "dedupe": "Remove repeated tags",
    "concepts_first": "Put concepts first",
}

EDIT_TITLES = {
    "add_front": "Added in front: {tags}",
    "add_end": "Added at the end: {tags}",
    "remove": "Removed: {tags}",
    "replace": "Replaced {tags} with {replacement}",
    "dedupe": "Removed repeated tags",
    "concepts_first": "Put concepts first",
    "caption": "Edited the caption of {image}",
    "program": "Captions from {program}",
}
"""Edit → how the list of edits describes it."""

IMAGE_MARKS = {
    "unusable": "unusable",
    "no caption": "no caption",
    "no concept": "no concept",
    "tiny": "too small to train on",
    "small": "will be enlarged",
    "copy": "has a copy",
    "transparent": "transparent",
    "mask": "has a mask",
    "caption from elsewhere": "caption from elsewhere",
    "generation data": "contains generation data",
    "regularization": "regularization",
    "validation": "validation",
}

PART_MARKS = {
    "name": "name",
    "alias": "name; in the caption: {written}",
    "kept": "always kept",
    "tail": "always at the end",
    "dropped": "dropped in this draw",
    "removed": "never trained: core tag or tag to remove",
}
"""What becomes of a part of a caption."""

PART_LEGEND = {
    "name": "name",
    "alias": "name instead of a caption tag",
    "kept": "always kept",
    "tail": "always at the end",
    "dropped": "dropped in this draw",
    "removed": "core tag or tag to remove",
}

CORE_TAG_TABLE = ("Use", "Tag", "Class", "Alone", "Elsewhere", "Removed from", "")

TAG_STATES = {"ticked": "suggested", "asked": "your choice", "never": "changes from image to image"}

IMAGE_MESSAGES = {
    "first": (
        'Shows the images of the settings on the tab "Train a bundle", with their captions as they will be trained.'
    ),
    "page": "Page {number} of {pages}: {found} of {total} images. Click one to see its caption and how it is trained.",
    "none_found": "No image matches the filter.",
    "previous": "Previous page",
    "next": "Next page",
    "tags": "Tags",
    "concepts": "Concepts",
    "marks": "Problems and properties",
    "more_tags": "and {count} more",
    "no_thumbnail": "cannot be shown",
    "tag_count": "tags: {count}",
    "repeats": "{count} times",
    "loss_weight": "loss weight {weight}",
    "size": "{width} × {height} px, trained at {bucket_width} × {bucket_height} px",
    "frame": "The frame shows what is trained.",
    "overlay": "Red parts are left out by the mask.",
    "source": "Caption from: {source}",
    "not_in_place": "This caption does not come from a text file of this image. Saving writes it to a new .txt file.",
    "recoded_file": "The file is stored as {encoding}; saving stores it as UTF-8.",
    "draws": "As trained: draws of {count} steps",
    "no_draws": "Captions as trained cannot be shown:",
    "draw": "Step {step}",
    "tokens": "{tokens}/75 tokens",
    "empty_caption": "(empty caption)",
    "opened": "Image {name}",
    "saved": "Saved the caption of {name}.",
    "caption_same": "The caption is unchanged.",
    "nothing_changes": "Nothing changes.",
    "would_change": "Files that would change: {files}. Captions that stay as they are: {unchanged}.",
    "would_create": "New files among them: {count}.",
    "emptied": "These captions lose all their tags: {names}",
    "recoded": "These files are not UTF-8 and would be stored as UTF-8: {names}",
    "shared": "Other images use these captions, too: {names}",
    "skipped": "Left out: {names}. {reason}",
    "elsewhere": "Left out, because their captions come from metadata, folders, file names or settings: {names}. "
    "Turn on Write caption files to copy them to .txt files.",
    "applied": "Files changed: {files}. The edit can be undone below.",
    "before": "before",
    "after": "after",
    "no_plan": "Preview the edit first.",
    "no_edits": "There are no edits to undo.",
    "undo": "Undo",
    "entry": "{time} · {title} · files: {count} ({names})",
    "undone": "Files restored: {count}.",
    "refused": "These files have changed since and stay as they are: {names}",
    "nothing_new": "Nothing has changed on disk.",
    "added": "New images: {names}",
    "removed": "Images that are gone: {names}",
    "redrawn": "Images whose pixels have changed: {names}",
    "recaptioned": "Images whose captions have changed: {names}",
    "no_tags": "No core tags can be suggested.",
    "concept_tags": "{name}: images {images}, alone in {alone}",
    "init_text": "Initialization text: {text}",
    "no_init_text": "Initialization text: none",
    "own_text": "Current initialization text, which is kept: {text}",
    "look_tags": "{name}: images {count} ({tags})",
    "examples": "Captions before and after",
    "tag_removed": "captions: {count}",
    "tags_used": 'The core tags are in the settings on the tab "Train a bundle" now. Files were not changed.',
    "tags_first": "Find core tags first.",
    "use_tag": "Use {tag} as a core tag of {name}",
    "download": "{program} downloads its model of about {size} if it is not there yet.",
    "captioning": "Writing captions: {done} of {total}",
    "captioning_waits": "Waiting for the webui to finish its current job.",
    "captions_done": "Caption files written: {files}. They can be undone above.",
    "captions_stopped": "Stopped. Caption files written: {files}. They can be undone above.",
    "captions_failed": "{error} Caption files written before that: {files}.",
    "no_images_left": "All images have captions.",
}
