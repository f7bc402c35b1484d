"""Every setting does something: for each one a run that differs by it alone, and what of it must differ.

A new setting without an entry fails here.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.config.schema import Concept, Subset, TrainConfig, field_info
from lib_pivotal.core.events import Control, StepDone, Validated
from lib_pivotal.core.ports import Sample, SampleRequest
from lib_pivotal.core.train.run import Folders, train
from lib_pivotal.core.train.setting_checks import check_settings
from lib_pivotal.core.train.state import load_newest
from tests.unit.toy import ToyModel, write_images

TESTS = Path(__file__).parents[1]


class WatchedModel(ToyModel):
    """Records whether each forward pass recomputes its activations in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.is_recomputing = False
        self.recomputed: list[bool] = []

    @contextlib.contextmanager
    def checkpointing(self, *, enabled):
        self.is_recomputing = enabled
        yield
        self.is_recomputing = False

    def predict(self, noisy, timesteps, condition):
        self.recomputed.append(self.is_recomputing)
        return super().predict(noisy, timesteps, condition)


class WatchedSampler:
    def __init__(self) -> None:
        self.requests: list[SampleRequest] = []

    def make(self, request, embeddings):
        self.requests.append(request)
        return Sample(Image.new("RGB", (8, 8)), "")


class Run:
    """A finished run of few steps, and what a user can see of it."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.folder = folder
        (folder / "run").mkdir(parents=True)
        (folder / "bundles").mkdir()
        if config.if_exists != "refuse":
            (folder / "bundles" / f"{config.output_name}.safetensors").write_bytes(b"somebody's")
        self.model, self.sampler = WatchedModel(), WatchedSampler()
        self.losses: list[float] = []
        self.measured: list[int] = []
        places = Folders(folder / "run", folder / "bundles", folder / "cache")
        self.outcome = train(config, self.model, self.sampler, [self], Control(), places)

    def handle(self, event) -> None:
        if isinstance(event, StepDone):
            self.losses.append(event.loss)
        elif isinstance(event, Validated):
            self.measured.append(event.step)


def trained(run: Run) -> dict[str, Any]:
    """Values after the last step, with the optimizer's moments."""
    return {key: value.tolist() for key, value in load_newest(run.folder / "run" / "states").tensors.items()}


def losses(run: Run) -> list[float]:
    return run.losses


def first_loss(run: Run) -> float:
    """Nothing has been trained before, so it differs only by the data of the step or its weighting."""
    return run.losses[0]


def files(run: Run) -> list[str]:
    names = [path.relative_to(run.folder) for path in run.folder.rglob("*") if path.is_file()]
    return sorted("cached latents" if path.match("cache/*.safetensors") else path.as_posix() for path in names)


def types(run: Run) -> set[str]:
    """Number types of the LoRA in the file."""
    with safe_open(run.outcome.bundle_path, "pt") as file:
        return {str(file.get_tensor(key).dtype) for key in file.keys() if "lora_" in key}  # noqa: SIM118


def layers(run: Run) -> dict[str, list[int]]:
    """The file's tensors and their shapes."""
    with safe_open(run.outcome.bundle_path, "pt") as file:
        return {key: list(file.get_tensor(key).shape) for key in file.keys()}  # noqa: SIM118


def request(name: str) -> Callable[[Run], set[Any]]:
    """One value of all preview requests."""
    return lambda run: {getattr(item, name) for item in run.sampler.requests}


def preview_steps(run: Run) -> list[str]:
    return [name for name in files(run) if "samples" in name]


def recomputed(run: Run) -> set[bool]:
    return set(run.model.recomputed)


def words(run: Run) -> list[str]:
    """The embeddings' keys in the file."""
    return sorted(key for key in layers(run) if key.startswith("bundle_emb."))


@dataclass(frozen=True)
class Effect:
    """What a setting changes.

    Attributes:
        value: the setting's other value.
        seen: what of a run must differ.
        base: settings of both runs.
        becomes: what is seen with ``value``; None when only the difference counts.
    """

    value: Any
    seen: Callable[[Run], Any] = trained
    base: dict[str, Any] = field(default_factory=dict)
    becomes: Any = None


PREVIEWS = {"sample_every": 3}
MASKED = {"data_folder": "masked", "masks": "masklabel", "unmasked_share": 0.0}
REGULARIZED = {"subsets": (Subset("plain", kind="regularization"),), "batch_size": 4, "regularization_share": 0.5}
"""With images that do not mention the concept."""
SAME_IMAGES = {
    "subsets": (Subset("data", kind="regularization"),),
    "batch_size": 4,
    "regularization_share": 0.5,
    "regularization_target": "prior",
}
"""Regularization images are the training images."""
CAST = {
    "data_folder": "cast",
    "concepts": (Concept("zog_x", "teal thing", 3), Concept("mib_y", "small thing", 2)),
    "batch_size": 6,
}
"""Two concepts, one with three times as many images as the other."""
NEGATIVE = {"concepts": (Concept("zog_x", init_text="teal thing", vectors=3, stop_at=1.0, negative_vectors=2),)}
BOTH = (Concept("zog_x", vectors=3), Concept("mib_x", vectors=3))
EFFECTS: dict[str, Effect] = {
    "data_folder": Effect("other", trained),
    "resolution": Effect(128, first_loss),
    "flip": Effect(True, first_loss),
    "shuffle_tags": Effect(True, first_loss, {"shuffle_tags": False}),
    "tag_dropout": Effect(0.9, first_loss),
    "name_only": Effect(1.0, first_loss),
    "caption_dropout": Effect(0.5, losses, {"steps": 6}),
    "caption_source": Effect("caption", first_loss, {"data_folder": "sources"}),
    "caption_encoding": Effect("cp932", first_loss, {"data_folder": "legacy", "caption_encoding": "cp1252"}),
    "folder_repeats": Effect("no", losses, {"data_folder": "sources"}),
    "fix_punctuation": Effect(False, first_loss, {"data_folder": "sources"}),
    "caption_template": Effect(str(TESTS / "unit" / "golden" / "templates.txt"), first_loss),
    "caption_prefix": Effect("best", first_loss),
    "caption_suffix": Effect("end", first_loss),
    "keep_first": Effect(4, first_loss, {"shuffle_tags": True}),
    "keep_separator": Effect("left", first_loss),
    "group_separator": Effect(" background", first_loss),
    "random_choices": Effect(False, first_loss, {"data_folder": "choices"}),
    "drop_tags": Effect(("left",), first_loss),
    "protected_tags": Effect(("left", "/tag/", "blue background"), losses, {"tag_dropout": 0.9}),
    "tag_dropout_by_position": Effect(True, losses, {"tag_dropout": 0.5}),
    "tag_warmup": Effect(1.0, first_loss),
    "single_name": Effect(1.0, first_loss, {"data_folder": "both", "concepts": BOTH, "name_only": 1.0}),
    "underscores": Effect("spaces", first_loss, {"data_folder": "choices"}),
    "emphasis": Effect(True, first_loss, {"data_folder": "choices"}),
    "cache_to_disk": Effect(True, lambda run: files(run).count("cached latents"), becomes=6),
    "balance": Effect(0.0, losses, {**CAST, "balance": 1.0}),
    "balance_cap": Effect(1.0, losses, {**CAST, "balance": 1.0}),
    "prune_core_tags": Effect(
        False, first_loss, {"concepts": (Concept("zog_x", init_text="teal thing", core_tags=("left",), stop_at=1.0),)}
    ),
    "steps": Effect(5, lambda run: len(run.losses), becomes=5),
    "batch_size": Effect(3, first_loss),
    "unet_lr": Effect(1e-2),
    "embedding_lr": Effect(1e-2),
    "seed": Effect(2, first_loss),
    "start_from": Effect("earlier.safetensors", first_loss),
    "keep_names": Effect(
        1.0,
        lambda run: sorted(read_bundle(run.outcome.bundle_path).embeddings),
        {"start_from": "pair.safetensors"},
        ["mib_x", "zog_x"],
    ),
    "accumulation": Effect(2, first_loss),
    "memory": Effect("save", recomputed, becomes={True}),
    "gradient_checkpointing": Effect(True, recomputed, becomes={True}),
    "clip_skip": Effect(2, request("clip_skip"), PREVIEWS, {2}),
    "lora_kind": Effect(
        "loha", lambda run: layers(run).get("lora_unet_attn1_to_q.hada_w1_b"), {"rank": 4}, becomes=[4, 32]
    ),
    "lokr_factor": Effect(
        2, lambda run: layers(run).get("lora_unet_attn1_to_q.lokr_w1"), {"lora_kind": "lokr"}, becomes=[2, 2]
    ),
    "lora_layers": Effect(
        "cross_kv", lambda run: sum(key.endswith("lora_down.weight") for key in layers(run)), becomes=None
    ),
    "rank": Effect(2, lambda run: layers(run)["lora_unet_attn1_to_q.lora_down.weight"], becomes=[2, 32]),
    "alpha": Effect(4.0),
    "conv_rank": Effect(3, lambda run: layers(run).get("lora_unet_conv_in.lora_down.weight"), becomes=[3, 4, 3, 3]),
    "text_encoder_rank": Effect(
        3, lambda run: layers(run).get("lora_te_linear1.lora_down.weight"), becomes=[3, 16]
    ),
    "text_encoder_lr": Effect(1e-2, trained, {"text_encoder_rank": 2}),
    "optimizer": Effect("torch.optim:NAdam"),
    "optimizer_args": Effect("betas=0.5,0.9"),
    "schedule": Effect("constant"),
    "warmup": Effect(0.5),
    "lora_start": Effect(0.5),
    "weight_decay": Effect(1.0, trained, {"unet_lr": 1e-2}),
    "clip_norm": Effect(1e-3),
    # Enough images that some are nearly clean, where the weightings differ.
    "loss_weighting": Effect("none", losses, {"batch_size": 6}),
    "min_snr_gamma": Effect(0.5, losses),
    "huber_c": Effect(0.1, losses),
    "noise_offset": Effect(0.1, first_loss),
    "max_weight_change": Effect(1e-3, trained, {"unet_lr": 1e-2}),
    "stratified_timesteps": Effect(True, first_loss),
    "min_timestep": Effect(0.5, first_loss),
    "max_timestep": Effect(0.5, first_loss),
    "embedding_norms": Effect("direction", trained, {"embedding_norms": "band", "embedding_lr": 1.0}),
    "negative_rank": Effect(
        2, lambda run: [name for name in files(run) if "-neg" in name], NEGATIVE, ["bundles/toy-neg.safetensors"]
    ),
    "negative_guidance": Effect(2.0, first_loss, NEGATIVE),
    "negative_with_lora": Effect(True, trained, NEGATIVE),
    "sample_every": Effect(2, lambda run: len(preview_steps(run)), PREVIEWS, 3),
    "sample_prompts": Effect("zog_x, left", request("prompt"), PREVIEWS, {"zog_x, left"}),
    "sample_negative": Effect("blurred", request("negative_prompt"), PREVIEWS, {"blurred"}),
    "sample_steps": Effect(7, request("steps"), PREVIEWS, {7}),
    "sample_cfg": Effect(3.5, request("cfg_scale"), PREVIEWS, {3.5}),
    "sample_seed": Effect(77, request("seed"), PREVIEWS, {77}),
    "output_name": Effect("renamed", lambda run: run.outcome.bundle_path.name, becomes="renamed.safetensors"),
    "if_exists": Effect(
        "number", lambda run: run.outcome.bundle_path.name, {"if_exists": "overwrite"}, "toy-2.safetensors"
    ),
    "save_every": Effect(
        2, lambda run: [name for name in files(run) if "toy-" in name and name.endswith("tensors")],
        becomes=["bundles/toy-000002.safetensors"],
    ),
    "step_bundles": Effect(
        3, lambda run: [name for name in files(run) if "steps/" in name],
        becomes=["run/steps/toy-000001.safetensors", "run/steps/toy-000002.safetensors"],
    ),
    "save_precision": Effect("fp32", types, becomes={"torch.float32"}),
    "regularization_share": Effect(0.9, trained, REGULARIZED),
    "regularization_weight": Effect(5.0, trained, REGULARIZED),
    "regularization_target": Effect("prior", trained, REGULARIZED),
    "validation_share": Effect(0.5, trained),
    "validate_every": Effect(1, lambda run: run.measured, {"validation_share": 0.1}, [0, 1, 2, 3]),
    "keep_states": Effect(
        1, lambda run: len([name for name in files(run) if "/states/" in name]), {"save_every": 1}, 1
    ),
    "background": Effect("black", first_loss, {"data_folder": "transparent"}),
    "masks": Effect("masklabel", first_loss, {**MASKED, "masks": "none"}),
    "mask_folder": Effect("right", first_loss, {**MASKED, "masks": "folder", "mask_folder": "left"}),
    "mask_scale": Effect("hcp", first_loss, MASKED),
    "invert_masks": Effect(True, first_loss, MASKED),
    "mask_floor": Effect(0.9, first_loss, MASKED),
    "unmasked_share": Effect(1.0, first_loss, MASKED),
    "mask_prior": Effect(1.0, trained, MASKED),
}  # fmt: skip

READ_BY_HOSTS = {
    "checkpoint": ("contract/test_borrowing.py", "test_another_checkpoint_is_loaded_and_the_selected_one_comes_back"),
    "cuda_graphs": ("unit/test_step_graphs.py", "test_steps_are_recorded_unless_that_is_turned_off_or_impossible"),
    "precision": ("contract/test_borrowed_model.py", "test_the_forward_pass_has_the_precision_that_was_chosen"),
}
"""Settings with no effect inside the engine, with the test that shows their effect elsewhere."""

CONCEPT_EFFECTS: dict[str, Effect] = {
    "name": Effect("tag 1", words),
    "init_text": Effect("blue hat", first_loss),
    "vectors": Effect(2, lambda run: layers(run)[words(run)[0]], becomes=[2, 16]),
    "aliases": Effect(("left",), first_loss),
    "lr_multiplier": Effect(3.0),
    "stop_at": Effect(0.3),
    "class_noun": Effect("hat", trained, SAME_IMAGES),
    "weight": Effect(4.0, losses, CAST),
    "core_tags": Effect(("left",), first_loss),
    "negative_vectors": Effect(
        2, words, becomes=["bundle_emb.neg_zog_x.string_to_param.*", "bundle_emb.zog_x.string_to_param.*"]
    ),
}

SUBSET_EFFECTS: dict[str, Effect] = {
    "folder": Effect("other"),
    "kind": Effect("regularization", trained, {"batch_size": 4}),
    "loss_weight": Effect(5.0, trained, {"batch_size": 4}),
}


def settings(folder: Path, changes: dict[str, Any]) -> TrainConfig:
    """A few steps in which only images and noise are random."""
    values: dict[str, Any] = {
        "concepts": (Concept("zog_x", init_text="teal thing", vectors=3, stop_at=1.0),),
        "data_folder": "data",
        "resolution": 64,
        "steps": 3,
        "rank": 4,
        "alpha": 2.0,
        "warmup": 0.0,
        "lora_start": 0.0,
        "tag_dropout": 0.0,
        "name_only": 0.0,
        "caption_dropout": 0.0,
        "output_name": "toy",
        "sample_every": 0,
        "keep_states": 4,
        "step_bundles": 0,
    }
    values.update(changes)
    places = {
        name: str(folder / values[name]) for name in ("data_folder", "mask_folder", "start_from") if name in values
    }
    subsets = tuple(replace(subset, folder=str(folder / subset.folder)) for subset in values.get("subsets", ()))
    return TrainConfig(**{**values, **places, "subsets": subsets})


def write_masked_images(folder: Path) -> None:
    """Images with masks next to them, two folders of masks for them, and the images with a transparent left half."""
    write_images(folder / "masked")
    for name in ("transparent", "left", "right"):
        (folder / name).mkdir()
    for path in sorted((folder / "masked").glob("*.png")):
        image = Image.open(path)
        mask = Image.new("L", image.size, 100)
        mask.paste(255, (image.width // 2, 0, image.width, image.height))
        image.putalpha(mask.point(lambda level: 255 * (level > 100)))
        image.save(folder / "transparent" / path.name)
        mask.save(folder / "masked" / f"{path.stem}-masklabel.png")
        mask.save(folder / "right" / path.name)
        mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "left" / path.name)
        for name in ("masked", "transparent"):
            (folder / name / path.name).with_suffix(".txt").write_text("zog_x, left")


def write_other_captions(folder: Path) -> None:
    """Images with captions of several kinds, and with captions that are not Unicode."""
    write_images(folder / "sources" / "5_left", 3)
    write_images(folder / "sources" / "right", 3)
    for path in (folder / "sources").rglob("*.txt"):
        path.with_suffix(".caption").write_text("zog_x, green hat")
        path.write_text("zog_x、left、blue background", encoding="utf-8")
    write_images(folder / "legacy", 3)
    for path in (folder / "legacy").glob("*.txt"):
        path.write_bytes("zog_x, 第".encode("cp932"))


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """Runs by settings; equal settings are run once."""
    folder, finished = tmp_path_factory.mktemp("options"), {}
    write_images(folder / "data")
    write_images(folder / "other", 4)
    write_other_captions(folder)
    write_masked_images(folder)
    write_images(folder / "plain", 3, "a hat")
    write_images(folder / "cast" / "a", 6)
    write_images(folder / "cast" / "b", 2, "mib_y")
    write_images(folder / "choices", 3, "zog_x, {red|blue} hat, (tall_old_tree:1.5), sky")
    write_images(folder / "both", 3, "zog_x, mib_x")
    earlier = Run(folder / "earlier", settings(folder, {}))
    earlier.outcome.bundle_path.rename(folder / "earlier.safetensors")
    concepts = (*settings(folder, {}).concepts, Concept("mib_x", init_text="teal thing", vectors=1))
    pair = Run(folder / "pair", settings(folder, {"concepts": concepts, "data_folder": "both"}))
    pair.outcome.bundle_path.rename(folder / "pair.safetensors")

    def run(changes: dict[str, Any]) -> Run:
        key = repr(sorted(changes.items()))
        if key not in finished:
            finished[key] = Run(folder / f"run-{len(finished)}", settings(folder, changes))
        return finished[key]

    return run


def assert_effect(run_of, effect: Effect, before: dict[str, Any], after: dict[str, Any]) -> None:
    without, with_it = effect.seen(run_of({**effect.base, **before})), effect.seen(run_of({**effect.base, **after}))
    assert with_it != without
    assert effect.becomes is None or with_it == effect.becomes


@pytest.mark.parametrize("name", field_info())
def test_every_setting_has_an_effect(run_of, name):
    if name in READ_BY_HOSTS:
        file, test = READ_BY_HOSTS[name]
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        return
    assert name in EFFECTS, "say here what the new setting changes"
    effect = EFFECTS[name]
    assert_effect(run_of, effect, {}, {name: effect.value})


@pytest.mark.parametrize("name", [item.name for item in fields(Concept)])
def test_every_setting_of_a_concept_has_an_effect(run_of, name):
    assert name in CONCEPT_EFFECTS, "say here what the new setting changes"
    effect, plain = CONCEPT_EFFECTS[name], {"name": "zog_x", "init_text": "teal thing", "vectors": 3, "stop_at": 1.0}
    changed = Concept(**{**plain, name: effect.value})
    others = effect.base.get("concepts", ())[1:]
    assert_effect(run_of, effect, {"concepts": (Concept(**plain), *others)}, {"concepts": (changed, *others)})


@pytest.mark.parametrize("name", SUBSET_EFFECTS)
def test_settings_of_a_subset_have_an_effect(run_of, name):
    effect, plain = SUBSET_EFFECTS[name], Subset("plain")
    changed = replace(plain, **{name: effect.value})
    assert_effect(run_of, effect, {"subsets": (plain,)}, {"subsets": (changed,)})


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ({"rank": 4, "conv_rank": 8}, {4: 2.0, 8: 4.0}),
        ({"rank": 0, "conv_rank": 8}, {8: 2.0}),
        ({"rank": 0, "text_encoder_rank": 4}, {4: 2.0}),
        ({"rank": 0, "conv_rank": 8, "text_encoder_rank": 2}, {8: 2.0, 2: 0.5}),
    ],
)
def test_alpha_belongs_to_the_rank_or_the_largest_of_the_other_ranks(run_of, ranks, expected):
    run = run_of({**ranks, "steps": 2})
    found = {}
    with safe_open(run.outcome.bundle_path, "pt") as file:
        for key in file.keys():  # noqa: SIM118
            if key.endswith("lora_down.weight"):
                alpha = float(file.get_tensor(key.replace("lora_down.weight", "alpha")))
                found.setdefault(file.get_tensor(key).shape[0], set()).add(alpha)
    assert found == {rank: {alpha} for rank, alpha in expected.items()}
    nothing = TrainConfig(concepts=(Concept("zog_x"),), alpha=0.0, **ranks)
    assert [problem.field for problem in check_settings(nothing)] == ["alpha"]


def test_the_three_loss_weightings_differ(run_of):
    seen = [run_of({"loss_weighting": name, "batch_size": 6}).losses for name in ("min_snr", "debiased", "none")]
    assert len({tuple(item) for item in seen}) == 3


def test_previews_are_asked_for_at_their_steps(run_of):
    assert preview_steps(run_of({"sample_every": 2})) == [
        f"run/samples/step-00000{step}-0.png" for step in (0, 2, 3)
    ]  # fmt: skip


def test_file_types_follow_the_setting(run_of):
    assert types(run_of({})) == {str(torch.float16)}
