"""Every problem that can be found before training starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_pivotal.core.bundle.forge_limit import MAX_KEYS_ON_FORGE
from lib_pivotal.core.bundle.names import check_file_name
from lib_pivotal.core.bundle.negative_names import check_trained_names
from lib_pivotal.core.config.negative import has_negatives, trained_embeddings
from lib_pivotal.core.config.schema import TrainConfig, concept_field_info, field_info, subset_field_info
from lib_pivotal.core.config.shown import shown
from lib_pivotal.core.config.user_path import bare_path, check_path
from lib_pivotal.core.core_tags.findings import core_tag_problems
from lib_pivotal.core.data.bucket_image import KeptImages
from lib_pivotal.core.data.caption_tags import plain_words
from lib_pivotal.core.data.dataset_report import DatasetReport, read_dataset
from lib_pivotal.core.data.findings import dataset_problems
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.families import CHUNK_TOKENS, FAMILIES, Family
from lib_pivotal.core.printable import printable
from lib_pivotal.core.train.concept_table import ConceptTable, concept_table, table_problems
from lib_pivotal.core.train.memory_estimate import DeviceMemory, MemoryEstimate, estimate_memory, memory_problems
from lib_pivotal.core.train.output_check import ValuesPerRank, check_output
from lib_pivotal.core.train.resumed import Resumed

__all__ = ["Checked", "check", "check_schedule", "check_settings", "family_hints", "with_parse_problems"]

_MIN_TIMESTEP_SPAN = 0.01
_DEFAULTS = TrainConfig()
_ZERO_TERMINAL_BELOW = 1e-5
"""The last value of a schedule with zero terminal SNR is below this."""


@dataclass(frozen=True)
class Checked:
    """Result of a check; passed on to the training so that nothing is checked twice.

    Attributes:
        problems: errors and warnings.
        dataset: contents of the data folder.
        knew_tokens: whether a tokenizer was available; without one the check of names is incomplete.
        table: what each concept gets; None if the settings are invalid or there are no images.
        memory: estimated GPU memory; None if there is no table, or the host does not know its GPU or the model.
    """

    problems: list[Problem]
    dataset: DatasetReport
    knew_tokens: bool
    table: ConceptTable | None = None
    memory: MemoryEstimate | None = None

    @property
    def has_errors(self) -> bool:
        """Whether any problem prevents the start."""
        return any(problem.is_error for problem in self.problems)


def check(
    config: TrainConfig,
    *,
    bundles: Path,
    taken_names: Mapping[str, str],
    tokenizer: Callable[[str], list[int]] | None = None,
    run_root: Path | None = None,
    per_rank: ValuesPerRank | None = None,
    dataset: DatasetReport | None = None,
    keeps_images: bool = False,
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    family: str = "",
    processes: int = 1,
    resumed: Resumed | None = None,
    memory: DeviceMemory | None = None,
) -> Checked:
    """Find all problems of a run at once: settings, names, dataset, output.

    Args:
        config: the settings.
        bundles: output folder of the bundle.
        taken_names: installed embeddings: lower-case name → source.
        tokenizer: text → token ids; None skips the checks that need it.
        run_root: parent folder of the runs; None for the output folder.
        per_rank: needed to estimate the disk space; None skips that check.
        dataset: result of an earlier check in the same start; None reads the data folder.
        keeps_images: keep decoded images for encoding, as far as memory allows, because training follows.
        cache: folder that remembers which images were decoded before; None decodes all.
        progress: called with (done, total) images while they are read.
        family: family of the model, see ``core.families``; empty if it is not known.
        processes: number of processes that train together.
        resumed: what a resumed run keeps from its start; None for a new run.
        memory: sizes of the GPU and the model; None if they are not known.
    """
    problems = check_settings(config)
    is_valid = not any(problem.is_error for problem in problems)
    problems += check_trained_names(config.concepts, taken=taken_names, tokenizer=tokenizer)
    if tokenizer is not None:
        problems += _check_init_texts(config, tokenizer)
    problems += check_file_name(config.output_name)
    problems += _check_layers(config, family)
    if is_valid:
        problems += _check_optimizer(config)
    if config.keep_names and not config.start_from:
        text = "It keeps names of the bundle that training starts from, and there is none."
        problems.append(Problem("keep_names", "error", text, "Set Start from weights, or set this to 0."))
    if config.start_from and resumed is None:
        from lib_pivotal.core.train.start_from import check_start_from  # noqa: PLC0415  (imports torch)

        problems += check_start_from(config, family, tokenizer)
    if dataset is None:
        if any(problem.is_error for problem in problems):
            # Nothing follows, so nothing is kept or written.
            keeps_images, cache = False, None
        kept = KeptImages(config.resolution, background=config.background) if keeps_images else None
        dataset = read_dataset(config, kept=kept, cache=cache, progress=progress)
    table = None
    if is_valid and dataset.usable:
        table = concept_table(config, dataset.usable, family, processes=processes, resumed=resumed)
    problems += check_output(
        bundles,
        run_root or bundles,
        config,
        per_rank=per_rank,
        steps=table.steps if table is not None else config.steps,
        image_count=len(dataset.usable),
    )
    problems += _folder_spelling(config.data_folder) or dataset_problems(dataset, config, tokenizer)
    problems += table_problems(table) if table is not None else []
    problems += core_tag_problems(config, dataset.usable)
    estimate = None
    if table is not None and memory is not None:
        estimate = estimate_memory(config, dataset.usable, memory)
        problems += memory_problems(estimate, memory.smaller_storage) if estimate is not None else []
    return Checked(problems, dataset, tokenizer is not None, table, estimate)


def _check_layers(config: TrainConfig, family: str) -> list[Problem]:
    """Check that the model has the blocks that are to be trained."""
    layers = config.lora_layers
    owners = [item for item in FAMILIES.values() if layers in item.block_layers]
    if not family or not owners or layers in FAMILIES[family].block_layers or not config.rank:
        return []
    titles = " and ".join(item.title for item in owners)
    text = f"Only {titles} has {layers} blocks, and the model is {FAMILIES[family].title}."
    return [Problem("lora_layers", "error", text, "Choose other layers, or load another model.")]


def _check_optimizer(config: TrainConfig) -> list[Problem]:
    """Check that the LoRA's optimizer is installed and works; without a choice nothing is looked for."""
    if (config.optimizer, config.optimizer_args.strip()) == (_DEFAULTS.optimizer, ""):
        return []
    lrs = {"unet_lr": config.unet_lr} if config.rank or config.conv_rank else {}
    if config.text_encoder_rank:
        lrs["text_encoder_lr"] = config.text_encoder_lr
    if not lrs:
        text = "It trains the LoRA, and this run has none; embeddings always use AdamW."
        return [Problem("optimizer", "warning", text, f"Set it to {_DEFAULTS.optimizer}, or give the LoRA a rank.")]
    from lib_pivotal.core.optim.trial import optimizer_problems  # noqa: PLC0415  (imports torch)

    limits_change = config.max_weight_change > 0
    return optimizer_problems(
        config.optimizer, config.optimizer_args, lrs, config.weight_decay, limits_change=limits_change
    )


def _folder_spelling(data_folder: str) -> list[Problem]:
    bare = bare_path(data_folder)
    return check_path("data_folder", bare) if bare else []


def with_parse_problems(parse_problems: Sequence[Problem], found: Sequence[Problem]) -> list[Problem]:
    """Join the problems of :func:`lib_pivotal.core.config.io.read_dict` with those that the checks found elsewhere.

    Where a value could not be read, its default was checked instead; problems of that default are dropped.
    """
    reported = {problem.field for problem in parse_problems}
    return [
        *parse_problems,
        *(item for item in found if not reported & {item.field, item.field.partition("].")[0] + "]"}),
    ]


def check_settings(config: TrainConfig) -> list[Problem]:
    """Find values out of range, unknown choices, and settings that contradict each other."""
    problems = []
    for name, info in field_info().items():
        problems += _check_value(name, getattr(config, name), info)
    problems += _check_concepts(config)
    for index, subset in enumerate(config.subsets):
        for name, info in subset_field_info().items():
            problems += _check_value(f"subsets[{index}].{name}", getattr(subset, name), info)
    has_lora = config.rank or config.conv_rank or config.text_encoder_rank
    if not config.concepts and not has_lora:
        problems.append(
            Problem("concepts", "error", "There is nothing to train.", "Add a concept, or give the LoRA a rank.")
        )
    if has_lora and config.alpha == 0 and config.lora_kind not in ("lokr", "dora"):
        problems.append(Problem("alpha", "error", "With alpha 0 the LoRA does nothing.", "Use half the rank."))
    problems += _check_dora(config) if has_lora and config.lora_kind == "dora" else []
    if config.negative_rank and not any(problem.field == "negative_rank" for problem in problems):
        problems += _check_negative_lora(config)
    has_range = not any(problem.field in ("min_timestep", "max_timestep") for problem in problems)
    if has_range and config.max_timestep - config.min_timestep < _MIN_TIMESTEP_SPAN:
        text = f"Nothing is between the noise levels {config.min_timestep:g} and {config.max_timestep:g}."
        problems.append(Problem("max_timestep", "error", text, "Use 1, or a value above min_timestep."))
    return problems


def _check_negative_lora(config: TrainConfig) -> list[Problem]:
    problems = []
    if not has_negatives(config.concepts):
        text = "A negative LoRA is trained together with negative embeddings, and there are none."
        problems.append(Problem("negative_rank", "error", text, "Give a concept negative vectors, or set it to 0."))
    if config.lora_kind == "dora":
        text = "A DoRA changes the weights themselves, so it cannot act on the negative prompt alone."
        problems.append(Problem("negative_rank", "error", text, "Set it to 0, or choose another kind of LoRA."))
    return problems


def _check_dora(config: TrainConfig) -> list[Problem]:
    """Say who can use a DoRA, and what does not go with it."""
    text = "A1111 before 1.9 ignores the magnitudes of a DoRA and makes different images without a message."
    hint = "Use lora if the file is for others; A1111 from 1.9 on, Forge and ComfyUI compute it as trained."
    problems = [Problem("lora_kind", "warning", text, hint)]
    if config.max_weight_change:
        text = "The change of a DoRA is not a product of matrices, so it cannot be scaled down."
        problems.append(Problem("max_weight_change", "error", text, "Set it to 0, or use another kind of LoRA."))
    return problems


def check_schedule(config: TrainConfig, alphas_cumprod: Sequence[float]) -> list[Problem]:
    """Find settings that contradict the model's noise schedule.

    Args:
        config: the settings.
        alphas_cumprod: of all timesteps, the noisiest last.
    """
    if not config.noise_offset or alphas_cumprod[-1] > _ZERO_TERMINAL_BELOW:
        return []
    text = "This model is used with zero terminal SNR, which makes dark and bright images without a noise offset."
    return [Problem("noise_offset", "error", text, "Set it to 0.")]


def _check_value(field: str, value: Any, info: Mapping[str, Any]) -> list[Problem]:
    """Check that a value is one of its choices and within its limits."""
    low, high, choices = info["low"], info["high"], info["choices"]
    if choices and value not in choices and not info["allows_others"]:
        return [Problem(field, "error", f"{shown(value)} is not a valid choice.", f"Use one of {', '.join(choices)}.")]
    if low is None or (low < value <= high) or (value == low and not info["is_low_excluded"]):
        return []
    allowed = f"a number above {low:g}, up to {high:g}" if info["is_low_excluded"] else f"{low:g} to {high:g}"
    return [Problem(field, "error", f"{shown(value)} is out of range.", f"Use {allowed}.")]


def family_hints(family: str, native_resolution: int, config: TrainConfig) -> list[Problem]:
    """Warn about settings that work badly with the loaded model.

    Args:
        family: name of the model's family, see ``core.families``.
        native_resolution: side length in px that the model was trained for.
        config: the settings.
    """
    kind = FAMILIES[family]
    problems = _key_hints(kind, len(trained_embeddings(config.concepts)))
    if not 0.7 * native_resolution <= config.resolution <= 1.5 * native_resolution:
        text = f"The model was made for about {native_resolution} px; quality drops at {config.resolution} px."
        problems.append(Problem("resolution", "warning", text, f"Use {native_resolution}, or a little less."))
    if config.concepts and config.embedding_lr > 2 * kind.usual_embedding_lr:
        text = f"{config.embedding_lr:g} is a high learning rate for embeddings of {kind.title}."
        problems.append(Problem("embedding_lr", "warning", text, f"{kind.usual_embedding_lr:g} is usual."))
    if config.clip_skip > 1 and not kind.allows_clip_skip:
        text = f"{kind.title} always uses the text encoder layer it was trained with; clip skip has no effect."
        problems.append(Problem("clip_skip", "warning", text, "Leave it at 1."))
    return problems


def _key_hints(kind: Family, concept_count: int) -> list[Problem]:
    """Warn if Forge without this extension would reject a bundle with this many embeddings, see ``forge_limit``."""
    keys = concept_count * len(kind.text_encoders)
    if keys <= MAX_KEYS_ON_FORGE:
        return []
    most = MAX_KEYS_ON_FORGE // len(kind.text_encoders)
    text = f"Forge without this extension rejects {kind.title} bundles with more than {most} embeddings."
    return [Problem("concepts", "warning", text, f"Train at most {most} per file if Forge users are to load it.")]


def _check_init_texts(config: TrainConfig, tokenizer: Callable[[str], list[int]]) -> list[Problem]:
    """Check that initialization texts fit a chunk; with 0 vectors, each token of the text gets a vector."""
    problems = []
    for index, concept in enumerate(config.concepts):
        count = len(tokenizer(concept.init_text)) if concept.vectors == 0 else 0
        if count > CHUNK_TOKENS:
            text = f"The initialization text has {count} tokens; an embedding can have at most {CHUNK_TOKENS} vectors."
            problems.append(
                Problem(f"concepts[{index}].init_text", "error", text, "Shorten it, or set the number of vectors.")
            )
    return problems


def _check_concepts(config: TrainConfig) -> list[Problem]:
    problems = []
    claimed = {plain_words(concept.name): concept.name for concept in config.concepts}
    for index, concept in enumerate(config.concepts):
        field = f"concepts[{index}]."
        for name, info in concept_field_info().items():
            problems += _check_value(field + name, getattr(concept, name), info)
        for alias in concept.aliases:
            plain = plain_words(alias)
            if not plain:
                problems.append(Problem(field + "aliases", "error", f"{shown(alias)} is not a tag.", "Remove it."))
            elif claimed.setdefault(plain, concept.name) != concept.name:
                problems.append(
                    Problem(
                        field + "aliases",
                        "error",
                        f"The tag {printable(alias)} already stands for {printable(claimed[plain])}.",
                        "A tag can stand for one concept only.",
                    )
                )
    return problems
