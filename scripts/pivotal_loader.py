"""Registers bundle prompts with the webui; everything else is in ``lib_pivotal.host.bundle_prompts``."""

from __future__ import annotations

from modules import script_callbacks

# Imported here and not later: the extension's folder is on sys.path only while this file is being loaded.
from lib_pivotal.app.bundled_names import add_route
from lib_pivotal.host.bundle_prompts import index, install, settings

script_callbacks.on_ui_settings(settings.add_settings)
# By then every extension is loaded, the built-in Lora too, and the page is not built yet.
script_callbacks.on_before_ui(install.install)
script_callbacks.on_app_started(lambda _blocks, app: add_route(app, index.names_of_tag))
script_callbacks.on_script_unloaded(install.uninstall)
