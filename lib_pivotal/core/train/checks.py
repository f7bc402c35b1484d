"""Every problem that can be found before training starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lib_pivotal.core.bundle.names import check_file_name
from lib_pivotal.core.bundle.negative_names import check_trained_names
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.user_path import bare_path, check_path
from lib_pivotal.core.core_tags.findings import core_tag_problems
from lib_pivotal.core.data.bucket_image import KeptImages
from lib_pivotal.core.data.dataset_report import DatasetReport, read_dataset
from lib_pivotal.core.data.findings import dataset_problems
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.families import CHUNK_TOKENS
from lib_pivotal.core.train.concept_table import ConceptTable, concept_table, table_problems
from lib_pivotal.core.train.memory_estimate import DeviceMemory, MemoryEstimate, estimate_memory, memory_problems
from lib_pivotal.core.train.model_checks import check_layers
from lib_pivotal.core.train.output_check import ValuesPerRank, check_output
from lib_pivotal.core.train.resumed import Resumed
from lib_pivotal.core.train.setting_checks import check_settings

__all__ = ["Checked", "check"]

_DEFAULTS = TrainConfig()


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
    problems += _check_names(config, taken_names, tokenizer)
    problems += check_layers(config, family)
    problems += _check_optimizer(config) if is_valid else []
    problems += _check_start(config, family, tokenizer, resumed)
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


def _check_names(
    config: TrainConfig, taken_names: Mapping[str, str], tokenizer: Callable[[str], list[int]] | None
) -> list[Problem]:
    """Check the names of the embeddings and of the file, and the initialization texts."""
    problems = check_trained_names(config.concepts, taken=taken_names, tokenizer=tokenizer)
    if tokenizer is not None:
        problems += _check_init_texts(config, tokenizer)
    return problems + check_file_name(config.output_name)


def _check_start(
    config: TrainConfig, family: str, tokenizer: Callable[[str], list[int]] | None, resumed: Resumed | None
) -> list[Problem]:
    """Check the bundle that training starts from."""
    if not config.start_from and config.keep_names:
        text = "It keeps names of the bundle that training starts from, and there is none."
        return [Problem("keep_names", "error", text, "Set Start from weights, or set this to 0.")]
    if not config.start_from or resumed is not None:
        return []
    from lib_pivotal.core.train.start_from import check_start_from  # noqa: PLC0415  (imports torch)

    return check_start_from(config, family, tokenizer)


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


def _folder_spelling(data_folder: str) -> list[Problem]:
    bare = bare_path(data_folder)
    return check_path("data_folder", bare) if bare else []
