"""Texts of the bundle tools."""

from __future__ import annotations

__all__ = ["BUNDLE_BUTTONS", "BUNDLE_FIELDS", "BUNDLE_HEADINGS", "BUNDLE_MESSAGES", "BUNDLE_TABLE"]

BUNDLE_BUTTONS = {
    "bundle_refresh": "Refresh",
    "bundle_verify": "Verify",
    "bundle_rename": "Rename",
    "bundle_remove": "Remove",
    "bundle_merge": "Add its embeddings",
    "bundle_pack": "Add embedding files",
    "bundle_split": "Split into files",
}

BUNDLE_HEADINGS = {
    "result": "Save as",
    "names": "Embeddings in this bundle",
    "more": "Add embeddings",
    "apart": "For programs that cannot read bundles",
}

BUNDLE_FIELDS = {
    "bundle": ("Bundle", "A file from the Lora folder; its contents are shown below."),
    "bundle_target": ("File name", "Name in the Lora folder; if empty, the old name with a number is used."),
    "bundle_overwrite": ("Overwrite existing file", "If off, existing files are not overwritten."),
    "bundle_names": ("Embeddings", "Select one to rename it, or several to remove them."),
    "bundle_new_name": ("New name", "The word to type in prompts, when you rename an embedding or add a single file."),
    "bundle_other": ("Other bundle", "Its embeddings are added; its LoRA is not used."),
    "bundle_files": (
        "Embedding files",
        "From the webui's embeddings folder; each file's name becomes the embedding's name.",
    ),
}
"""Field of the bundle tools → label and help."""

BUNDLE_TABLE = ("Name", "Model", "Vectors", "Norms", "Hash")

BUNDLE_MESSAGES = {
    "written": "Saved:",
    "metadata": "Metadata",
    "kind": "This file: {kind}",
    "kind_for": "This file: {kind}, for {family}",
    "lora": "{kind}: rank {ranks}, alpha {alphas}; layers: {layers}; read by {read_by}",
    "mixed_lora": "LoRA: rank {ranks}, alpha {alphas}; layers: {layers}",
    "lora_kind": "{kind}, layers: {layers}; read by {read_by}",
    "no_lora": "It contains no LoRA.",
    "no_embeddings": "It contains no embeddings.",
    "core_tags": "Core tags of {name}: {tags}",
}
