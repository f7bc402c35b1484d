"""What a run trains: adapters and embeddings, new or from the bundle that it starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lib_pivotal.core.config.negative import trained_embeddings
from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.lora.adapter_set import NEGATIVE, AdapterSet
from lib_pivotal.core.ports import DiffusionModel, TextEncoder
from lib_pivotal.core.textual_inversion.embedding_table import EmbeddingTable, EmbeddingWeights, Layout, layout_of
from lib_pivotal.core.textual_inversion.text_conditioner import TextConditioner
from lib_pivotal.core.train.new_adapters import copied, new_adapters
from lib_pivotal.core.train.resumed import Resumed
from lib_pivotal.core.train.start_from import kept_names, load_start, with_kept

__all__ = ["TrainedParts", "make_trained_parts"]


@dataclass(frozen=True)
class TrainedParts:
    """What a run trains, and what it keeps of the bundle that it starts from.

    Attributes:
        adapters: of the UNet and the text encoders.
        layout: rows of each embedding in the tables.
        tables: encoder name → embedding table; empty if no embeddings are trained.
        kept: names that are not trained but kept → number of vectors.
        teacher: the adapters that the run started from, if it keeps names; disabled.
    """

    adapters: list[AdapterSet]
    layout: Layout
    tables: dict[str, EmbeddingTable]
    kept: Mapping[str, int]
    teacher: list[AdapterSet]

    @property
    def embeddings(self) -> EmbeddingWeights:
        """The vectors as they are trained."""
        return EmbeddingWeights(self.layout, {name: table.weight for name, table in self.tables.items()})

    def conditioner(
        self,
        config: TrainConfig,
        model: DiffusionModel,
        *,
        may_offload: bool = False,
        encodes_twice: bool = False,
        caches_in_main_memory: bool = False,
        encoders: Sequence[TextEncoder] = (),
    ) -> TextConditioner:
        """What encodes captions with these parts; see :class:`TextConditioner`.

        Args:
            config: says whether brackets in captions weigh tags.
            model: the borrowed model.
            may_offload: see :class:`TextConditioner`.
            encodes_twice: see :class:`TextConditioner`.
            caches_in_main_memory: see :class:`TextConditioner`.
            encoders: see :class:`TextConditioner`.
        """
        return TextConditioner(
            model,
            self.embeddings,
            [part for part in self.adapters if part.part not in ("unet", NEGATIVE)],
            may_offload=may_offload,
            encodes_twice=encodes_twice,
            caches_in_main_memory=caches_in_main_memory,
            encoders=encoders,
            has_emphasis=config.emphasis,
        )


def make_trained_parts(config: TrainConfig, model: DiffusionModel, resumed: Resumed | None) -> TrainedParts:
    """Make the parts with their initial values; those of a resumed run get theirs from its state.

    Args:
        config: checked settings.
        model: the borrowed model.
        resumed: what a resumed run keeps from its start; None for a new run.

    Raises:
        BundleError: the run cannot start from the bundle that the settings name.
    """
    adapters = new_adapters(config, model)
    encoder = model.text_encoders[0]
    kept = resumed.kept if resumed is not None else kept_names(config, encoder.tokenize)
    layout = with_kept(layout_of(trained_embeddings(config.concepts), encoder), kept)
    tables = _tables(config, layout, model, list(kept))
    if config.start_from and resumed is None:
        load_start(config, adapters, layout, tables, encoder)
    teacher = copied(adapters, config, model) if kept else []
    return TrainedParts(adapters, layout, tables, kept, teacher)


def _tables(
    config: TrainConfig, layout: Layout, model: DiffusionModel, kept: Sequence[str]
) -> dict[str, EmbeddingTable]:
    if not layout:
        return {}
    return {
        encoder.name: EmbeddingTable(
            trained_embeddings(config.concepts),
            layout,
            encoder,
            seed=config.seed,
            norms=config.embedding_norms,
            device=model.device,
            kept=kept,
        )
        for encoder in model.text_encoders
    }
