"""The folders of a data set, with the data set's own settings filled in."""

from __future__ import annotations

from dataclasses import replace

from lib_pivotal.core.config.data_settings import DataSettings
from lib_pivotal.core.config.subset import REGULARIZATION, Subset

__all__ = ["field_of", "mask_field_of", "subsets_of"]


def subsets_of(settings: DataSettings, extra: tuple[Subset, ...] = ()) -> tuple[Subset, ...]:
    """The image folder and the further folders of a data set.

    Args:
        settings: of the data set.
        extra: its further folders.
    """
    own = (Subset(folder=settings.data_folder),) if _has_own(settings, extra) else ()
    return tuple(
        replace(
            subset,
            captions=subset.captions or settings.caption_source,
            caption_prefix=subset.caption_prefix or settings.caption_prefix,
            caption_suffix=subset.caption_suffix or settings.caption_suffix,
            keep_first=subset.keep_first or settings.keep_first,
            # The whole of a regularization image counts unless its folder says otherwise.
            masks=subset.masks or ("none" if subset.kind == REGULARIZATION else settings.masks),
            mask_folder=subset.mask_folder or settings.mask_folder,
        )
        for subset in (*own, *extra)
    )


def field_of(settings: DataSettings, extra: tuple[Subset, ...], index: int) -> str:
    """Name of the setting that holds the folder of a subset.

    Args:
        settings: of the data set.
        extra: its further folders.
        index: its index in :func:`subsets_of`.
    """
    if not _has_own(settings, extra):
        return f"subsets[{index}].folder"
    return f"subsets[{index - 1}].folder" if index else "data_folder"


def _has_own(settings: DataSettings, extra: tuple[Subset, ...]) -> bool:
    # Without any folder, the missing one is reported.
    return bool(settings.data_folder.strip()) or not extra


def mask_field_of(field: str) -> str:
    """Name of the setting that holds the mask folder of a subset; ``field`` is that of its folder."""
    return field.replace("data_folder", "mask_folder").replace("].folder", "].mask_folder")
