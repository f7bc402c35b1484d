"""Settings of all test folders that have none of their own."""

from __future__ import annotations

try:
    import torch
except ImportError:
    # The folders without torch need no settings.
    pass
else:
    # The tests' networks are tiny: threads would only wait for each other.
    torch.set_num_threads(1)
