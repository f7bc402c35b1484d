"""Errors that users read: each says what is wrong and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lib_pivotal.core.printable import printable, printable_lines

__all__ = [
    "BundleError",
    "ConfigError",
    "DatasetError",
    "HostError",
    "Interrupted",
    "NameTaken",
    "OutOfMemory",
    "PivotalError",
    "Problem",
    "Severity",
    "TrainingDiverged",
]


Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """One finding of a check.

    Attributes:
        field: the setting, file or folder that is affected, as the user knows it.
        severity: ``"error"`` prevents the start, ``"warning"`` does not.
        message: what is wrong.
        hint: what to do.
    """

    field: str
    severity: Severity
    message: str
    hint: str

    @property
    def is_error(self) -> bool:
        """Whether this problem prevents the start."""
        return self.severity == "error"

    def __str__(self) -> str:
        """One line: field, message, hint. Text from files is made printable."""
        return printable(f"{self.field}: {self.message} {self.hint}".strip(), None)


class PivotalError(Exception):
    """Base class of all errors that are reported to the user.

    Args:
        message: what is wrong, naming the file or field.
        hint: what to do about it; may be empty only if the message is sufficient.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        # Messages contain names and contents of files, which may be anything.
        message, hint = printable_lines(message), printable_lines(hint)
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Message and hint in one text."""
        return f"{self.message} {self.hint}".strip()


class ConfigError(PivotalError):
    """The settings or the dataset cannot be used; contains all problems."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        errors = [problem for problem in problems if problem.is_error]
        count = len(errors)
        head = f"{count} problem{'s' if count != 1 else ''} found:"
        super().__init__("\n".join([head, *(f"- {problem}" for problem in errors)]))


class DatasetError(PivotalError):
    """An image or caption file turned out to be unusable after the checks had passed."""


class BundleError(PivotalError):
    """A bundle file cannot be read or written."""


class NameTaken(BundleError):
    """Another file has the name, and it may be replaced only if the user says so."""


class HostError(PivotalError):
    """The host (webui or model library) is in a state that does not allow training."""


class OutOfMemory(PivotalError):
    """The device ran out of memory.

    Args:
        stage: what was being done ("encoding images", "training").
        hint: the settings most likely to help.
    """

    def __init__(self, stage: str, *, hint: str) -> None:
        super().__init__(f"The device ran out of memory while {stage}.", hint=hint)
        self.stage = stage


class TrainingDiverged(PivotalError):
    """Several losses or gradients in a row were NaN or infinite; the last good state is kept.

    Args:
        step: the first of these steps.
        hint: what to change.
        what: beginning of the message: which values, with a verb.
    """

    def __init__(self, step: int, *, hint: str, what: str = "The loss has been") -> None:
        super().__init__(f"{what} NaN or infinite since step {step}.", hint=hint)
        self.step = step


class Interrupted(PivotalError):
    """The user stopped the run before there was anything to keep; not a failure."""
