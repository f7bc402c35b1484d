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
    # Without any folder, the missing one is reported.
    has_own = settings.data_folder.strip() or not extra
    own = (Subset(folder=settings.data_folder),) if has_own else ()
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


def field_of(settings: DataSettings, index: int) -> str:
    """Name of the setting that holds the folder of a subset.

    Args:
        settings: of the data set.
        index: its index in :func:`subsets_of`.
    """
    if not settings.data_folder.strip():
        return f"subsets[{index}].folder" if index else "data_folder"
    return f"subsets[{index - 1}].folder" if index else "data_folder"


def mask_field_of(field: str) -> str:
    """Name of the setting that holds the mask folder of a subset; ``field`` is that of its folder."""
    return field.replace("data_folder", "mask_folder").replace("].folder", "].mask_folder")
