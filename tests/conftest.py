"""Settings of all test folders that have none of their own."""

from __future__ import annotations

import logging
import os

import pytest

# Nothing here survives a power failure, and a busy disk would make every test wait.
os.fsync = lambda _file: None


def pytest_configure(config: pytest.Config) -> None:
    """Set up torch for tiny networks, except in a process that only hands tests to others."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    try:
        import torch
    except ImportError:
        # The folders without torch need no settings.
        return
    # Threads would only wait for each other.
    torch.set_num_threads(1)
    # Three times per test, pytest attaches a handler to each logger that does not propagate: torch has 40 of them.
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.propagate = True
