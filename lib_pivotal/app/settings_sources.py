"""Settings from elsewhere: of other programs, and for the example images."""

from __future__ import annotations

from pathlib import Path

from lib_pivotal.app.ports import AppHost
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.user_path import bare_path, check_path
from lib_pivotal.core.errors import ConfigError, PivotalError, Problem
from lib_pivotal.core.importers.found import ImportResult
from lib_pivotal.core.importers.import_settings import import_settings
from lib_pivotal.core.samples.sample_set import sample_settings, write_samples

__all__ = ["import_from", "settings_of_samples"]


def import_from(host: AppHost, path: str) -> ImportResult:
    """The settings of another program as ours; nothing is started or written.

    Args:
        host: the webui.
        path: file or folder on its computer, as the user typed it.

    Raises:
        ConfigError: it cannot be read, or is of no known kind.
    """
    bare = bare_path(path)
    problems = check_path("path", bare)
    if not bare:
        problems = [Problem("path", "error", "No file is given.", "Enter the path of a settings file or a folder.")]
    if problems:
        raise ConfigError(problems)
    return import_settings(Path(bare).expanduser(), host.tokenizer())


def settings_of_samples(host: AppHost) -> TrainConfig:
    """The settings of a first run with the example images, which are written to the folder of the runs.

    Args:
        host: the webui.

    Raises:
        PivotalError: they cannot be written.
    """
    folder = host.data_root() / "sample-images"
    try:
        write_samples(folder)
    except OSError as error:
        message = f"The example images cannot be written to {folder}: {error.strerror or error}."
        raise PivotalError(message, hint="Choose another folder in Settings, Pivotal Tuning.") from error
    return sample_settings(folder, host.family(TrainConfig()))
