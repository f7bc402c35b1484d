"""Makes the bundle of an earlier step the file that the run was for."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from lib_pivotal.core.bundle.file import open_bundle, write_changed
from lib_pivotal.core.bundle.metadata import BUNDLE_KEY, changed_metadata
from lib_pivotal.core.bundle.negative_lora import negative_path
from lib_pivotal.core.errors import BundleError, ConfigError, NameTaken, Problem
from lib_pivotal.core.printable import printable
from lib_pivotal.core.train.run_folder import step_bundle_path
from lib_pivotal.core.train.step_bundles import read_own_files, step_bundles

__all__ = ["choose_step"]

logger = logging.getLogger("pivotal.chosen_step")


def choose_step(run: Path, bundles: Path, step: int, *, overwrite: bool = False) -> Path:
    """Write a copy of a numbered bundle under the final name; the metadata says which step was chosen.

    If the file with that name is the run's own last step, it is kept as a numbered bundle in the run folder first.

    Args:
        run: the run folder.
        bundles: folder of the bundles.
        step: one of :func:`lib_pivotal.core.train.step_bundles.step_bundles`.
        overwrite: whether to replace a file that this run did not write, or that was changed since.

    Returns:
        The final file.

    Raises:
        ConfigError: the run has no bundle of this step.
        NameTaken: another file has the final name.
        BundleError: the numbered bundle was changed, or a file cannot be read or written.
    """
    own = read_own_files(run, bundles)
    known = step_bundles(run, bundles)
    if step not in known or own.bundle_name is None:
        steps = ", ".join(map(str, sorted(known))) or "none"
        raise ConfigError([Problem("step", "error", f"There is no bundle of step {step}.", f"There are: {steps}.")])
    source = known[step]
    if source.parent == bundles and not own.has(source):
        text = f"{printable(source.name)} was changed after this run wrote it."
        raise BundleError(text, hint="Choose another step, or rename the file yourself.")
    target = bundles / f"{own.bundle_name}.safetensors"
    for path in (target, *([negative_path(target)] if negative_path(source).is_file() else [])):
        if not own.has(path) and os.path.lexists(path) and not overwrite:
            text = f"{printable(path.name)} is not from this run, or was changed after it."
            raise NameTaken(text, hint="Allow replacing it, or move it away.")
    if own.has(target):
        _keep(target, run, known)
    _copy(source, target, {"chosen_step": step})
    own.claim(target, target)
    if negative_path(source).is_file():
        _copy(negative_path(source), negative_path(target), {"chosen_step": step})
        own.claim(negative_path(target), negative_path(target))
    return target


def _keep(final: Path, run: Path, known: Mapping[int, Path]) -> None:
    """Copy the final file to a numbered one, unless it is a copy of one or there is one of that step."""
    with open_bundle(final) as file:
        metadata = dict(file.metadata)
    step = metadata.get("ss_steps", "")
    if "chosen_step" in _own_metadata(metadata) or not (step.isascii() and step.isdecimal()) or int(step) in known:
        return
    kept = step_bundle_path(run, final.stem, int(step))
    kept.parent.mkdir(exist_ok=True)
    _copy(final, kept, {})
    if negative_path(final).is_file():
        _copy(negative_path(final), negative_path(kept), {})
    logger.info("%s is kept as %s", final.name, kept)


def _copy(source: Path, target: Path, facts: Mapping[str, int]) -> None:
    with open_bundle(source) as file:
        metadata = changed_metadata(file.metadata, source.stem, target.stem)
        metadata[BUNDLE_KEY] = json.dumps({**_own_metadata(metadata), **facts}, ensure_ascii=False)
        write_changed(target, file, {key: key for key in file.entries}, {}, metadata)


def _own_metadata(metadata: Mapping[str, str]) -> dict[str, object]:
    try:
        values = json.loads(metadata.get(BUNDLE_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
