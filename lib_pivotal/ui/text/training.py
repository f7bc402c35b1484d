"""Texts of the part in which runs are set up, started and watched."""

from __future__ import annotations

__all__ = [
    "ACCORDIONS",
    "BASIC_HEADINGS",
    "BUTTONS",
    "CONCEPT_TABLE",
    "FIRST_STEPS",
    "LABELS",
    "MESSAGES",
    "STATES",
    "SUBSETS_HELP",
]

BUTTONS = {
    "check": "Check",
    "train": "Train",
    "queue_add": "Add to queue",
    "stop": "Stop and keep",
    "discard": "Discard",
    "restore": "Restore last settings",
    "import": "Import settings",
    "save_now": "Save now",
    "sample_now": "Sample now",
    "samples": "Try it with the example images",
    "copy": "Copy prompt",
    "send": "Send to txt2img",
}

LABELS = {
    "gallery": "Samples",
    "words": "Prompt for this bundle",
    "concepts": "Concepts",
    "subsets": "More folders",
    "preset": "Preset",
    "preset_help": "Fills in settings that suit a kind of data set; nothing is started.",
    "webui": "Webui",
    "path": "Settings of another program",
    "path_help": "A file of kohya's scripts, HCP-Diffusion or OneTrainer, or a folder; fills in the fields below.",
}

SUBSETS_HELP = (
    "One folder per line, then what differs from the settings: "
    "FOLDER | kind=regularization | repeats=2 | always=a, b | captions=txt | masks=alpha"
)

BASIC_HEADINGS = {
    "images": "Images",
    "concepts": "Concepts",
    "output": "Output",
    "training": "Training",
    "lora": "LoRA",
    "samples": "Samples",
}

ACCORDIONS = {
    "images": "Reading images and captions",
    "captions": "Captions at each step",
    "dataset": "Masks, regularization, validation and balance",
    "training": "More training options",
    "lora": "LoRA layers",
    "optimizer": "Optimizer and embeddings",
    "samples": "Preview images",
    "output": "Saving",
    "expert": "Expert",
}

CONCEPT_TABLE = ("Concept", "Images", "Alone", "With others", "Share", "Samples", "Each image is seen")

STATES = {
    "idle": "No training yet.",
    "queued": "Waiting for the webui to finish its current job.",
    "preparing": "Preparing",
    "training": "Training",
    "saving": "Saving",
    "done": "Finished.",
    "stopped": "Stopped. Progress was kept.",
    "discarded": "Discarded. Nothing was kept.",
    "failed": "Training failed.",
}

FIRST_STEPS = (
    ("Images", "Put 10 to 100 images of what is to be learned into a folder, each with a caption in a text file."),
    ("Names", "Choose a name for each character, object or style, and write it into the captions."),
    ("Train", "Click Train. The bundle appears in the Lora folder; its names are words for your prompts."),
)
"""What a first visitor has to do: heading and text of each step."""

MESSAGES = {
    "no_host": "Pivotal Tuning cannot train here.",
    "no_problems": "No problems found. Ready to train.",
    "errors": "Fix these problems first:",
    "only_warnings": "Ready to train, with warnings:",
    "started": "Training has started; its progress is shown on the right.",
    "stopping": "Stopping after the current step; progress is kept.",
    "discarding": "Stopping after the current step; the result will be discarded.",
    "will_save": "A bundle will be saved after the current step.",
    "will_sample": "Preview images will be made after the current step.",
    "no_run": "No training in progress.",
    "restored": "Restored the settings of the last run.",
    "imported": "Filled in the settings from: {kind}. Check them before training.",
    "not_used": "Not used, because they have no meaning here ({count}):",
    "samples_ready": "The settings for sixteen example drawings of a small robot are filled in. Click Train.",
    "nothing_to_restore": "Nothing to restore: no training has been started yet.",
    "preset_used": "The settings of this preset are filled in. {why}",
    "table_title": "{images} images, {steps} steps, {samples} samples",
    "no_concept": "(no concept)",
    "times": "{count} times",
    "times_range": "{fewest} to {most} times",
    "unexpected": "Something went wrong: {error}",
    "unexpected_hint": "See the webui's console for details.",
    "step": "Step {step} of {total}",
    "sample": "step {step}: {prompt}",
    "no_sample": "step {step}: no image",
    "loss": "loss {loss}",
    "pace": "{seconds} s/step",
    "left": "{time} left",
    "is_stopping": "stopping",
    "stopped_early": "Stopped before the first step; there is nothing to keep.",
    "log": "Log: {path}",
    "memory": "GPU memory: about {needed} GiB needed in addition to what was on it, {free} GiB free.",
    "memory_estimate": (
        "GPU memory, including the model: about {training} GiB for training and {encoding} GiB for encoding the "
        "images; {available} GiB are available."
    ),
    "memory_will_save": " Memory-saving mode will be on, which is slower.",
    "memory_saves": " Memory-saving mode is on, which is slower.",
    "memory_peak": " Peak: {peak} GiB including the model.",
    "run_folder": "Run folder: {path}",
    "bundle": "Bundle: {path}",
    "nothing_saved": "Nothing was saved.",
    "warnings": "Warnings ({count})",
    "file_is_good": "No problems found.",
    "file_errors": "Problems found:",
    "file_warnings": "This file can be used, with warnings:",
    "images_are_good": "No problems found in the images and captions.",
    "images_warnings": "The images can be used, with warnings:",
}
