"""One folder of a data set."""

from __future__ import annotations

from dataclasses import dataclass

from lib_pivotal.core.config.setting import setting

__all__ = ["REGULARIZATION", "TRAIN", "VALIDATION", "Subset"]

TRAIN = "train"
REGULARIZATION = "regularization"
VALIDATION = "validation"


@dataclass(frozen=True)
class Subset:
    """One folder of a data set and how it is used; where a value is empty or 0, the data set's own setting counts."""

    folder: str = setting("", "subsets", "basic", "Folder", "Folder with images.")
    kind: str = setting(
        TRAIN,
        "subsets",
        "basic",
        "Kind",
        "train: images to learn. regularization: images without the names, which keep everything else as it is. "
        "validation: images that are never trained, only measured.",
        choices=(TRAIN, REGULARIZATION, VALIDATION),
    )
    repeats: float = setting(
        1.0,
        "subsets",
        "basic",
        "Repeats",
        "How often each image counts; multiplies what multiply.txt or the names of folders say.",
        low=0.0,
        high=1000.0,
        is_low_excluded=True,
    )
    always: tuple[str, ...] = setting(
        (),
        "subsets",
        "basic",
        "Names that always apply",
        "Concept names that are put in front of every caption that does not mention them.",
    )
    captions: str = setting(
        "",
        "subsets",
        "basic",
        "Captions from",
        "Where captions come from; empty: as for the whole data set.",
        choices=("", "auto", "txt", "caption", "json", "folder", "filename", "template"),
    )
    default_caption: str = setting(
        "",
        "subsets",
        "advanced",
        "Caption where there is none",
        "Caption of the images for which none is found.",
    )
    caption_prefix: str = setting(
        "", "subsets", "advanced", "Caption prefix", "Tags in front of each caption of this folder."
    )
    caption_suffix: str = setting(
        "", "subsets", "advanced", "Caption suffix", "Tags after each caption of this folder."
    )
    keep_first: int = setting(
        0,
        "subsets",
        "advanced",
        "Tags to keep in front",
        "The first N tags of a caption stay in front and are never dropped; 0: as for the whole data set.",
        low=0,
        high=1000,
    )
    masks: str = setting(
        "",
        "subsets",
        "basic",
        "Masks",
        "Where masks come from; empty: as for the whole data set, but none for regularization images.",
        choices=("", "none", "alpha", "masklabel", "folder"),
    )
    mask_folder: str = setting(
        "",
        "subsets",
        "advanced",
        "Mask folder",
        "Folder of the masks if they are in a folder; empty: as for the whole data set.",
    )
    subfolders: bool = setting(True, "subsets", "advanced", "Subfolders", "Whether its subfolders belong to it, too.")
    loss_weight: float = setting(
        1.0,
        "subsets",
        "advanced",
        "Loss weight",
        "Multiplies the loss of its images.",
        low=0.0,
        high=100.0,
        is_low_excluded=True,
    )
