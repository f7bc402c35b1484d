"""What has changed on disk between two readings of a data set."""

from __future__ import annotations

from dataclasses import dataclass

from lib_pivotal.core.data.dataset_report import DatasetReport

__all__ = ["DatasetChanges", "changes_between"]


@dataclass(frozen=True)
class DatasetChanges:
    """Images by what happened to them, with their names for messages.

    Attributes:
        added: images that were not there.
        removed: images that are no longer there.
        redrawn: images whose files have other contents.
        recaptioned: images with other captions.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    redrawn: tuple[str, ...]
    recaptioned: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing has changed."""
        return not (self.added or self.removed or self.redrawn or self.recaptioned)


def changes_between(before: DatasetReport, after: DatasetReport) -> DatasetChanges:
    """Compare two readings of the same data set.

    Args:
        before: the earlier one.
        after: the later one.
    """
    old = {image.path: image for image in before.images}
    new = {image.path: image for image in after.images}
    both = [(old[path], image) for path, image in new.items() if path in old]
    return DatasetChanges(
        tuple(image.shown for path, image in new.items() if path not in old),
        tuple(image.shown for path, image in old.items() if path not in new),
        tuple(image.shown for earlier, image in both if earlier.sha256 != image.sha256),
        tuple(image.shown for earlier, image in both if earlier.caption != image.caption),
    )
