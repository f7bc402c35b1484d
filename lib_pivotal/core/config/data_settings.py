"""The settings of the data set: images, captions, masks, regularization, validation and balance."""

from __future__ import annotations

from dataclasses import dataclass

from lib_pivotal.core.config.setting import setting

__all__ = ["DataSettings"]


@dataclass(frozen=True)
class DataSettings:
    """Everything about the images and captions of a run; :class:`TrainConfig` has these settings, too."""

    data_folder: str = setting(
        "",
        "images",
        "basic",
        "Image folder",
        "Folder with images and a .txt caption next to each; subfolders named N_anything repeat their images N times.",
    )
    resolution: int = setting(
        512,
        "images",
        "basic",
        "Resolution",
        "Images are scaled to about this side length and keep their shape in aspect-ratio buckets. "
        "Use 512 for SD1, 1024 for SDXL.",
        low=64,
        high=2048,
        unit="px",
    )
    flip: bool = setting(
        False,
        "images",
        "basic",
        "Flip images",
        "Also train on mirrored images. Leave off when left and right matter (a scar, a hair parting).",
    )
    shuffle_tags: bool = setting(
        True,
        "images",
        "advanced",
        "Shuffle tags",
        "Shuffle the comma-separated tags of a caption at every step; concept names stay in front.",
    )
    tag_dropout: float = setting(
        0.05,
        "images",
        "advanced",
        "Tag dropout",
        "Chance that a tag is dropped at each step; names are never dropped. "
        "Raise it if prompts only work with the whole caption.",
        low=0.0,
        high=0.9,
    )
    name_only: float = setting(
        0.1,
        "images",
        "advanced",
        "Name-only captions",
        "Chance that a caption is reduced to its concept names at each step, so that the names work on their own.",
        low=0.0,
        high=1.0,
    )
    caption_dropout: float = setting(
        0.03,
        "images",
        "advanced",
        "Caption dropout",
        "Chance that a caption is left empty at each step, which keeps guidance (CFG) working.",
        low=0.0,
        high=0.5,
    )
    cache_to_disk: bool = setting(
        False,
        "images",
        "expert",
        "Cache latents to disk",
        "Store the encoded images in the cache folder next to the runs and reuse them next time.",
    )
    caption_source: str = setting(
        "auto",
        "images",
        "advanced",
        "Captions from",
        "auto takes the first that there is: metadata of kohya's scripts, .txt, .caption, .json, metadata of Hugging "
        "Face, the name of the N_name folder. json means metadata and .json files, filename the name of the image, "
        "template only what the templates say.",
        choices=("auto", "txt", "caption", "json", "folder", "filename", "template"),
    )
    caption_template: str = setting(
        "",
        "images",
        "advanced",
        "Caption templates",
        "Text file with one template per line, such as: a photo of [name], [filewords]. Each step chooses one. "
        "[name] is the concept, [filewords] the caption.",
    )
    caption_encoding: str = setting(
        "",
        "images",
        "advanced",
        "Caption encoding",
        "Encoding of caption files that are not Unicode: cp932 is Japanese, gb18030 Chinese, big5 traditional Chinese, "
        "cp949 Korean, cp1252 Western European; Check shows what the files say in each. Empty expects Unicode.",
        choices=("", "cp932", "gb18030", "cp1252", "cp949", "big5"),
    )
    folder_repeats: str = setting(
        "auto",
        "images",
        "advanced",
        "Folder names are repeats",
        "Whether N_name means that the images in it are repeated N times; auto knows names with a date or a number of "
        "people. A file multiply.txt with a number counts in any case.",
        choices=("auto", "yes", "no"),
    )
    background: str = setting(
        "white",
        "images",
        "advanced",
        "Background",
        "What transparent parts show; mean is the mean color of the visible parts, hidden the colors under them.",
        choices=("white", "black", "gray", "mean", "hidden"),
    )

    # Captions
    caption_prefix: str = setting(
        "",
        "captions",
        "advanced",
        "Caption prefix",
        "Tags in front of each caption, which are never shuffled or dropped. For words without a comma after them, "
        "use a template.",
    )
    caption_suffix: str = setting(
        "",
        "captions",
        "advanced",
        "Caption suffix",
        "Tags after each caption, which are never shuffled or dropped.",
    )
    keep_first: int = setting(
        0,
        "captions",
        "advanced",
        "Tags to keep in front",
        "The first N tags of a caption stay in front and are never dropped; the prefix does not count.",
        low=0,
        high=1000,
    )
    keep_separator: str = setting(
        "|||",
        "captions",
        "advanced",
        "Keep separator",
        "Tags before it stay in front, and tags after a second one stay at the end, as in zog ||| hat, tree ||| night. "
        "Empty gives it no meaning.",
    )
    group_separator: str = setting(
        ";;;",
        "captions",
        "advanced",
        "Group separator",
        "Tags joined by it, as in sky;;;clouds, stay together when tags are shuffled or dropped. "
        "Empty gives it no meaning.",
    )
    random_choices: bool = setting(
        True,
        "captions",
        "advanced",
        "Random choices",
        "{red|blue} in a caption becomes one of the two at each step, and each line of a caption is an alternative; "
        "{{ and }} are braces.",
    )
    drop_tags: tuple[str, ...] = setting(
        (),
        "captions",
        "advanced",
        "Tags to remove",
        "Tags that are removed from all captions, separated by commas. A regular expression stands between slashes, "
        "such as /^(red|blue) hat$/, and is searched in the tag in lower case, with spaces for underscores.",
    )
    protected_tags: tuple[str, ...] = setting(
        (),
        "captions",
        "advanced",
        "Tags never dropped",
        "Tags that tag dropout leaves alone, separated by commas; also regular expressions between slashes.",
    )
    tag_dropout_by_position: bool = setting(
        False,
        "captions",
        "advanced",
        "Drop later tags more",
        "Tag dropout grows from 0 for the first tag to twice its value for the last one.",
    )
    tag_warmup: float = setting(
        0.0,
        "captions",
        "advanced",
        "Tag warm-up",
        "Fraction of the steps over which captions grow from their first tags to all tags; 0 starts with all.",
        low=0.0,
        high=1.0,
    )
    single_name: float = setting(
        0.0,
        "captions",
        "advanced",
        "Single names",
        "Chance that a name-only caption of several concepts names just one of them.",
        low=0.0,
        high=1.0,
    )
    underscores: str = setting(
        "auto",
        "captions",
        "advanced",
        "Underscores",
        "spaces replaces the underscores of tags with spaces, except in names and in emoticons such as ^_^; "
        "auto does so if more than half of the tags of a folder have them.",
        choices=("auto", "keep", "spaces"),
    )
    emphasis: bool = setting(
        False,
        "captions",
        "advanced",
        "Emphasis in captions",
        "(tag:1.2), (tag) and [tag] weigh tags as in a prompt, and \\( is a bracket; off, brackets are plain text.",
    )
    fix_punctuation: bool = setting(
        True,
        "captions",
        "advanced",
        "Full-width commas separate tags",
        "Full-width and ideographic commas in captions count as commas.",
    )
    prune_core_tags: bool = setting(
        True,
        "captions",
        "advanced",
        "Leave out core tags",
        "Captions leave out the core tags of the concepts they mention, so that the names learn what these say.",
    )

    # Data set
    masks: str = setting(
        "none",
        "dataset",
        "advanced",
        "Masks",
        "Which parts of the images count: alpha is their transparency, masklabel a file NAME-masklabel.png, "
        "folder a file of the same name in the mask folder.",
        choices=("none", "alpha", "masklabel", "folder"),
    )
    mask_folder: str = setting(
        "",
        "dataset",
        "advanced",
        "Mask folder",
        "Folder of the masks; it may be inside the image folder, and its files are never read as images.",
    )
    mask_scale: str = setting(
        "linear",
        "dataset",
        "advanced",
        "Mask scale",
        "linear: black 0, white 1. hcp: black 0, medium gray 1, white 5, as HCP-Diffusion reads them.",
        choices=("linear", "hcp"),
    )
    invert_masks: bool = setting(
        False, "dataset", "advanced", "Invert masks", "Black parts count, and white parts do not."
    )
    mask_floor: float = setting(
        0.0,
        "dataset",
        "advanced",
        "Weight outside masks",
        "The least that a part of an image counts; with 0, masked-out parts are not trained at all.",
        low=0.0,
        high=1.0,
    )
    unmasked_share: float = setting(
        0.1,
        "dataset",
        "advanced",
        "Unmasked share",
        "Chance that an image is trained without its mask at a step.",
        low=0.0,
        high=1.0,
    )
    mask_prior: float = setting(
        0.0,
        "dataset",
        "advanced",
        "Keep outside masks",
        "Weight of keeping, outside the masks, what the model predicts without the LoRA; 0 leaves it out. Needs a "
        "third more time where images have masks.",
        low=0.0,
        high=10.0,
    )
    regularization_share: float = setting(
        0.1,
        "dataset",
        "advanced",
        "Regularization share",
        "Share of the samples that come from folders of the kind regularization, if there are any.",
        low=0.0,
        high=0.9,
    )
    regularization_weight: float = setting(
        1.0,
        "dataset",
        "advanced",
        "Regularization weight",
        "Multiplies the loss of regularization images.",
        low=0.0,
        high=100.0,
        is_low_excluded=True,
    )
    regularization_target: str = setting(
        "images",
        "dataset",
        "advanced",
        "Regularization target",
        "images: learn the regularization images. prior: keep what the model predicted for them before the training; "
        "their captions may mention the concepts, whose class then replaces the name.",
        choices=("images", "prior"),
    )
    validation_share: float = setting(
        0.0,
        "dataset",
        "advanced",
        "Validation share",
        "Share of the images of each concept that is never trained, only measured; 0 trains all.",
        low=0.0,
        high=0.5,
    )
    validate_every: int = setting(
        100,
        "dataset",
        "advanced",
        "Validate every",
        "Measure the validation images every N steps, and before the first and after the last one; "
        "0 measures only then.",
        low=0,
        high=100_000,
        unit="steps",
    )
    balance: float = setting(
        0.75,
        "dataset",
        "advanced",
        "Balance of concepts",
        "0 shows every image as often as its repeats say; 1 gives every concept the same share, however few images it "
        "has. It has no effect on a single concept.",
        low=0.0,
        high=1.0,
    )
    balance_cap: float = setting(
        4.0,
        "dataset",
        "advanced",
        "Limit of the balance",
        "The balance shows an image at most about this many times as often, or as rarely, as its repeats say.",
        low=1.0,
        high=100.0,
    )
