"""Texts of the presets and of the settings as text."""

from __future__ import annotations

__all__ = ["PRESET_BUTTONS", "PRESET_FIELDS", "PRESET_HEADING", "PRESET_MESSAGES"]

PRESET_HEADING = "Save, export or import settings"

PRESET_BUTTONS = {
    "presets_refresh": "Refresh presets",
    "preset_save": "Save preset",
    "preset_replace": "Yes, replace the preset",
    "preset_delete": "Delete preset",
    "preset_delete_sure": "Yes, delete the preset",
    "settings_export": "Export settings",
    "settings_use": "Use this text",
}

PRESET_FIELDS = {
    "preset_name": (
        "Name of the new preset",
        "A preset keeps numbers, switches and choices; never paths, names, prompts or tags.",
    ),
    "settings_text": (
        "Settings as text",
        "All settings as JSON, as in a run's config.json. Files of other programs are read by the field above.",
    ),
}

PRESET_MESSAGES = {
    "saved": "The preset {name} is saved.",
    "ask_replace": "There is already a preset {name}. Replace it?",
    "ask_delete": "Delete the preset {name}?",
    "deleted": "The preset {name} is deleted.",
    "exported": "These are all settings of the tab. Copy the text to keep or share it.",
    "used": "The settings in the text are filled in.",
    "no_text": "There is no text.",
    "no_text_hint": "Paste settings, or click Export settings.",
}
