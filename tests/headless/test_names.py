"""Names in every alphabet with CLIP's real tokenizer: what Check accepts is found in captions and prompts."""

from __future__ import annotations

import json

import pytest
import transformers

from lib_pivotal.cli.main import main
from lib_pivotal.core.bundle.embedding_file import embedding_name
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.names import check_names, suggest_name, token_key
from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.textual_inversion.prompt_chunks import PromptChunker
from lib_pivotal.host.diffusers.tokenizer import write_tokenizer
from tests.unit.toy import write_images

NAMES = [
    "初音ミク", "мия_v1", "Élodie x", "zög_2", "हिन्दी_1", "क्षत्रिय x", "ไทย_1", "น้ำ x", "한국어 x", "עברית_1", "عربي_1", "ΖΟΓΣ_2", "İzog_x",
    "straße 3", "ゔぃ_1", "ガンダム2", "々々x", "naïve-2", "ꝏ_x", "zog_v1", "7of9_x", "x²", "ქართული_1", "አማርኛ_1", "Ёжик 2",
]  # fmt: skip
TEXTS = [
    "{}",
    "{}, red hat",
    "photo of {}, red hat",
    "({})",
    "[{}]",
    "a {} b",
    "{}.",
    "“{}”",
    "日本 {} の 人",
    "red hat, {}",
]


class Encoder:
    """The tokenizer as the trainer uses it."""

    start_id, end_id, pad_id = 49406, 49407, 49407

    def __init__(self, folder) -> None:
        write_tokenizer(folder)
        self._tokenizer = transformers.CLIPTokenizer.from_pretrained(str(folder))

    def tokenize(self, text: str) -> list[int]:
        return list(self._tokenizer(text, truncation=False, add_special_tokens=False)["input_ids"])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return Encoder(tmp_path_factory.mktemp("tokenizer"))


def problems(encoder, name):
    return check_names([Concept(name)], taken={}, tokenizer=encoder.tokenize)


@pytest.mark.parametrize("name", NAMES)
def test_an_accepted_name_is_found_wherever_it_stands_alone(encoder, name):
    assert not [problem for problem in problems(encoder, name) if problem.is_error]
    placer = PromptChunker(encoder, {name: (0, 2)})
    for text in TEXTS:
        assert placer.chunk(text.format(name)).vectors == (0, 1), text
        assert placer.chunk(text.format(name.upper() if name.upper().lower() == name.lower() else name)).vectors == (
            0,
            1,
        ), text
    assert not placer.chunk("a photo of somebody else, red hat").vectors


@pytest.mark.parametrize("name", ["हिन्दी", "ไทยี", "zog_", "my-", "(zog)", "<s0>"])
def test_why_a_name_must_end_in_a_letter_or_digit(encoder, name):
    """The tokenizer joins such a character with a following comma, and then the name is not found."""
    assert not PromptChunker(encoder, {name: (0, 1)}).chunk(f"{name}, red hat").vectors
    (problem,) = problems(encoder, name)
    suggested = suggest_name(name, encoder.tokenize)
    assert problem.is_error
    assert suggested in problem.hint
    assert PromptChunker(encoder, {suggested: (0, 1)}).chunk(f"{suggested}, red hat").vectors


@pytest.mark.parametrize("name", ["初音ミク", "ไทย_ก", "한국어"])
def test_scripts_without_spaces_give_a_warning(encoder, name):
    """Within a run of letters a name is not found, and Check says so."""
    assert not PromptChunker(encoder, {name: (0, 1)}).chunk(f"{name}写真").vectors
    assert "run of letters" in str(problems(encoder, name))


def test_what_a_name_costs(encoder):
    assert "takes 9 of a prompt's 75 tokens" in str(problems(encoder, "初音ミク"))
    assert not problems(encoder, "zog_v1")
    assert not problems(encoder, "мия_v1")


@pytest.mark.parametrize("name", ["cat", "AND", "art", "ー", "((dog))", "Ｃａｔ"])
def test_suggestions_pass_with_the_real_vocabulary(encoder, name):
    assert not any(problem.is_error for problem in problems(encoder, suggest_name(name, encoder.tokenize)))


@pytest.mark.parametrize(
    "pair", [("Zog x", "zOG  x"), ("Élodie", "élodie"), ("e\u0301lodie", "élodie"), ("Ёжик", "ЁЖИК")]
)
def test_the_key_of_a_name_is_what_the_tokenizer_sees(encoder, pair):
    assert encoder.tokenize(pair[0]) == encoder.tokenize(pair[1])
    assert token_key(pair[0]) == token_key(pair[1])


def test_a_bundle_with_names_in_another_alphabet_from_training_to_files(small, tmp_path, capsys):
    write_images(tmp_path / "images", name="初音ミク")
    config = tmp_path / "config.json"
    settings = {
        "checkpoint": str(small.file), "data_folder": str(tmp_path / "images"), "resolution": 64, "steps": 2, "batch_size": 2,
        "rank": 2, "sample_every": 0, "output_name": "ミク_v1",
        "concepts": [{"name": "初音ミク", "init_text": "girl", "vectors": 2}],
    }  # fmt: skip
    config.write_text(json.dumps(settings), encoding="utf-8")
    assert main(["train", str(config), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    bundle = tmp_path / "out" / "ミク_v1.safetensors"
    assert read_bundle(bundle).embeddings["初音ミク"]["clip_l"].shape == (2, 32)
    assert "<lora:ミク_v1:1> 初音ミク" in capsys.readouterr().out
    assert main(["bundle", "verify", str(bundle)]) == 0
    assert main(["bundle", "split", str(bundle), "--out", str(tmp_path / "s")]) == 0
    assert embedding_name(tmp_path / "s" / "初音ミク.safetensors") == "初音ミク"
