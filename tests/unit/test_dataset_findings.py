"""Problems of a dataset are found before the start, all of them, each with a remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_pivotal.core.config.schema import Concept
from lib_pivotal.core.config.subset import Subset
from lib_pivotal.core.data.scan import scan
from tests.unit.dataset_files import problems_of, save_image, texts, write_captions
from tests.unit.toy import ToyEncoder, write_images

# -- images


def test_missing_and_empty_folders_say_so(tmp_path):
    assert "does not exist" in texts(problems_of(tmp_path / "none"))[0]
    assert "contains no images" in texts(problems_of(tmp_path))[0]


def test_every_bad_image_is_named_at_once(tmp_path):
    write_images(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    whole = (tmp_path / "00.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    save_image(tmp_path / "tiny.png", (20, 20))
    (tmp_path / "both.png").write_bytes(b"no image")
    (tmp_path / "both.txt").write_bytes(b"\xff\xfe\xfa")
    errors = texts(problems_of(tmp_path))
    for name in ("broken.png", "cut.png", "tiny.png"):
        assert sum(name in error for error in errors) == 1
    # It has two problems, each with its own remedy.
    assert sum("both." in error for error in errors) == 2
    assert any("Save both.txt as UTF-8." in error for error in errors)
    assert not any("00.png" in error for error in errors)


def test_doubtful_images_are_warnings(tmp_path):
    write_images(tmp_path)
    save_image(tmp_path / "copy1.png", color=(1, 2, 3))
    save_image(tmp_path / "copy2.bmp", color=(1, 2, 3))
    save_image(tmp_path / "long.png", (640, 64))
    problems = problems_of(tmp_path)
    assert not texts(problems)
    warnings = "\n".join(texts(problems, "warning"))
    for words in ("copy2.bmp: It has the same pixels as copy1.png", "long.png", "No caption"):
        assert words in warnings


def test_small_images_and_copies(tmp_path):
    write_images(tmp_path, 3)
    for number in range(8):
        save_image(tmp_path / f"copy{number}.png", color=(9, 9, 9))
        (tmp_path / f"copy{number}.txt").write_text("zog_x")
    for number, level in enumerate((300, 60000)):
        Image.fromarray(np.full((64, 64), level, np.uint16)).save(tmp_path / f"gray{number}.png")
        (tmp_path / f"gray{number}.txt").write_text("zog_x")
    warnings = problems_of(tmp_path, resolution=512)
    assert sum("same pixels" in str(warning) for warning in warnings) == 5
    assert any("2 more images are duplicates" in str(warning) for warning in warnings)
    assert not any("gray" in str(warning) and "same pixels" in str(warning) for warning in warnings)
    assert any(warning.field == "resolution" for warning in warnings)


def test_many_broken_images_stay_readable(tmp_path):
    for number in range(30):
        (tmp_path / f"{number:02d}.png").write_bytes(b"x")
    errors = texts(problems_of(tmp_path))
    assert len(errors) == 11 and "20 more" in errors[-1]


# -- captions


def test_no_captions_at_all_is_an_error(tmp_path):
    save_image(tmp_path / "a.png")
    assert "No image in" in texts(problems_of(tmp_path))[0]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("zog, hat".encode("utf-32-le"), "Save a0.txt as UTF-8."),
        ("zog\u2019s hat".encode("cp1252"), "Save a0.txt as UTF-8."),
        ("髪".encode("cp932"), "Save a0.txt as UTF-8."),
        (b"zog, \0 hat", "Save a0.txt as UTF-8."),
        (b"zog, " * 300_000, "more than 1 MB. Shorten a0.txt, or remove it."),
    ],
    ids=["utf-32", "smart quote", "shift-jis", "nul", "endless"],
)
def test_a_caption_file_that_cannot_be_used_is_an_error_about_the_caption(tmp_path, data, words):
    write_captions(tmp_path, "zog", "zog")
    (tmp_path / "a0.txt").write_bytes(data)
    (error,) = texts(problems_of(tmp_path))
    assert words in error
    assert "epair" not in error


@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_captions_in_utf8_are_read(tmp_path, start):
    write_captions(tmp_path, start + "zog, カフェ")
    assert not problems_of(tmp_path)


def test_a_caption_that_may_not_be_read_is_an_error(tmp_path, monkeypatch):
    write_captions(tmp_path, "zog", "zog")
    opened = Path.open

    def guarded(self, *arguments, **options):
        if self.name == "a1.txt":
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", guarded)
    (error,) = texts(problems_of(tmp_path))
    assert "a1.txt that cannot be read (Permission denied)" in error and "permissions" in error


INFOTEXT = (
    "zog, red sky\nNegative prompt: lowres, bad hands\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 8x8"
)


@pytest.mark.parametrize(
    "caption",
    [
        INFOTEXT,
        INFOTEXT.replace("\n", "\r\n"),
        INFOTEXT.replace("\n", " "),
        "zog, red sky\nSteps: 20, Seed: 1, Size: 512x512",
        "zog, red sky\nNegative prompt: lowres",
    ],
    ids=["lines", "crlf", "one line", "no negative prompt", "only negative prompt"],
)
def test_the_prompt_of_the_webuis_generation_data_is_used(tmp_path, caption):
    write_captions(tmp_path, caption, "zog")
    (warning,) = texts(problems_of(tmp_path), "warning")
    assert "captions of 1 image contain the webui's generation data: a0.png." in warning
    assert "Only the prompt is used" in warning
    assert scan(tmp_path)[0].caption == "zog, red sky"


def test_prose_about_steps_is_not_generation_data(tmp_path):
    caption = "zog on steps: 20 of them, and a sign. Steps: 3, of stone"
    write_captions(tmp_path, caption)
    assert not problems_of(tmp_path)


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        (
            "zog, (red sky:1.3)",
            "Emphasis such as (red sky:1.3) is trained as written in the captions of 1 image: a0.png.",
        ),
        ("zog, (red sky:2)", "Emphasis such as (red sky:2)"),
        ("zog, ((long hair, blue eyes))", "Emphasis such as ((long hair, blue eyes))"),
        ("zog, [[hat]]", "Emphasis such as [[hat]]"),
        (r"zog, (saber \(fate\):1.2)", r"Emphasis such as (saber \(fate\):1.2)"),
        ("zog, [red:blue:0.5] hat", "Prompt editing such as [red:blue:0.5]"),
        ("zog, [red|blue] hat", "Random choice such as [red|blue]"),
        ("zog, {night}", "Text in braces such as {night}"),
        ("zog, __color__ hat", "A wildcard such as __color__"),
        ("zog, <lora:x:1>", "An extra network tag such as <lora:x:1>"),
        ("zog BREAK hat", "A prompt keyword such as BREAK"),
        ("zog AND hat", "A prompt keyword such as AND"),
    ],
)
def test_prompt_syntax_in_a_caption_is_a_warning(tmp_path, caption, words):
    write_captions(tmp_path, caption, "zog, hat")
    (warning,) = texts(problems_of(tmp_path), "warning")
    assert words in warning


@pytest.mark.parametrize(
    "caption",
    [
        "zog, saber (fate), :), (o)_(o), >_<, ^_^",
        r"zog, \(red sky:1.3\), a\|b",
        "zog and a cat, at 10:30 (ratio 16:9), [sic]",
        "zog, band, brand new, breakfast",
        "zog, x_y, foo__bar, a | b",
        "zog ||| {day|night}, {{hat}};;;tree ||| sky\nzog in a hat",
    ],
)
def test_plain_captions_raise_no_false_alarm(tmp_path, caption):
    write_captions(tmp_path, caption)
    assert not problems_of(tmp_path)


@pytest.mark.parametrize(
    ("caption", "changes", "words"),
    [
        ("zog, {day|night}", {"random_choices": False}, "Random choice such as {day|night}"),
        ("zog\nzog, hat", {"random_choices": False}, "A line break"),
        ("zog, {{hat}}", {"random_choices": False}, "Emphasis such as {{hat}}"),
        ("zog ||| hat", {"keep_separator": ""}, "The separator ||| is"),
        ("zog, a;;;b", {"group_separator": "&&"}, "The separator ;;; is"),
    ],
)
def test_caption_syntax_is_trained_as_written_if_its_setting_is_off(tmp_path, caption, changes, words):
    write_captions(tmp_path, caption, "zog, hat")
    assert not problems_of(tmp_path)
    (warning,) = texts(problems_of(tmp_path, **changes), "warning")
    assert words in warning and "is trained as written in the captions of 1 image: a0.png" in warning


def test_emphasis_is_no_finding_if_it_weighs(tmp_path):
    write_captions(tmp_path, "zog, (red sky:1.3)", "zog, ((hat)), [[tree]]")
    assert not problems_of(tmp_path, emphasis=True)


def test_a_placeholder_without_a_name_is_a_warning(tmp_path):
    write_captions(tmp_path, "zog and mib", "[name] on a hill")
    two = (Concept("zog"), Concept("mib"))
    (warning,) = texts(problems_of(tmp_path, concepts=two), "warning")
    assert "[name] stands for no name in the captions of a1.png" in warning
    assert not problems_of(tmp_path, concepts=two[:1])


def test_names_that_always_apply_count_as_mentions_and_captions(tmp_path):
    save_image(tmp_path / "a.png")
    always = (Subset(folder=str(tmp_path), always=("zog",)),)
    assert not problems_of("", subsets=always, concepts=(Concept("zog"),))
    (error,) = texts(problems_of("", subsets=always, concepts=(Concept("mib", aliases=("zok",)),)))[:1]
    assert error.startswith("subsets[0].always: 'zog' is not a concept")


def test_a_line_without_the_name_is_a_warning(tmp_path):
    write_captions(tmp_path, "zog, hat\na robot with a hat", "{zog|mib}, hat")
    (warning,) = texts(problems_of(tmp_path, concepts=(Concept("zog"),)), "warning")
    assert "Not every line or choice of the captions of 2 images mentions a concept: a0.png, a1.png" in warning


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"drop_tags": ("/(/",)}, "drop_tags", "is not a valid regular expression"),
        ({"protected_tags": ("/[/", "hat")}, "protected_tags", "is not a valid regular expression"),
        ({"group_separator": "|||"}, "group_separator", "the same as the keep separator"),
        ({"keep_separator": ","}, "keep_separator", "A comma already separates tags"),
        ({"caption_template": "missing.txt"}, "caption_template", "does not exist"),
    ],
)
def test_settings_of_captions_that_cannot_be_used_are_errors(tmp_path, changes, field, words):
    write_captions(tmp_path, "zog, hat")
    (problem,) = problems_of(tmp_path, **changes)
    assert problem.is_error and problem.field == field and words in problem.message


@pytest.mark.parametrize(
    ("contents", "words"),
    [(b"\xff\xfe", "not UTF-8"), (b"\n \n", "contains no template"), (b"a" * 1_000_001, "more than 1 MB")],
)
def test_a_template_file_that_cannot_be_used_is_an_error(tmp_path, contents, words):
    write_captions(tmp_path / "data", "zog, hat")
    (tmp_path / "t.txt").write_bytes(contents)
    (problem,) = problems_of(tmp_path / "data", caption_template=str(tmp_path / "t.txt"))
    assert problem.field == "caption_template" and words in problem.message


def test_one_finding_for_each_kind_of_syntax(tmp_path):
    write_captions(tmp_path, *["zog, (sky:1.2), {a}"] * 9)
    warnings = [text for text in texts(problems_of(tmp_path), "warning") if "as written" in text]
    assert len(warnings) == 2
    assert all("9 images: a0.png, a1.png, a2.png, a3.png, a4.png and 4 more" in warning for warning in warnings)


@pytest.mark.parametrize("has_tokenizer", [True, False])
def test_endless_captions_are_a_warning_that_names_them(tmp_path, has_tokenizer):
    write_captions(tmp_path, "zog, hat", "zog " + "hat " * 250, "zog " + "hat " * 900, "zog " + "hat " * 30_000)
    (warning,) = texts(problems_of(tmp_path, ToyEncoder().tokenize if has_tokenizer else None), "warning")
    chunks = (", 13 chunks", ", 400 chunks") if has_tokenizer else ("", "")
    assert f"a2.png (about 901{chunks[0]}), a3.png (about 30000{chunks[1]})" in warning
    assert "a0.png" not in warning and "a1.png" not in warning


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["(", "[:", "{|", "__a", " ", "((a:", "\\", ": ", ",", "zog "])
def test_a_hostile_caption_costs_no_time(tmp_path, piece):
    """A regular expression that backtracks would take hours."""
    write_captions(tmp_path, "zog, (" + piece * (100_000 // len(piece)) + "x")
    problems_of(tmp_path, concepts=(Concept("zog", aliases=("red hat",)),))


# -- concepts


def test_concept_that_no_caption_mentions(tmp_path):
    write_images(tmp_path)
    concepts = (Concept("zog_x"), Concept("mib_x"), Concept("ghost", aliases=("tag 1",)))
    assert [problem.field for problem in problems_of(tmp_path, concepts=concepts)] == ["concepts[1].name"]


@pytest.mark.parametrize(("named", "is_warned"), [(1, True), (3, True), (4, False), (7, False)])
def test_a_warning_when_most_captions_name_no_concept(tmp_path, named, is_warned):
    write_captions(tmp_path, *["zog, hat"] * named, *["1girl, hat"] * (7 - named))
    warnings = texts(problems_of(tmp_path, concepts=(Concept("zog"),)), "warning")
    assert any(f"{7 - named} of 7 captions mention no concept" in text for text in warnings) == is_warned


@pytest.mark.parametrize(
    ("caption", "alias"),
    [
        ("初音ミクが公園に座っている", "初音ミク"),
        ("一个初音未来坐在公园里", "初音未来"),
        ("これはmikuの絵です", "miku"),
        ("미쿠는 공원에 앉아 있다", "미쿠"),
        ("caf\u00e9 girl, park", "cafe\u0301 girl"),
        ("cafe\u0301 girl, park", "caf\u00e9 girl"),
        ("a cafe\u0301 girl in a park", "caf\u00e9 girl"),
        ("(hatsune miku:1.2), red sky", "hatsune miku"),
        ("red sky, ((hatsune miku, blue hair))", "hatsune miku"),
        ("red sky, ((blue hair, hatsune miku:1.2))", "hatsune miku"),
        ("red sky, [hatsune_miku]", "hatsune miku"),
        ("{{{hatsune miku}}}", "hatsune miku"),
        (r"(saber \(fate\):1.2), red sky", "saber (fate)"),
        ("(saber (fate):1.2), red sky", "saber (fate)"),
        ("((saber (fate))), red sky", "saber (fate)"),
    ],
)
def test_an_alias_is_found_however_it_stands_there(tmp_path, caption, alias):
    write_captions(tmp_path, caption)
    assert not texts(problems_of(tmp_path, concepts=(Concept("zog_v1", aliases=(alias,)),)))
