"""What the buttons of presets and of the settings as text do; inputs and outputs are passed by name."""

from __future__ import annotations

import gradio as gr

from lib_pivotal.app.session import Session
from lib_pivotal.core.config.io import read_json, to_json
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.ui import panels
from lib_pivotal.ui.fields import read_config, show_config
from lib_pivotal.ui.listener import Outputs, Values
from lib_pivotal.ui.text.presets import PRESET_MESSAGES

__all__ = ["PRESET_OUTPUTS", "PresetHandlers"]

PRESET_OUTPUTS = ("notice", "preset", "preset_asked", "preset_replace", "preset_delete_sure")
"""Outputs that the preset buttons may change."""


class PresetHandlers:
    """Every method takes its inputs by name and returns the outputs it changes, by name.

    Args:
        session: knows the presets.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._library = session.presets

    def refresh(self, _values: Values) -> Outputs:
        """List the presets again, and say which files cannot be used."""
        found, problems = self._library.all()
        outputs: Outputs = {"preset": gr.update(choices=[preset.title for preset in found])}
        return {**outputs, "notice": panels.show_problems(problems, purpose="use")} if problems else outputs

    def save(self, values: Values) -> Outputs:
        """Save the settings as a preset, or ask whether to replace the one with this name."""
        name = (values["preset_name"] or "").strip()
        if self._library.exists(name):
            notice = panels.show_message(PRESET_MESSAGES["ask_replace"].format(name=name))
            return {"notice": notice, "preset_asked": name, "preset_replace": gr.update(visible=True)}
        return self._save(values, overwrite=False)

    def replace(self, values: Values) -> Outputs:
        """Replace the preset that the user was asked about."""
        if (values["preset_name"] or "").strip() != values["preset_asked"]:
            return self.save(values)
        return self._save(values, overwrite=True)

    def _save(self, values: Values, *, overwrite: bool) -> Outputs:
        config, problems = read_config(values)
        if any(problem.is_error for problem in problems):
            raise ConfigError(problems)
        preset = self._library.save(values["preset_name"] or "", config, overwrite=overwrite)
        return self._answer("saved", preset.name, chosen=preset.name)

    def delete(self, values: Values) -> Outputs:
        """Ask whether to delete the chosen preset."""
        name = values["preset"] or ""
        if not self._library.is_own(name):
            # Says why.
            self._library.delete(name)
        notice = panels.show_message(PRESET_MESSAGES["ask_delete"].format(name=name))
        return {"notice": notice, "preset_asked": name, "preset_delete_sure": gr.update(visible=True)}

    def delete_sure(self, values: Values) -> Outputs:
        """Delete the preset that the user was asked about."""
        name = values["preset"] or ""
        if name != values["preset_asked"]:
            return self.delete(values)
        self._library.delete(name)
        return self._answer("deleted", name, chosen=None)

    def _answer(self, message: str, name: str, *, chosen: str | None) -> Outputs:
        titles = [preset.title for preset in self._library.all()[0]]
        return {
            "notice": panels.show_message(PRESET_MESSAGES[message].format(name=name), "good"),
            "preset": gr.update(choices=titles, value=chosen),
            "preset_asked": "",
            "preset_replace": gr.update(visible=False),
            "preset_delete_sure": gr.update(visible=False),
        }

    def export(self, values: Values) -> Outputs:
        """Show all settings as text, and what of them cannot be read."""
        config, problems = read_config(values)
        notice = panels.show_problems(problems) if problems else panels.show_message(PRESET_MESSAGES["exported"])
        return {"settings_text": to_json(config), "notice": notice}

    def use_text(self, values: Values) -> Outputs:
        """Fill in the settings of the text, and show what of it cannot be read."""
        text = (values["settings_text"] or "").strip()
        if not text:
            problem = Problem("settings_text", "error", PRESET_MESSAGES["no_text"], PRESET_MESSAGES["no_text_hint"])
            raise ConfigError([problem])
        config, problems = read_json(text)
        outputs = show_config(config)
        notice = panels.show_problems(problems) if problems else panels.show_message(PRESET_MESSAGES["used"], "good")
        return {**outputs, "notice": notice + outputs.get("notice", "")}
