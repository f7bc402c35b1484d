"""Every word of the tab that is not in the settings' schema.

Texts with blanks are templates for ``str.format``; none is put together from pieces, because translations are looked up
by the whole English text.
"""

from __future__ import annotations

__all__ = [
    "ACCORDIONS",
    "BASIC_HEADINGS",
    "BUNDLE_FIELDS",
    "BUNDLE_HEADINGS",
    "BUNDLE_TABLE",
    "BUTTONS",
    "CONCEPT_FIELDS",
    "LABELS",
    "MESSAGES",
    "STATES",
    "TABS",
]

TABS = {"train": "Train", "bundles": "Bundles"}

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
    "bundle_refresh": "Refresh",
    "bundle_verify": "Verify",
    "bundle_rename": "Rename",
    "bundle_remove": "Remove",
    "bundle_merge": "Add its embeddings",
    "bundle_pack": "Pack these files in",
    "bundle_split": "Split into files",
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

BUNDLE_HEADINGS = {
    "result": "The new file",
    "names": "Names in it",
    "more": "More embeddings",
    "apart": "For programs that know no bundles",
}

BUNDLE_FIELDS = {
    "bundle": ("Bundle", "A file of the Lora folder: what is in it is shown below."),
    "bundle_target": ("Write to", "Name in the Lora folder; empty: the old name with a number."),
    "bundle_overwrite": ("Replace an existing file", "Off: a file of this name is left alone, and you are told."),
    "bundle_names": ("Embeddings", "Names to rename (one) or to remove."),
    "bundle_new_name": ("New name", "The word you will type, when one name is changed or one file is packed."),
    "bundle_other": ("Other bundle", "Its embeddings are added; its LoRA is not used."),
    "bundle_files": ("Embedding files", "From the webui's folder of embeddings; the names are the files' own."),
}
"""Field of the part "Bundles" → label and help."""

BUNDLE_TABLE = ("Name", "For", "Vectors", "Length", "Hash")

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
    "stopped_early": "Stopped before the first step, so there is nothing to keep.",
    "log": "Log: {path}",
    "memory": "GPU memory: about {needed} GiB needed beyond the model, {free} GiB free.",
    "memory_saves": " Saving memory, at the price of time.",
    "memory_peak": " Peak: {peak} GiB, the model included.",
    "run_folder": "Run folder: {path}",
    "bundle": "Bundle: {path}",
    "no_words": "Nothing was saved.",
    "plot_title": "Loss: every step (thin) and its running mean (thick)",
    "plot_later": "The loss is drawn here once training runs.",
    "warnings": "Please note",
    "file_is_good": "No problems found.",
    "file_errors": "Problems found:",
    "file_warnings": "It can be used. Please look at this:",
    "written": "Written:",
    "metadata": "Metadata",
    "kind": "This file: {kind}",
    "kind_for": "This file: {kind}, for {family}",
    "lora": "LoRA: rank {ranks}, alpha {alphas}; layers: {layers}",
    "lora_kind": "{kind}, layers: {layers}; read by {read_by}",
    "no_lora": "There is no LoRA in it.",
    "no_embeddings": "There are no embeddings in it.",
}
