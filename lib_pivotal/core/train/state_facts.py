"""What a state says about its run, and what may have changed when the run continues.

Does not import torch, because the application starts without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_pivotal.core.config.io import to_dict
from lib_pivotal.core.config.old_names import with_new_names
from lib_pivotal.core.config.schema import Concept, Subset, TrainConfig
from lib_pivotal.core.errors import ConfigError, Problem
from lib_pivotal.core.train.resumed import resumed_problem

__all__ = ["MAY_CHANGE", "changed_settings", "compare", "facts_problem"]

MAY_CHANGE = frozenset(
    {
        "checkpoint",
        "cuda_graphs",
        "data_folder",
        "gradient_checkpointing",
        "if_exists",
        "keep_states",
        "mask_folder",
        "memory",
        "cache_to_disk",
        "output_name",
        "sample_cfg",
        "sample_every",
        "sample_negative",
        "sample_prompts",
        "sample_seed",
        "sample_steps",
        "save_every",
        "save_precision",
        "step_bundles",
        "steps",
        "validate_every",
    }
)
"""Settings that do not affect a step, or may be changed on purpose (more steps, a folder that was moved)."""
_RESTORE = "Restore it, or start a new run."


def facts_problem(facts: Mapping[str, Any]) -> str:
    """Why the facts of a state are invalid; empty if they are valid. The file may come from anywhere."""
    for name, kind in (("config", dict), ("bundle_path", str), ("data", str), ("model", str)):
        if not isinstance(facts.get(name), kind):
            return f"{name} is missing from its header or has the wrong type"
    # Earlier releases did not store which files they wrote.
    written = facts.get("written", {})
    if not isinstance(written, dict) or not all(isinstance(value, str) for value in written.values()):
        return "written has the wrong type in its header"
    return resumed_problem(facts)


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Problem]:
    """Find changed settings that affect a step, one problem each.

    Args:
        before: the saved settings.
        after: the current settings, in the same form.
    """
    before, after = _completed(before), _completed(after)
    return [
        Problem(name, "error", f"The run was started with {before.get(name)!r}, not {after.get(name)!r}.", _RESTORE)
        for name in sorted(set(before) | set(after))
        if before.get(name) != after.get(name) and name not in MAY_CHANGE
    ]


def _completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of any release, with settings added since then at their defaults; folders may have been moved."""
    defaults = to_dict(TrainConfig(concepts=(Concept(""),), subsets=(Subset(""),)))
    result = {**defaults, "subsets": [], **with_new_names(settings)}
    for name, fixed in (("concepts", {}), ("subsets", {"folder": "", "mask_folder": ""})):
        new, items = defaults[name][0], result.get(name)
        if isinstance(items, list):
            result[name] = [{**new, **item, **fixed} if isinstance(item, dict) else item for item in items]
    return result


def compare(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that nothing that affects a step has changed since the state was saved.

    Args:
        saved: facts stored in the state.
        now: facts of this run, with the same keys.

    Raises:
        ConfigError: something has changed; lists every difference.
    """
    problems = changed_settings(saved.get("config", {}), now["config"])
    for name, words in (("data", "The images or captions have"), ("model", "The model has")):
        if saved.get(name) != now[name]:
            problems.append(Problem(name, "error", f"{words} changed since the run was started.", _RESTORE))
    if problems:
        raise ConfigError(problems)
