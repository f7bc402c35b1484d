"""What must hold for bundles in a webui, each case as a function that fails where it does not.

Every case runs twice: with our extension, where it must hold, and in the webui alone, where each says from which
version to which it is known not to hold.
"""

from __future__ import annotations

from tests.e2e.bundle_cases import checkpoints, collisions, files, jobs, page, prompts, second_pass
from tests.e2e.bundle_cases.bench import RESULTS, Bench, Case, cases_of

__all__ = ["CASES", "RESULTS", "Bench", "Case"]

# The cases with checkpoints come last: they confuse 1.6.1.
_MODULES = (prompts, collisions, files, second_pass, jobs, page, checkpoints)
CASES: list[Case] = [case for module in _MODULES for case in cases_of(module)]
"""In the order in which they run."""
