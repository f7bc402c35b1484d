"""Every word of the tab that is not in the settings' schema.

Texts with blanks are templates for ``str.format``; none is put together from pieces, because translations are looked up
by the whole English text.
"""

from __future__ import annotations

__all__ = [
    "ACCORDIONS",
    "BASIC_HEADINGS",
    "BUTTONS",
    "CONCEPT_FIELDS",
    "LABELS",
    "MESSAGES",
    "STATES",
]

BUTTONS = {
    "check": "Check",
    "train": "Train",
    "stop": "Stop and keep",
    "discard": "Discard",
    "restore": "Restore last settings",
    "save_now": "Save now",
    "sample_now": "Sample now",
    "add_concept": "Add concept",
    "remove_concept": "Remove last concept",
    "copy": "Copy words",
    "send": "Send to txt2img",
}

LABELS = {
    "gallery": "Samples",
    "words": "Words to type",
    "concepts": "Concepts",
    "webui": "Webui",
}

BASIC_HEADINGS = {
    "images": "Images",
    "concepts": "Concepts",
    "output": "Result",
    "training": "Training",
    "lora": "LoRA",
    "samples": "Samples",
}

ACCORDIONS = {
    "images": "Captions and images",
    "training": "More training options",
    "lora": "LoRA layers",
    "optimiser": "Optimiser and embeddings",
    "samples": "Sample pictures",
    "output": "Saving",
    "expert": "Expert",
}

CONCEPT_FIELDS = {
    "name": ("Name {number}", "The new word you will type. Choose one that is no ordinary word: zog_v1."),
    "init_text": ("Start words {number}", "What it is, in words the model knows: small teal robot."),
    "vectors": ("Vectors {number}", "Tokens the name takes; 0: as many as the start words have."),
    "aliases": ("Caption tags {number}", "Tags in the captions that mean this concept, separated by commas."),
    "lr_multiplier": ("Rate factor {number}", "Multiplies the embedding learning rate."),
    "stop_at": ("Freeze at {number}", "Part of the run after which the name is no longer changed."),
}
"""Field of a concept → label and help."""

STATES = {
    "idle": "No run yet.",
    "queued": "Waiting for the webui to finish what it is doing.",
    "preparing": "Preparing",
    "training": "Training",
    "saving": "Saving",
    "done": "Finished.",
    "stopped": "Stopped. What had been trained is kept.",
    "discarded": "Discarded. Nothing was kept.",
    "failed": "The run failed.",
}

MESSAGES = {
    "no_host": "Pivotal Tuning cannot train here.",
    "no_problems": "No problems found. You can train.",
    "errors": "Please correct this first:",
    "only_warnings": "You can train. Please look at this:",
    "started": "Training has started; the right side shows how it goes.",
    "stopping": "The run ends after the step it is in, and what is trained is kept.",
    "discarding": "The run ends after the step it is in, and its result is thrown away.",
    "will_save": "A bundle is written after the step the run is in.",
    "will_sample": "Pictures are made after the step the run is in.",
    "no_run": "No run is on.",
    "restored": "The settings of the run started last are back.",
    "nothing_to_restore": "No run has been started yet, so there is nothing to restore.",
    "too_many_concepts": "The run had more concepts than the tab has rows; the first {count} are shown.",
    "unexpected": "Something went wrong: {error}",
    "unexpected_hint": "The details are in the webui's console.",
    "step": "Step {step} of {total}",
    "sample": "step {step}: {prompt}",
    "loss": "loss {loss}",
    "pace": "{seconds} s a step",
    "left": "{time} left",
    "is_stopping": "stopping",
    "log": "Log: {path}",
    "run_folder": "Run folder: {path}",
    "bundle": "Bundle: {path}",
    "no_words": "Nothing was saved.",
    "plot_title": "Loss: every step (thin) and its running mean (thick)",
    "plot_later": "The loss is drawn here once training runs.",
    "warnings": "Please note",
}
