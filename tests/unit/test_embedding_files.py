"""Embedding files of every program that writes them: keys, names, files next to a LoRA."""

from __future__ import annotations

import json
import unicodedata

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.core.bundle.embedding_file import embedding_name, read_embedding_file
from lib_pivotal.core.bundle.embeddings import paired_files, read_embeddings
from lib_pivotal.core.bundle.layout import choose_suffixes
from lib_pivotal.core.bundle.tools import split
from lib_pivotal.core.bundle.tools_add import pack
from lib_pivotal.core.errors import ConfigError
from tests.unit.bundle_samples import LORA, NETWORKS, sd1, sdxl

X = sdxl()
NUMBERED = {"text_encoders_0": X["clip_l"], "text_encoders_1": X["clip_g"]}
SD1_FORMS = {
    "kohya": {"emb_params": sd1()},
    "OneTrainer": {"emp_params": sd1()},
    "OneTrainer with output": {"emp_params": sd1(), "emp_params_out": sd1(3, 9)},
    "diffusers": {"<zog>": sd1()},
    "diffusers' first script": {"text_encoders_0": sd1()},
    "OneTrainer SDXL's way": {"clip_l": sd1(), "clip_l_out": sd1(3, 9)},
    "LyCORIS": {"string_to_param.*": sd1()},
    "several tokens": {"<s10>": sd1()[2], "<s2>": sd1()[1], "<s1>": sd1()[0]},
    "several tokens with rows": {"<a>": sd1()[:2], "<b>": sd1()[2:]},
}
SDXL_FORMS = {
    "diffusers": X,
    "cog-sdxl": NUMBERED,
    "both spellings": {**X, "text_encoders_0": sd1(3, 8), "text_encoders_1": torch.zeros(3, 1280)},
    "OneTrainer": {**X, "clip_l_out": sd1(3, 9), "clip_g_out": torch.ones(3, 1280)},
}


def written(path, tensors, metadata=None):
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, path, metadata)
    return path


@pytest.mark.parametrize("ending", [".safetensors", ".pti", ".SAFETENSORS"])
@pytest.mark.parametrize("form", SD1_FORMS)
def test_forms_of_one_encoder(tmp_path, form, ending):
    found = read_embedding_file(written(tmp_path / f"e{ending}", SD1_FORMS[form]), "zog")
    assert torch.equal(found.embeddings["zog"].encoders["clip_l"], sd1())
    assert not any(problem.is_error for problem in found.problems)


@pytest.mark.parametrize("ending", [".safetensors", ".pti"])
@pytest.mark.parametrize("form", SDXL_FORMS)
def test_forms_of_two_encoders(tmp_path, form, ending):
    item = read_embedding_file(written(tmp_path / f"e{ending}", SDXL_FORMS[form]), "zog").embeddings["zog"]
    assert item.encoders.keys() == {"clip_l", "clip_g"}
    assert all(torch.equal(item.encoders[encoder], X[encoder]) for encoder in X)


def test_the_usual_suffix_comes_first():
    choice = choose_suffixes(["text_encoders_0", "clip_l", "emb_params"])
    assert choice.used == {"clip_l": "clip_l"}
    assert choice.ignored.keys() == {"text_encoders_0", "emb_params"}


@pytest.mark.parametrize("form", [*SD1_FORMS, "old .pt with parameters"])
def test_the_same_in_a_pickle_through_the_given_loader(tmp_path, form):
    contents = SD1_FORMS.get(
        form, {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(sd1())}), "name": "n", "step": 5}
    )
    path = tmp_path / "e.pt"
    path.write_bytes(b"\x80\x02pickle")
    found = read_embedding_file(path, "zog", lambda _path: contents)
    assert torch.equal(found.embeddings["zog"].encoders["clip_l"], sd1())


def test_a_safetensors_file_called_pt_needs_no_loader(tmp_path):
    assert read_embedding_file(written(tmp_path / "e.pt", {"emb_params": sd1()}), "zog").embeddings


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (LORA, "it is a LoRA"),
        (NETWORKS["LoHa"][0], "it is a LoHa"),
        ({"model.diffusion_model.a.weight": torch.ones(768), "b": torch.ones(768)}, "it is a checkpoint"),
        ({"a": torch.ones(2, 768), "b": torch.ones(2, 1280)}, "an unknown kind"),
        ({"a": torch.ones(2, 8), "b": torch.ones(2, 8)}, "an unknown kind"),
        ({f"<s{number}>": torch.ones(768) for number in range(76)}, "an unknown kind"),
    ],
)
def test_a_file_without_embeddings_is_one_problem_that_names_it(tmp_path, tensors, words):
    found = read_embedding_file(written(tmp_path / "hat.safetensors", tensors), "zog")
    assert not found.embeddings
    (problem,) = found.problems
    assert problem.field == "hat.safetensors"
    assert words in problem.message


def test_every_problem_of_a_file_names_it(tmp_path):
    path = written(tmp_path / "hat.safetensors", {"emp_params": sd1() * torch.nan, "odd": sd1()})
    assert {problem.field for problem in read_embedding_file(path, "zog").problems} == {"hat.safetensors"}


# -- next to a LoRA


def read_next_to(tmp_path, lora, files):
    path = tmp_path / lora
    save_file(LORA, path)
    for name, tensors in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        written(tmp_path / name, tensors)
    return read_embeddings(path, with_paired=True).embeddings


@pytest.mark.parametrize("folder", ["ot.safetensors_embeddings", "ot_embeddings"])
def test_onetrainer_folder(tmp_path, folder):
    found = read_next_to(
        tmp_path,
        "ot.safetensors",
        {f"{folder}/mia_v1.safetensors": SD1_FORMS["OneTrainer with output"], f"{folder}/zog.safetensors": X},
    )
    assert found.keys() == {"mia_v1", "zog"}
    assert torch.equal(found["mia_v1"].encoders["clip_l"], sd1())


@pytest.mark.parametrize(
    ("lora", "file", "names"),
    [
        ("y2k.safetensors", "y2k_emb.safetensors", {"y2k", "<s0>", "<s1>", "<s2>"}),
        ("lora.safetensors", "embeddings.pti", {"<s0>", "<s1>", "<s2>"}),
        ("lora.safetensors", "embeddings.safetensors", {"<s0>", "<s1>", "<s2>"}),
        ("unet.safetensors", "embeddings.pti", {"<s0>", "<s1>", "<s2>"}),
        ("pytorch_lora_weights.safetensors", "embeddings.safetensors", {"<s0>", "<s1>", "<s2>"}),
        ("mine.safetensors", "embeddings.safetensors", set()),
        ("mine.safetensors", "embeddings.pti", set()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tensors", [X, NUMBERED], ids=["names", "numbers"])
def test_files_of_tokens(tmp_path, lora, file, names, tensors):
    found = read_next_to(tmp_path, lora, {file: tensors})
    assert found.keys() == names
    if names:
        assert torch.equal(found["<s1>"].encoders["clip_g"], X["clip_g"][1:2])
        assert paired_files(tmp_path / lora) == [tmp_path / file]


def test_a_lora_whose_name_leaves_no_room_for_more(tmp_path):
    path = tmp_path / ("x" * 240 + ".safetensors")
    save_file({**LORA, "bundle_emb.zog.emb_params": sd1()}, path)
    found = read_embeddings(path, with_paired=True)
    assert set(found.embeddings) == {"zog"}
    assert not found.problems


def test_names_in_the_bundle_come_first(tmp_path):
    path = written(tmp_path / "x.safetensors", {**LORA, "bundle_emb.zog.clip_l": sd1(1, 5)})
    (tmp_path / "x_embeddings").mkdir()
    written(tmp_path / "x_embeddings" / "zog.safetensors", {"clip_l": sd1()})
    found = read_embeddings(path, with_paired=True)
    assert torch.equal(found.embeddings["zog"].encoders["clip_l"], sd1(1, 5))
    assert "same name" in str(found.problems)


# -- names


NAMES = [
    "初音ミク",
    "Ёжик",
    "हिन्दी",
    "<s0>",
    "(weighted)",
    "👍",
    "con",
    "Zog",
    "zog x",
    "v1.0",
    "a/b",
    "a:b",
    "x_lora",
    "é",
    "...",
]


def test_split_keeps_every_name_and_pack_finds_them_again(tmp_path):
    bundle = tmp_path / "many.safetensors"
    tensors = {f"bundle_emb.{name}.emb_params": sd1(1, number) for number, name in enumerate(NAMES)}
    save_file({**LORA, **tensors}, bundle)
    written_files = split(bundle, tmp_path / "s")
    stems = {path.stem for path in written_files.paths}
    assert {"初音ミク", "Ёжик", "हिन्दी", "Zog", "zog x", "v1.0", "é", "con_1"} <= stems
    said = {problem.message for problem in written_files.problems}
    assert "(weighted) is now in weighted.safetensors." in said
    assert "con is now in con_1.safetensors." in said
    assert not any("初音ミク" in text for text in said)
    assert {embedding_name(path) for path in written_files.paths[1:]} == set(NAMES)
    assert len({path.name.casefold() for path in written_files.paths}) == len(NAMES) + 1


def test_names_that_differ_only_in_case_do_not_collide_on_windows(tmp_path):
    bundle = tmp_path / "x.safetensors"
    # One name to the tokenizer, and two to somebody who reads only part of the file.
    save_file({**LORA, "bundle_emb.<zog>.emb_params": sd1(), "bundle_emb.Zog.emb_params": sd1(1)}, bundle)
    paths = split(bundle, tmp_path / "s").paths
    assert sorted(path.name for path in paths) == ["Zog-2.safetensors", "x_lora.safetensors", "zog.safetensors"]


def test_a_file_system_that_stores_accents_separately_does_not_rename(tmp_path):
    """As on a Mac, and in archives packed there."""
    bundle = tmp_path / "x.safetensors"
    save_file({**LORA, "bundle_emb.café: v2.emb_params": sd1()}, bundle)
    path = split(bundle, tmp_path / "s").paths[1]
    path = path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    assert embedding_name(path) == "café: v2"


def test_a_renamed_file_has_the_new_name(tmp_path):
    bundle = tmp_path / "x.safetensors"
    save_file({**LORA, "bundle_emb.<zog>.emb_params": sd1()}, bundle)
    path = split(bundle, tmp_path / "s").paths[1]
    assert embedding_name(path) == "<zog>"
    assert embedding_name(path.rename(path.with_name("hat_v1.safetensors"))) == "hat_v1"


@pytest.mark.parametrize("value", ["", "{}", "[", '{"name": 5}', '{"name": ["a"]}', '{"name": "\ud800"}', "[" * 5000])
def test_metadata_that_is_not_a_name_is_ignored(tmp_path, value):
    path = tmp_path / "hat.safetensors"
    header = {
        "__metadata__": {"pivotal_embedding": value},
        "emb_params": {"dtype": "F32", "shape": [1, 4], "data_offsets": [0, 16]},
    }
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(16))
    assert embedding_name(path) == "hat"


def test_pack_from_the_command_line_takes_the_name_inside(tmp_path):
    from lib_pivotal.cli.main import main

    lora, out = written(tmp_path / "l.safetensors", LORA), tmp_path / "o.safetensors"
    bundle = written(tmp_path / "b.safetensors", {**LORA, "bundle_emb.初.音 x.emb_params": sd1()})
    path = split(bundle, tmp_path / "s").paths[1]
    assert main(["bundle", "pack", str(lora), f"hat_v1={path}", "--out", str(out)]) == 0
    assert read_embeddings(out).embeddings.keys() == {"hat_v1"}
    equals = path.rename(tmp_path / "a=b.safetensors")
    assert main(["bundle", "pack", str(lora), str(equals), "--out", str(out), "--overwrite"]) == 2, "a=b is not a name"
    assert main(["bundle", "pack", str(lora), f"zog x={equals}", "--out", str(out), "--overwrite"]) == 0
    assert (
        main(["bundle", "pack", str(lora), f"zog x={equals}", f"zog x={equals}", "--out", str(out), "--overwrite"]) == 2
    )


@pytest.mark.parametrize("tensors", [NUMBERED, SD1_FORMS["OneTrainer with output"]])
def test_packed_embeddings_are_in_the_common_form(tmp_path, tensors):
    lora = written(tmp_path / "l.safetensors", LORA)
    pack(lora, {"zog_v1": written(tmp_path / "embeddings.pti", tensors)}, tmp_path / "o.safetensors")
    expected = {"clip_l", "clip_g"} if tensors is NUMBERED else {"clip_l"}
    assert read_embeddings(tmp_path / "o.safetensors").embeddings["zog_v1"].encoders.keys() == expected


def test_merge_says_what_a_file_without_embeddings_is_missing(tmp_path):
    from lib_pivotal.core.bundle.tools_add import merge

    path = written(tmp_path / "l.safetensors", LORA)
    with pytest.raises(ConfigError, match="contains no embeddings"):
        merge(path, path, tmp_path / "o.safetensors")
