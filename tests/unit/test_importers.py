"""Settings and folders of other programs are read as their authors meant them, and what is not used is named."""

from __future__ import annotations

import contextlib
import json
import pickle
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib_pivotal.core.config.concept_lines import show_concept_lines
from lib_pivotal.core.config.schema import Concept, Subset, TrainConfig
from lib_pivotal.core.data.caption import CaptionMaker
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.errors import ConfigError, PivotalError
from lib_pivotal.core.importers.folder_names import import_folder_names
from lib_pivotal.core.importers.import_settings import import_settings
from lib_pivotal.core.importers.merge import merged
from tests.unit.dataset_files import save_image, write_captions


def write(path: Path, contents) -> Path:
    """A text file, or a JSON file of other values; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(contents if isinstance(contents, str) else json.dumps(contents), encoding="utf-8")
    return path


def warned(result, field: str) -> str:
    """What the warnings about a key or file say."""
    return " ".join(str(problem) for problem in result.problems if problem.field.endswith(field))


KOHYA = r"""
# The data set of a robot.
[general]
caption_extension = ".txt"
keep_tokens_separator = "|||"
shuffle_caption = true
color_aug = false            # has no meaning here

[[datasets]]
resolution = [
    512, # width
    1152,
]
batch_size = 4
mystery = "?"
  [[datasets.subsets]]
  image_dir = 'D:\zog'
  num_repeats = 4
  caption_prefix = "zog_v1 |||"
  [[datasets.subsets]]
  image_dir = 'D:\plain'
  is_reg = true
  class_tokens = "robot"
  caption_extension = ".caption"
"""


def test_data_set_of_kohya(tmp_path):
    result = import_settings(write(tmp_path / "set.toml", KOHYA))
    assert result.config.subsets == (
        Subset(r"D:\zog", repeats=4.0, captions="txt", caption_prefix="zog_v1 |||", subfolders=False),
        Subset(r"D:\plain", "regularization", captions="caption", default_caption="robot", subfolders=False),
    )
    config = result.config
    assert (config.resolution, config.batch_size, config.keep_separator) == (768, 4, "|||")
    assert (config.shuffle_tags, config.tag_dropout, config.random_choices) == (True, 0.0, False)
    assert (config.folder_repeats, config.regularization_share) == ("no", 0.5)
    assert result.unused == ("general.color_aug", "datasets.mystery")


@pytest.mark.parametrize(("prefix", "kept"), [("", 2), ("best,", 1), ("best", 2), ("best, old, worn,", 0)])
def test_kept_tags_of_kohya_include_those_of_the_prefix(tmp_path, prefix, kept):
    subset = {"image_dir": "zog", "keep_tokens": 2, "caption_prefix": prefix}
    result = import_settings(write(tmp_path / "set.json", {"datasets": [{"subsets": [subset]}]}))
    assert result.config.subsets[0].keep_first == kept


def test_data_set_of_kohya_as_json_and_its_rarer_keys(tmp_path):
    values = {
        "general": {"enable_bucket": False, "caption_separator": ";", "token_warmup_step": 0.3, "flip_aug": True},
        "datasets": [
            {
                "validation_split": 0.1,
                "validation_seed": 3,
                "subsets": [
                    {"image_dir": "10_zog", "alpha_mask": True, "keep_tokens": "2", "keep_tokens_separator": ""},
                    {"image_dir": "mib", "conditioning_data_dir": "masks", "flip_aug": False, "num_repeats": 3},
                    {"image_dir": "off", "num_repeats": 0},
                    {"metadata_file": "elsewhere/meta.json", "image_dir": "nim", "num_repeats": "many"},
                ],
            }
        ],
    }
    (tmp_path / "10_zog").mkdir()
    result = import_settings(write(tmp_path / "set.json", values))
    zog, mib, nim = result.config.subsets
    assert (zog.folder, zog.masks, zog.keep_first, zog.repeats) == (str(tmp_path / "10_zog"), "alpha", 2, 1.0)
    assert (mib.folder, mib.masks, mib.mask_folder, mib.repeats) == ("mib", "folder", "masks", 3.0)
    assert (nim.captions, nim.repeats) == ("", 1.0)
    config = result.config
    assert (config.mask_floor, config.unmasked_share, config.tag_warmup, config.validation_share) == (0, 0, 0.3, 0.1)
    assert config.flip is True and "different" in warned(result, "flip_aug")
    assert "num_repeats counts" in warned(result, "10_zog")
    assert "off with num_repeats below 1" in warned(result, "datasets.subsets")
    assert "meta.json into nim" in warned(result, "metadata_file")
    assert set(result.unused) == {
        "datasets.validation_seed",
        "datasets.subsets.caption_separator",
        "datasets.subsets.enable_bucket",
        "datasets.subsets.metadata_file",
        "datasets.subsets.num_repeats",
    }
    # Repeats are the author's own balance.
    assert config.balance == 0.0 and warned(result, "balance")


def test_training_settings_of_kohya_with_its_folders(tmp_path):
    write_captions(tmp_path / "data" / "10_zog robot", "zog on a hill", "zog")
    save_image(tmp_path / "data" / "3_mib" / "b.png")
    save_image(tmp_path / "data" / "3_mib" / "deeper" / "c.png")
    save_image(tmp_path / "data" / "unnumbered" / "d.png")
    save_image(tmp_path / "reg" / "1_robot" / "e.png")
    values = {
        "learning_rate": "0.0001",
        "unet_lr": 2e-4,
        "text_encoder_lr": "5e-05",
        "network_dim": "32",
        "network_alpha": "16",
        "conv_dim": 8,
        "train_batch_size": "2",
        "epoch": "5",
        "max_train_epochs": "",
        "max_train_steps": "1600",
        "save_every_n_epochs": 1,
        "output_name": "zog-bundle",
        "train_data_dir": "data",
        "reg_data_dir": "reg",
        "clip_skip": 2,
        "seed": "42",
        "max_resolution": "512,768",
        "lr_scheduler": "polynomial",
        "lr_warmup": 10,
        "mixed_precision": "bf16",
        "min_snr_gamma": 0,
        "caption_extension": ".txt",
        "keep_tokens": "1",
        "shuffle_caption": True,
        "LoRA_type": "LyCORIS/LoHa",
        "noise_offset": 0.1,
        "wandb_api_key": "",
    }
    result = import_settings(write(tmp_path / "preset.json", values))
    config = result.config
    assert (config.unet_lr, config.text_encoder_lr, config.rank, config.alpha) == (2e-4, 5e-5, 32, 16.0)
    assert (config.conv_rank, config.batch_size, config.output_name, config.clip_skip) == (8, 2, "zog-bundle", 2)
    assert (config.seed, config.resolution, config.warmup, config.precision) == (42, 627, 0.1, "bf16")
    assert (config.loss_weighting, config.caption_source, config.keep_first) == ("none", "txt", 1)
    assert config.noise_offset == 0.1
    # 2 · 10 + 1 · 3 images, as many regularization images, 2 per batch: 23 steps per epoch.
    assert (config.steps, config.save_every) == (115, 23)
    assert [(Path(item.folder).name, item.kind, item.repeats) for item in config.subsets] == [
        ("10_zog robot", "train", 10.0),
        ("3_mib", "train", 3.0),
        ("1_robot", "regularization", 1.0),
    ]
    assert set(result.unused) >= {"lr_scheduler", "LoRA_type", "wandb_api_key", "unnumbered"}
    assert "text_encoder_rank" in warned(result, "text_encoder_lr")
    report = read_dataset(config)
    assert [(image.caption, image.repeats) for image in report.images] == [
        ("zog on a hill", 10.0),
        ("zog", 10.0),
        ("mib", 3.0),
        ("robot", 1.0),
    ]


@pytest.mark.parametrize(("algo", "kind"), [("loha", "loha"), ("LoKr", "lokr"), ("locon", "lora"), ("boft", None)])
def test_kinds_of_lora_of_lycoris(tmp_path, algo, kind):
    values = {"network_module": "lycoris.kohya", "network_dim": 8, "network_args": [f"algo={algo}", "factor=-1"]}
    found = import_settings(write(tmp_path / "t.json", {**values, "train_data_dir": str(tmp_path)}))
    assert found.config.lora_kind == (kind or "lora")
    assert found.config.lokr_factor == 0
    assert ("algo" in found.unused) == (kind is None)


def kohya(folder, **values):
    return import_settings(write(folder / "t.json", {"network_dim": 8, "train_data_dir": str(folder), **values}))


def test_noise_levels_and_huber_loss_of_kohya(tmp_path):
    found = kohya(tmp_path, min_timestep=50, max_timestep="800", loss_type="huber", huber_c=0.2,
                  huber_schedule="constant", scale_weight_norms=1.0)  # fmt: skip
    config = found.config
    assert (config.min_timestep, config.max_timestep, config.huber_c, config.max_weight_change) == (0.05, 0.8, 0.2, 1.0)
    assert found.unused == ()
    found = kohya(tmp_path, loss_type="huber")
    assert found.config.huber_c == 0.1 and "snr" in warned(found, "huber_schedule")
    found = kohya(tmp_path, loss_type="smooth_l1", huber_c=0.2, huber_schedule="snr")
    assert found.config.huber_c == 0.0 and "smooth_l1" in warned(found, "loss_type")
    found = kohya(tmp_path, loss_type="l2", huber_c=0.2, huber_schedule="snr")
    assert (found.config.huber_c, found.unused) == (0.0, ())


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("AdamW", "adamw"),
        ("AdamW8bit", "adamw8bit"),
        ("Lion", "lion"),
        ("Prodigy", "prodigyopt:Prodigy"),
        ("prodigyplus.ProdigyPlusScheduleFree", "prodigy-plus"),
        ("pytorch_optimizer.CAME", "pytorch_optimizer:CAME"),
    ],
)
def test_optimizers_of_kohya(tmp_path, name, ours):
    found = kohya(tmp_path, optimizer_type=name, optimizer_args=["weight_decay=0.1", "betas=0.9, 0.99", "x=True"])
    assert (found.config.optimizer, found.config.optimizer_args) == (ours, "betas=0.9,0.99 x=True")
    assert (found.config.weight_decay, found.unused) == (0.1, ())


def test_an_optimizer_of_kohya_that_is_not_offered_is_said(tmp_path):
    found = kohya(tmp_path, optimizer_type="AdaFactor", optimizer_args="relative_step=True")
    assert (found.config.optimizer, found.config.optimizer_args) == ("adamw", "")
    assert "AdaFactor" in warned(found, "optimizer_type")


def test_training_settings_of_kohya_in_sections(tmp_path):
    data_set = '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "images"\n'
    write(tmp_path / "set.toml", data_set)
    text = """
        [network]
        network_dim = 16
        network_args = ["conv_dim=4", "algo=lora"]
        [optimizer.args]
        learning_rate = 1e-4
        optimizer_args = ["weight_decay=0.1"]
        lr_warmup_steps = 20
        [more]
        dataset_config = "set.toml"
        max_train_steps = 400
        """
    result = import_settings(write(tmp_path / "training.toml", text))
    config = result.config
    # Without network_alpha the scripts use 1.
    assert (config.rank, config.alpha, config.conv_rank, config.weight_decay) == (16, 1.0, 4, 0.1)
    assert (config.unet_lr, config.steps, config.warmup) == (1e-4, 400, 0.05)
    assert [subset.folder for subset in config.subsets] == ["images"]
    assert result.unused == ("algo",)


def test_embedding_of_kohya(tmp_path):
    values = {"token_string": "zog", "init_word": "robot", "num_vectors_per_token": 4, "learning_rate": 5e-3, "seed": 1}
    config = import_settings(write(tmp_path / "ti.json", values)).config
    assert config.concepts == (Concept("zog", "robot", 4),)
    assert (config.embedding_lr, config.rank, config.unet_lr) == (5e-3, 0, TrainConfig().unet_lr)


def test_folders_that_are_elsewhere_are_said(tmp_path):
    values = {"train_data_dir": "E:/zog", "reg_data_dir": "E:/reg", "epoch": 3, "unet_lr": 1e-4}
    result = import_settings(write(tmp_path / "preset.json", values))
    assert (result.config.data_folder, result.config.steps) == ("E:/zog", 0)
    assert "does not exist here" in warned(result, "train_data_dir")
    assert {"reg_data_dir", "max_train_epochs"} <= set(result.unused)


def test_folders_of_kohya(tmp_path):
    save_image(tmp_path / "data" / "4_zog" / "a.png")
    write(tmp_path / "data" / "notes.md", "x")
    result = import_settings(tmp_path / "data")
    assert [(Path(item.folder).name, item.repeats) for item in result.config.subsets] == [("4_zog", 4.0)]
    assert result.unused == ("notes.md",)


BASE = """
train:
  train_steps: 1000
  save_step: 100
  scheduler: {name: constant_with_warmup, num_warmup_steps: 50}
  loss: {type: eps}
model: {clip_skip: 1, ema_unet: 0.99}
logger: old
seed: 7
"""
HCP = """
_base_: ['${config_dir}/base.yaml', cfgs/missing.yaml]
config_dir: cfgs
dataset_dir: images
emb_lr: 1e-2
exp_dir: exps/${hcp.time:}
logger: '---'
model: {pretrained_model_name_or_path: base_model}
tokenizer_pt:
  train:
    - {name: zog_x, lr: "${emb_lr}"}
    - {name: mib_x, lr: 0.01}
    - {name: nim_x, lr: 0.005}
lora_unet:
  - {lr: 2e-4, rank: 16, alpha: 8, layers: ['re:.*']}
data:
  dataset1:
    _target_: hcpdiff.data.TextImagePairDataset
    batch_size: 4
    source:
      one:
        img_root: ${dataset_dir}/zog
        repeat: 3
        prompt_template: cfgs/object.txt
        caption_file: {_target_: hcpdiff.data.TXTCaptionLoader, path: '${dataset_dir}/zog'}
        att_mask: ${dataset_dir}/masks
        bg_color: [255, 255, 255]
        word_names: {pt1: zog_x, class: robot, pt2: other}
        text_transforms:
          transforms:
            - {_target_: hcpdiff.utils.caption_tools.TagShuffle}
            - {_target_: hcpdiff.utils.caption_tools.TagDropout, p: 0.1}
            - {_target_: hcpdiff.utils.caption_tools.TemplateFill, word_names: "${....word_names}"}
    bucket: {_target_: hcpdiff.data.bucket.RatioBucket.from_files, target_area: '${hcp.eval:"512*512"}', num_bucket: 5}
  dataset_class:
    batch_size: 1
    source:
      one: {img_root: images/class, caption_file: null}
"""


def test_training_settings_of_hcp(tmp_path):
    write(tmp_path / "cfgs" / "base.yaml", BASE)
    write(tmp_path / "cfgs" / "object.txt", "a photo of {pt1}")
    result = import_settings(write(tmp_path / "cfgs" / "train.yaml", HCP))
    config = result.config
    assert config.concepts == (
        Concept("zog_x", class_noun="robot"),
        Concept("mib_x"),
        Concept("nim_x", lr_multiplier=0.5),
    )
    zog, plain = config.subsets
    assert (zog.folder, zog.repeats, zog.captions, zog.always) == ("images/zog", 3.0, "txt", ("zog_x",))
    assert (zog.masks, zog.mask_folder, zog.subfolders) == ("folder", "images/masks", False)
    assert (plain.kind, plain.captions) == ("regularization", "template")
    assert (config.embedding_lr, config.unet_lr, config.rank, config.alpha) == (0.01, 2e-4, 16, 8.0)
    assert (config.steps, config.warmup, config.save_every, config.clip_skip) == (1000, 0.05, 100, 2)
    assert (config.batch_size, config.regularization_share, config.seed) == (5, 0.2, 7)
    assert (config.shuffle_tags, config.tag_dropout, config.mask_scale) == (True, 0.1, "hcp")
    assert (config.checkpoint, config.background) == ("base_model", "white")
    assert config.caption_template == str(tmp_path / "cfgs" / "object.txt")
    assert set(result.unused) >= {
        "cfgs/missing.yaml",
        "train.loss",
        "model.ema_unet",
        "data.dataset1.bucket.num_bucket",
        "data.dataset1.source.one.word_names.pt2",
        "lora_unet.layers",
        "exp_dir",
    }
    assert not {"logger", "emb_lr", "dataset_dir"} & set(result.unused)
    assert "hcp.eval" in warned(result, "target_area") and "hcp.time" in warned(result, "exp_dir")
    assert "kind" in warned(result, "data.dataset_class")


def test_base_files_of_hcp_are_bounded(tmp_path):
    write(tmp_path / "a.yaml", "_base_: [b.yaml]\nseed: 1")
    write(tmp_path / "b.yaml", "_base_: a.yaml")
    with pytest.raises(ConfigError, match="based on itself"):
        import_settings(tmp_path / "a.yaml")
    for number in range(40):
        write(tmp_path / f"{number}.yaml", f"_base_: [{number + 1}.yaml]")
    with pytest.raises(ConfigError, match="based on each other"):
        import_settings(tmp_path / "0.yaml")


def test_without_pyyaml_only_yaml_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(ConfigError, match="pip install pyyaml"):
        import_settings(write(tmp_path / "a.yaml", "seed: 1"))


def onetrainer_concepts(folder: Path) -> list[dict]:
    text = {"prompt_source": "sample", "enable_tag_shuffling": True, "keep_tags_count": 2}
    image = {"enable_random_flip": True, "enable_random_rotate": False}
    return [
        {"name": "a", "path": str(folder / "zog"), "repeats": 2.5, "text": text, "image": image, "enabled": True},
        {"path": str(folder / "mib"), "balancing": 6, "balancing_strategy": "SAMPLES", "include_subdirectories": True},
        {"path": str(folder / "check"), "validation_concept": True, "text": {"prompt_source": "filename"}},
        {"name": "unused one", "path": "x", "enabled": False},
    ]


def test_concepts_and_embeddings_of_onetrainer(tmp_path):
    for name in ("a", "b"):
        save_image(tmp_path / "mib" / f"{name}.png")
    save_image(tmp_path / "mib" / "deep" / "c.png")
    save_image(tmp_path / "zog" / "a.png")
    write(tmp_path / "training_concepts" / "concepts.json", onetrainer_concepts(tmp_path))
    values = {
        "concept_file_name": "training_concepts/concepts.json",
        "base_model_name": "base.safetensors",
        "additional_embeddings": [
            {"placeholder": "<zog>", "token_count": 4, "initial_embedding_text": "*"},
            {
                "placeholder": "<mib>",
                "token_count": None,
                "initial_embedding_text": "blue hat",
                "stop_training_after": 4,
                "stop_training_after_unit": "EPOCH",
            },
            {"placeholder": "nim", "token_count": 2, "is_output_embedding": True},
            {"placeholder": "<kept>", "train": False},
        ],
        "epochs": 10,
        "batch_size": 2,
        "embedding_learning_rate": 0.001,
        "lora_rank": 8,
        "masked_training": True,
        "masked_prior_preservation_weight": 0.5,
        "output_model_destination": "models/zog.safetensors",
        "text_encoder_layer_skip": 1,
        "ema": "OFF",
    }
    result = import_settings(write(tmp_path / "presets" / "config.json", values))
    config = result.config
    assert [(item.kind, item.repeats, item.subfolders, item.captions) for item in config.subsets] == [
        ("train", 2.5, False, "txt"),
        ("train", 2.0, True, "txt"),
        ("validation", 1.0, False, "filename"),
    ]
    assert config.subsets[0].keep_first == 2
    assert config.concepts == (
        Concept("zog", "", 4, ("<zog>",), stop_at=1.0),
        Concept("mib", "blue hat", 0, ("<mib>",), stop_at=0.4),
        Concept("nim", "", 2, stop_at=1.0),
    )
    # 2.5 + 2 · 3 images, 2 per batch.
    assert (config.steps, config.embedding_lr, config.rank) == (50, 0.001, 8)
    assert (config.masks, config.mask_prior) == ("masklabel", 0.5)
    assert (config.output_name, config.clip_skip) == ("zog", 2)
    assert {"concept unused one", "embedding <kept>", "ema", "concepts.image.enable_random_rotate"} <= set(
        result.unused
    )
    assert "prompts cannot use" in warned(result, "is_output_embedding")
    caption = "a drawing of <zog> on a hill at night"
    maker = CaptionMaker(config.concepts, TrainConfig())
    assert maker.concepts_in(caption) == {"zog"}


def test_concept_list_of_onetrainer_alone(tmp_path):
    values = [
        {"path": "zog", "type": "PRIOR_PREDICTION", "loss_weight": 0.5},
        {
            "path": "mib",
            "text": {"tag_dropout_enable": True, "tag_dropout_mode": "RANDOM", "tag_dropout_probability": 0.2},
        },
    ]
    config = import_settings(write(tmp_path / "concepts.json", values)).config
    assert [(item.folder, item.kind, item.loss_weight) for item in config.subsets] == [
        ("zog", "regularization", 0.5),
        ("mib", "train", 1.0),
    ]
    assert (config.regularization_target, config.tag_dropout, config.shuffle_tags) == ("prior", 0.2, False)


def make_tree(folder: Path) -> Path:
    """A folder as anime_screenshot_pipeline writes it."""
    for kind in ("screenshots", "booru"):
        for group in ("1_character/Zog", "2_characters/Zog+Mib Blue", "3+_characters/character_others"):
            save_image(folder / "training" / kind / group / "a.png", color=(10 * len(group), 5, 9))
            write(folder / "training" / kind / group / "a.txt", "Zog, hat")
            write(folder / "training" / kind / group / "multiply.txt", "3.5")
    write(folder / "training" / "emb_init.json", {"Zog": ["horns"], "Mib Blue": [], "booru": ["masterpiece"]})
    cores = {
        "Zog|hair down": {"kept": ["hat"], "dropped": ["red hair", "short"], "emb_init": ["horns"]},
        "Zog|hair up": {"kept": [], "dropped": ["red hair"], "emb_init": ["horns"]},
    }
    write(folder / "training" / "core_tag.json", cores)
    write(folder / "training" / "wildcard.txt", "Zog")
    (folder / "intermediate").mkdir()
    return folder


@pytest.mark.parametrize("place", ["", "training"])
def test_folder_of_anime_screenshot_pipeline(tmp_path, place):
    result = import_settings(make_tree(tmp_path / "set") / place)
    config = result.config
    assert config.data_folder == str(tmp_path / "set" / "training")
    assert (config.folder_repeats, config.balance) == ("no", 0.0)
    assert [(item.name, item.init_text, item.core_tags) for item in config.concepts] == [
        ("Zog", "horns", ("red hair", "horns")),
        ("Mib Blue", "", ()),
        ("booru", "masterpiece", ()),
    ]
    assert result.unused == ("intermediate", "wildcard.txt")
    assert "2 forms" in warned(result, "concepts") or any("2 forms" in str(item) for item in result.problems)


def test_names_of_a_tree_without_lists_come_from_its_folders(tmp_path):
    folder = make_tree(tmp_path / "set")
    for path in (folder / "training").glob("*.json"):
        path.unlink()
    names = [concept.name for concept in import_settings(folder).config.concepts]
    assert names == ["Zog", "Mib Blue", "booru", "screenshots"]


def test_core_tags_of_both_forms(tmp_path):
    lists = import_settings(write(tmp_path / "core_tags.json", {"Zog": ["red hair"], "Zog|_coat": ["coat"]})).config
    assert [(item.name, item.core_tags) for item in lists.concepts] == [("Zog", ("red hair",)), ("Zog_coat", ("coat",))]
    split = {"Zog": {"kept": ["hat"], "dropped": ["red hair"], "emb_init": ["horns"]}}
    (zog,) = import_settings(write(tmp_path / "x.json", split)).config.concepts
    assert (zog.core_tags, zog.init_text) == (("red hair", "horns"), "horns")


def test_initializations_with_noise(tmp_path):
    table = 'name,start,other\nzog,"red hat *[0.01, 4]",x\nmib,"*[0.1, 10]",\nnim\n'
    result = import_settings(write(tmp_path / "names.csv", table))
    assert [(item.name, item.init_text, item.vectors) for item in result.config.concepts] == [
        ("zog", "red hat", 4),
        ("mib", "", 10),
        ("nim", "", Concept().vectors),
    ]
    assert "7 times" in warned(result, "mib") and not warned(result, "zog")
    assert "no column 'other'" in warned(result, "names.csv")


def test_a_table_that_the_tab_exported_comes_back_as_it_was(tmp_path):
    concepts = (
        Concept(
            "zog_v1", "small teal robot, round", 8, ("zog", "zog, the first"), 0.5, 0.9, ("red hair",), "robot", 2.0
        ),
        Concept("mib_v1", "", 0),
    )
    path = write(tmp_path / "concepts.csv", show_concept_lines([asdict(concept) for concept in concepts], ","))
    result = import_settings(path)
    assert (result.config.concepts, result.problems, result.unused) == (concepts, (), ())


def test_lines_of_a_table_that_cannot_be_read_are_named(tmp_path):
    result = import_settings(write(tmp_path / "a.csv", "name,vectors,shade\nzog,four,x\n,3,\nmib,2,\n"))
    assert [(item.name, item.vectors) for item in result.config.concepts] == [("zog", 4), ("mib", 2)]
    found = " ".join(item.message for item in result.problems)
    assert all(words in found for words in ("Line 1: There is no column 'shade'", "Line 2: 'four'", "Line 3: There is"))


def test_names_that_break_the_rules_are_changed_and_stay_as_caption_tags(tmp_path):
    def tokenizer(text):
        return [5] if text == "horse" else [60_000, 60_001]

    values = {"horse": [], "zog (mib)": [], "ZOG MIB": [], "zog mib": []}
    result = import_settings(write(tmp_path / "emb_init.json", values), tokenizer)
    concepts = {concept.aliases: concept.name for concept in result.config.concepts}
    assert concepts == {("horse",): "horse_v1", ("zog (mib)",): "zog_mib", (): "ZOG MIB", ("zog mib",): "zog_mib_v1"}
    assert "horse_v1" in warned(result, "horse")


def test_each_folder_with_images_is_a_name(tmp_path):
    for name in ("5_teal robot", "nim", "horse", "outer/inner", "Reg", ".cache"):
        save_image(tmp_path / name / "a.png")
    (tmp_path / "empty").mkdir()
    save_image(tmp_path / "loose.png")
    result = import_folder_names(tmp_path, lambda text: [5] if text == "horse" else [60_000, 60_001])
    assert [(item.name, item.aliases) for item in result.config.concepts] == [
        ("teal_robot", ("teal robot",)),
        ("horse_v1", ("horse",)),
        ("nim", ()),
        ("outer", ()),
    ]
    assert "by hand" in warned(result, "Reg") and "horse_v1" in warned(result, "horse")
    for folder in (tmp_path / "empty", tmp_path / "gone"):
        with pytest.raises(ConfigError) as caught:
            import_folder_names(folder)
        assert caught.value.problems[0].field == str(folder) and caught.value.problems[0].hint


def test_examples_in_the_documentation_can_be_imported(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")
    page = page.partition("\n## Settings of other programs")[2]
    blocks = re.findall(r"```(toml|yaml|json)\n(.*?)```", page, re.DOTALL)
    kinds = [import_settings(write(tmp_path / f"a.{suffix}", text)).kind for suffix, text in blocks]
    assert [kind.split()[-1] for kind in kinds] == ["scripts", "HCP-Diffusion", "OneTrainer"]


def test_importing_writes_nothing(tmp_path):
    folder = make_tree(tmp_path / "set")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    import_settings(folder)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_an_image_folder_is_itself(tmp_path):
    save_image(tmp_path / "a.png")
    write(tmp_path / "settings.toml", "seed = 1")
    result = import_settings(tmp_path)
    assert result.config == TrainConfig(data_folder=str(tmp_path))
    assert result.unused == ("settings.toml",)


def test_own_settings_are_recognized(tmp_path):
    result = import_settings(write(tmp_path / "config.json", {"config_version": 1, "rank": 4, "stepps": 1}))
    assert (result.config.rank, result.given) == (4, frozenset({"rank"}))
    assert "stepps" in str(result.problems[0])


class Marker:
    """An object whose pickle writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


NESTED = 100_000
HOSTILE = {
    "deep.json": "[" * NESTED,
    "deep.toml": "x = " + "[" * NESTED,
    "deep.yaml": "[" * NESTED,
    "digits.json": '{"unet_lr": ' + "9" * 100_000 + ', "network_dim": 1e999}',
    "aliases.yaml": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "merge.yaml": "a: &a {x: 1}\nb: {<<: *a}",
    "python.yaml": "a: !!python/object/apply:os.system ['true']",
    "list.yaml": "- 1",
    "number.json": "3",
    "empty.json": "",
    "metadata.json": '{"a.png": {"caption": "zog"}}',
    "words.json": '{"a": 1}',
    "broken.toml": "[[datasets]\n",
    "names.csv": "\n\n",
    "notes.txt": "text",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_get_one_error(tmp_path, name):
    path = write(tmp_path / name, HOSTILE[name])
    if name == "digits.json":
        assert {"unet_lr", "network_dim"} <= set(import_settings(path).unused)
        return
    with pytest.raises(ConfigError) as caught:
        import_settings(path)
    (problem,) = caught.value.problems
    assert problem.field == str(path) and problem.hint
    assert len(str(problem)) < 600


def test_files_that_are_not_text_are_refused(tmp_path):
    marker = tmp_path / "executed"
    for name in ("a.json", "a.toml", "a.yaml", "a.csv"):
        (tmp_path / name).write_bytes(pickle.dumps(Marker(marker)))
        with pytest.raises(ConfigError, match="text file"):
            import_settings(tmp_path / name)
    (tmp_path / "big.json").write_bytes(b"[" + b" " * 2**23 + b"]")
    for path, message in ((tmp_path / "big.json", "MiB"), (tmp_path / "none.json", "cannot be read")):
        with pytest.raises(ConfigError, match=message):
            import_settings(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no images"):
        import_settings(tmp_path / "empty")
    assert not marker.exists()


_KEYS = """
    datasets subsets general image_dir num_repeats is_reg resolution additional_embeddings concept_file_name concepts
    path text image placeholder epochs network_dim unet_lr network_args train_data_dir token_string data source
    img_root word_names tokenizer_pt train name lr lora_unet rank bucket target_size bg_color caption_file kept
    dropped _base_ repeats balancing balancing_strategy type model scheduler text_transforms transforms
"""
KEYS = st.sampled_from(_KEYS.split())
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["${a}", "SAMPLES"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=6), st.sampled_from(["a.json", "a.yaml", "core.json"]))
def test_values_of_any_type_are_read_or_refused(tmp_path, values, name):
    path = write(tmp_path / name, values)
    with contextlib.suppress(PivotalError):
        assert isinstance(import_settings(path).config, TrainConfig)


def test_existing_settings_win_unless_they_are_defaults(tmp_path):
    values = {"Zog": ["horns"], "Mib": ["coat"]}
    names = import_settings(write(tmp_path / "emb_init.json", values))
    existing = TrainConfig(rank=4, concepts=(Concept("zog", vectors=8), Concept("nim", "fish")))
    both = merged(existing, names)
    assert both.concepts == (Concept("zog", "horns", 8), Concept("nim", "fish"), Concept("Mib", "coat"))
    training = import_settings(write(tmp_path / "t.json", {"network_dim": 32, "unet_lr": 1e-5, "seed": 3}))
    both = merged(existing, training)
    assert (both.rank, both.unet_lr, both.seed, both.concepts) == (4, 1e-5, 3, existing.concepts)
    folders = import_settings(write(tmp_path / "set.toml", KOHYA))
    mine = Subset(r"D:\zog", repeats=2.0)
    assert merged(TrainConfig(subsets=(mine,)), folders).subsets == (mine, folders.config.subsets[1])
