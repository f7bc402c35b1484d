"""Errors that users read: each says what is wrong and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from lib_pivotal.core.printable import printable, printable_lines

__all__ = [
    "BundleError",
    "ConfigError",
    "DatasetError",
    "HostError",
    "Interrupted",
    "OutOfMemory",
    "PivotalError",
    "Problem",
    "TrainingDiverged",
]


@dataclass(frozen=True)
class Problem:
    """One finding of a check.

    Attributes:
        field: config field, file or folder it concerns, in the user's terms.
        severity: ``"error"`` prevents the start, ``"warning"`` does not.
        message: what is wrong.
        hint: what to do.
    """

    field: str
    severity: str
    message: str
    hint: str

    @property
    def is_error(self) -> bool:
        """Whether this finding prevents the start."""
        return self.severity == "error"

    def __str__(self) -> str:
        """One line: field, message, hint. Whatever came from a file is printable in it."""
        return printable(f"{self.field}: {self.message} {self.hint}".strip(), None)


class PivotalError(Exception):
    """Base of every failure that a user is told about.

    Args:
        message: what is wrong, naming the file or field.
        hint: what to do about it; may be empty only when the message says it all.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        # Messages name files and what is in them, which may hold anything.
        message, hint = printable_lines(message), printable_lines(hint)
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Message and hint in one text."""
        return f"{self.message} {self.hint}".strip()


class ConfigError(PivotalError):
    """The settings or the data set cannot be used; carries every problem at once."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        errors = [problem for problem in problems if problem.is_error]
        count = len(errors)
        head = f"{count} problem{'s' if count != 1 else ''} found before the start:"
        super().__init__("\n".join([head, *(f"- {problem}" for problem in errors)]))


class DatasetError(PivotalError):
    """An image or caption file turned out unusable after the checks had passed."""


class BundleError(PivotalError):
    """A bundle file cannot be read or written."""


class HostError(PivotalError):
    """The host (webui or model library) is in a state in which training is not possible."""


class OutOfMemory(PivotalError):
    """The device ran out of memory.

    Args:
        stage: what was being done ("caching latents", "training step").
        hint: the setting most likely to help.
    """

    def __init__(self, stage: str, *, hint: str) -> None:
        super().__init__(f"The device ran out of memory while {stage}.", hint=hint)
        self.stage = stage


class TrainingDiverged(PivotalError):
    """Several losses or gradients in a row were NaN or infinite; the last good state is kept.

    Args:
        step: the first of these steps.
        hint: what to change.
        what: the values, with a verb.
    """

    def __init__(self, step: int, *, hint: str, what: str = "The loss has been") -> None:
        super().__init__(f"{what} NaN or infinite since step {step}.", hint=hint)
        self.step = step


class Interrupted(PivotalError):
    """The user asked to stop before anything worth keeping existed; not a failure."""
