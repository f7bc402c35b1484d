"""What each concept gets from a run: images, share of the samples, and how often each image is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.config.subset import REGULARIZATION
from lib_pivotal.core.data.image_shares import share_images
from lib_pivotal.core.data.scan import DatasetImage
from lib_pivotal.core.data.shown import listed
from lib_pivotal.core.errors import Problem
from lib_pivotal.core.printable import printable
from lib_pivotal.core.train.resumed import Resumed
from lib_pivotal.core.train.step_count import samples_per_concept, samples_per_step, total_steps

__all__ = ["ConceptRow", "ConceptTable", "concept_table", "table_problems"]

_RARE, _FREQUENT = 10, 200
"""Views per image: below, an image is hardly learned; above, it is learned by heart."""
_SHORT_TRIAL = 100
"""A run of fewer steps is a trial, from which nobody expects a finished result."""


@dataclass(frozen=True)
class ConceptRow:
    """One concept of a run.

    Attributes:
        name: its name; empty for the images without a concept.
        images: number of images that show it.
        alone: how many of them show no other concept.
        with_others: how many of them show another one, too.
        share: fraction of the samples that show it. Samples of several concepts count for each.
        samples: number of samples that show it in the whole run.
        fewest_views: how often the run uses its least used image, on average.
        most_views: how often the run uses its most used image, on average.
        remark: ``many`` or ``few`` if images are used unusually often or rarely; otherwise empty.
    """

    name: str
    images: int
    alone: int
    with_others: int
    share: float
    samples: int
    fewest_views: float
    most_views: float
    remark: str


@dataclass(frozen=True)
class ConceptTable:
    """All concepts of a run.

    Attributes:
        steps: number of steps of the run.
        samples: number of samples that the run takes from the images to learn.
        images: number of images to learn.
        rows: one per concept, in order; the images without a concept are last, if there are any.
    """

    steps: int
    samples: int
    images: int
    rows: tuple[ConceptRow, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values that are serializable as JSON."""
        return {**asdict(self), "rows": [asdict(row) for row in self.rows]}


def concept_table(
    config: TrainConfig,
    images: Sequence[DatasetImage],
    family: str = "",
    *,
    processes: int = 1,
    resumed: Resumed | None = None,
) -> ConceptTable:
    """Compute what each concept gets.

    Args:
        config: valid settings.
        images: the usable images.
        family: family of the model, see ``core.families``; empty if it is not known.
        processes: number of processes that train together.
        resumed: what a resumed run keeps from its start; None for a new run.
    """
    shares = share_images(images, config, balances=resumed is None or resumed.balances)
    steps = total_steps(config, shares, family, processes=processes, resumed=resumed)
    samples = steps * samples_per_step(config, processes)
    if any(image.subset.kind == REGULARIZATION for image in images):
        samples = round(samples * (1 - config.regularization_share))
    trained = [
        (names, weight)
        for names, weight, is_trained in zip(shares.concepts, shares.weights, shares.is_trained, strict=True)
        if is_trained
    ]
    total = sum(weight for _, weight in trained)
    names = [concept.name for concept in config.concepts if concept.name.strip()]
    groups = {name: [(shown, weight) for shown, weight in trained if name in shown] for name in dict.fromkeys(names)}
    without = [(shown, weight) for shown, weight in trained if not shown]
    if without:
        groups[""] = without
    least = samples_per_concept(family)
    rows = [
        # Next to concepts, a few images without one need not be learned.
        _row(name, group, samples, total, least if name or not names else 0)
        for name, group in groups.items()
    ]
    return ConceptTable(steps, samples, len(trained), tuple(rows))


def _row(
    name: str, images: Sequence[tuple[frozenset[str], float]], samples: int, total: float, least: int
) -> ConceptRow:
    weights = [weight for _, weight in images]
    with_others = sum(len(shown) > 1 for shown, _ in images)
    share = sum(weights) / total
    fewest, most = (samples * weight / total for weight in (min(weights, default=0.0), max(weights, default=0.0)))
    remark = ""
    if most > _FREQUENT:
        remark = "many"
    # Large sets teach a concept even if each image is seen only a few times.
    elif images and fewest < _RARE and share * samples < least:
        remark = "few"
    return ConceptRow(
        name=name,
        images=len(images),
        alone=len(images) - with_others,
        with_others=with_others,
        share=share,
        samples=round(share * samples),
        fewest_views=fewest,
        most_views=most,
        remark=remark,
    )


def table_problems(table: ConceptTable) -> list[Problem]:
    """Warn about concepts whose images are seen unusually often or rarely.

    Args:
        table: of the run.
    """
    many, few = (
        listed([f"{_shown_name(row)} ({_views(row)} times)" for row in table.rows if row.remark == remark])
        for remark in ("many", "few")
    )
    problems = []
    if many:
        text = f"In {table.steps} steps the same images are seen very often, so they may be learned by heart: {many}."
        hint = "Add images, lower the number of steps, or give the concept less weight or balance."
        problems.append(Problem("steps", "warning", text, hint))
    if few and table.steps >= _SHORT_TRIAL:
        text = f"In {table.steps} steps each image is seen only a few times: {few}."
        hint = "Raise the number of steps or the batch size; 0 steps chooses them by the number of concepts and images."
        problems.append(Problem("steps", "warning", text, hint))
    return problems


def _shown_name(row: ConceptRow) -> str:
    return printable(row.name) if row.name else "images without a concept"


def _views(row: ConceptRow) -> str:
    fewest, most = round(row.fewest_views), round(row.most_views)
    return f"{most}" if fewest == most else f"{fewest} to {most}"
