"""Registers the tab, its settings, API routes and cleanup with the webui; everything else is in ``lib_pivotal``."""

from __future__ import annotations

from modules import script_callbacks

# Imported now: the extension's folder is on sys.path only while this file is being loaded.
from lib_pivotal.app.api import register
from lib_pivotal.app.bundle_library import BundleLibrary
from lib_pivotal.app.session import session_for
from lib_pivotal.host.bundle_prompts.bundle_tools import WebuiBundleTools
from lib_pivotal.host.detect import current_host
from lib_pivotal.host.webui import api_access, folders
from lib_pivotal.ui.tab import build_tab, build_tab_without_host


def _add_tab():
    host, reason = current_host()
    library = BundleLibrary(WebuiBundleTools())
    blocks = build_tab(session_for(host), library) if host is not None else build_tab_without_host(reason, library)
    return [(blocks, "Pivotal Tuning", "pivotal")]


def _add_routes(_blocks, app):
    host, _ = current_host()
    if host is not None and api_access.has_api():
        register(app, session_for(host), api_access.api_credentials(), api_access.is_allowed_origin)


def _stop_run():
    host, _ = current_host()
    if host is not None:
        session_for(host).queue.stop_all()


script_callbacks.on_ui_settings(folders.add_data_folder_setting)
script_callbacks.on_ui_tabs(_add_tab)
script_callbacks.on_app_started(_add_routes)
script_callbacks.on_script_unloaded(_stop_run)
