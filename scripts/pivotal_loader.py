"""Registers bundle prompts with the webui; everything else is in ``lib_pivotal.host.bundle_prompts``."""

from __future__ import annotations

from modules import script_callbacks

# Imported now: the extension's folder is on sys.path only while this file is being loaded.
from lib_pivotal.app.bundled_names import add_route
from lib_pivotal.host.bundle_prompts import index, install, settings
from lib_pivotal.host.webui.uncond_rows import denoising
from lib_pivotal.host.webui.xyz_axes import add_axes

script_callbacks.on_ui_settings(settings.add_settings)
# At that point every extension, including the built-in Lora, is loaded, but the page is not built yet.
script_callbacks.on_before_ui(install.install)
script_callbacks.on_before_ui(lambda: add_axes(index.names_of_tag))
script_callbacks.on_app_started(lambda _blocks, app: add_route(app, index.names_of_tag))
script_callbacks.on_cfg_denoiser(denoising)
script_callbacks.on_script_unloaded(install.uninstall)
