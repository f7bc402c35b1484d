"""Which caption belongs to which image: files next to it, metadata files, names of folders and files."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path

import pytest

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.data.scan import scan
from tests.unit.dataset_files import problems_of, save_image, texts


def write(path: Path, content: object) -> Path:
    """A text file, or JSON of anything else; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return path


def captions(folder: Path, **changes: object) -> dict[str, str | None]:
    report = read_dataset(TrainConfig(**{"data_folder": str(folder), **changes}))
    return {image.shown: image.caption for image in report.images}


def warnings(folder: Path, **changes: object) -> str:
    return "\n".join(texts(problems_of(folder, **changes), "warning"))


# -- one file per image


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "zog, hat", "zog, hat"),
        ("a.TXT", "zog, hat", "zog, hat"),
        ("a.png.txt", "zog, hat", "zog, hat"),
        ("A.PNG.TXT", "zog, hat", "zog, hat"),
        ("a.caption", "zog, hat", "zog, hat"),
        ("a.png.caption", "zog, hat", "zog, hat"),
        ("a.json", {"caption": "zog on a hill", "tags": "hat, sunset"}, "zog on a hill, hat, sunset"),
        ("a.png.json", {"tags": ["zog_(mib)", "hat"]}, "zog (mib), hat"),
        ("a.json", {"tags": "zog_(mib) hat"}, "zog (mib), hat"),
        ("a.json", {"tags": {"general": ["red_hat"], "meta": ["highres"], "character": ["zog"]}}, "zog, red hat"),
        (
            "a.json",
            {
                "id": 7,
                "tag_string": "everything highres",
                "tag_string_general": "hat red_tree",
                "tag_string_character": "zog_(mib)",
                "tag_string_copyright": "",
                "tag_string_artist": "somebody",
                "tag_string_meta": "highres",
            },
            "somebody, zog (mib), hat, red tree",
        ),
        (".a_meta.json", {"caption": "zog, hat", "tags": {"hat": 0.9}}, "zog, hat"),
        (".a_meta.json", {"tags": {"red_hat": 0.9, "tree": 0.4}, "characters": ["zog"]}, "zog, red hat, tree"),
        (".a_meta.json", {"processed_tags": ["hat"], "tags": {"other": 1}}, "hat"),
    ],
)
def test_a_caption_file_of_any_kind_is_read(tmp_path, name, content, expected):
    save_image(tmp_path / "a.png")
    write(tmp_path / name, content)
    assert captions(tmp_path) == {"a.png": expected}
    assert not problems_of(tmp_path)


def test_lines_of_a_caption_are_kept(tmp_path):
    save_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes(b" zog, hat\r\nzog in a hat\r\n\r\n")
    assert captions(tmp_path) == {"a.png": "zog, hat\nzog in a hat"}


def test_a_json_file_without_text_leaves_the_image_without_a_caption(tmp_path):
    for name in ("a", "b"):
        save_image(tmp_path / f"{name}.png")
    write(tmp_path / "a.json", {"width": 3})
    write(tmp_path / "b.txt", "zog")
    assert captions(tmp_path) == {"a.png": None, "b.png": "zog"}
    assert "No caption: a.png" in warnings(tmp_path)


@pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"caption": 1' + "0" * 5000 + "}", "[]", '"zog"', "3"])
def test_a_broken_json_file_is_an_error_that_names_it_or_holds_no_caption(tmp_path, content):
    save_image(tmp_path / "a.png")
    write(tmp_path / "a.json", content)
    errors = texts(problems_of(tmp_path))
    assert errors and ("a.json" in errors[0] or "No image in" in errors[0])


def test_values_that_would_have_to_be_unpickled_are_refused(tmp_path):
    """Test input 10: the payload would write a file."""
    mark = tmp_path / "executed"

    class Payload:
        def __reduce__(self):
            return (Path.write_text, (mark, "x"))

    packed = {"__type": "pickle", "base64": base64.b64encode(pickle.dumps(Payload())).decode()}
    data = tmp_path / "data"
    for name in ("a", "b"):
        save_image(data / f"{name}.png")
    write(data / ".a_meta.json", {"tags": packed, "caption": "zog, hat"})
    write(data / ".b_meta.json", {"tags": packed, "characters": ["zog"], "nested": {"x": packed}})
    assert captions(data) == {"a.png": "zog, hat", "b.png": "zog"}
    assert not mark.exists()
    assert "a.png, b.png" in warnings(data) and "Python objects" in warnings(data)


# -- several sources for one image


def test_the_first_of_several_sources_is_used_and_said_once(tmp_path):
    for name in ("a", "b", "c", "d", "e"):
        save_image(tmp_path / f"{name}.png", color=(len(name), ord(name), 0))
        write(tmp_path / f"{name}.caption", "from .caption")
    for name in ("a", "b", "c", "d"):
        write(tmp_path / f"{name}.txt", "from .txt")
    write(tmp_path / "c.json", {"caption": "from .json"})
    write(tmp_path / "meta_cap.json", {"d": {"caption": "from metadata"}})
    write(tmp_path / "metadata.jsonl", '{"file_name": "e.png", "text": "from Hugging Face"}')
    assert list(captions(tmp_path).values()) == ["from .txt"] * 3 + ["from metadata", "from .caption"]
    (found,) = [text for text in texts(problems_of(tmp_path), "warning") if "more than one caption" in text]
    assert "5 images" in found
    assert ".txt before .caption (2)" in found and "metadata before .txt, .caption (1)" in found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("txt", "from .txt"),
        ("caption", "from .caption"),
        ("json", "from metadata"),
        ("folder", "zog robot"),
        ("filename", "zog jumps"),
        ("template", None),
    ],
)
def test_the_source_can_be_chosen(tmp_path, source, expected):
    folder = tmp_path / "10_zog robot"
    save_image(folder / "001 zog jumps_2.png")
    write(folder / "001 zog jumps_2.txt", "from .txt")
    write(folder / "001 zog jumps_2.caption", "from .caption")
    write(folder / "001 zog jumps_2.json", {"caption": "from .json"})
    write(tmp_path / "meta.json", {"10_zog robot/001 zog jumps_2": {"caption": "from metadata"}})
    assert list(captions(tmp_path, caption_source=source).values()) == [expected]
    assert "more than one caption" not in "\n".join(texts(problems_of(tmp_path, caption_source="txt"), "warning"))


def test_two_images_that_share_one_caption_file_are_reported(tmp_path):
    save_image(tmp_path / "x.png")
    save_image(tmp_path / "x.jpg")
    write(tmp_path / "x.txt", "zog")
    assert captions(tmp_path) == {"x.jpg": "zog", "x.png": "zog"}
    assert "x.jpg and x.png share x.txt" in warnings(tmp_path)
    write(tmp_path / "x.jpg.txt", "mib")
    write(tmp_path / "x.png.txt", "zog")
    (tmp_path / "x.txt").unlink()
    assert captions(tmp_path) == {"x.jpg": "mib", "x.png": "zog"}
    assert "share" not in warnings(tmp_path)


# -- names of folders and files


def test_the_name_of_a_numbered_folder_is_the_caption_where_there_is_no_file(tmp_path):
    folder = tmp_path / "10_zog robot"
    for name in ("a", "b", "c"):
        save_image(folder / f"{name}.png", color=(ord(name), 0, 0))
    write(folder / "a.txt", "zog, hat")
    write(folder / "b.txt", "")
    assert list(captions(tmp_path).values()) == ["zog, hat", "", "zog robot"]
    assert "zog robot (1)" in warnings(tmp_path)
    assert list(captions(tmp_path, folder_repeats="no").values()) == ["zog, hat", "", None]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("zog robot (3)", "zog robot"), ("0012-zog robot", "zog robot"), ("zog_2", "zog"), ("zog v2", "zog v2"), ("0012", None)],
)  # fmt: skip
def test_numbers_around_a_file_name_are_no_caption(tmp_path, name, expected):
    save_image(tmp_path / f"{name}.png")
    assert list(captions(tmp_path, caption_source="filename").values()) == [expected]


def test_templates_without_words_are_not_missing_captions(tmp_path):
    save_image(tmp_path / "a.png")
    template = write(tmp_path.parent / "templates" / "mine.txt", "a photo of zog")
    found = problems_of(tmp_path, caption_source="template", caption_template=str(template))
    assert not [text for text in map(str, found) if "has a caption" in text]
    (error,) = texts(problems_of(tmp_path, caption_source="template"))
    assert "caption_template" in error


# -- metadata files


def data_set(folder: Path) -> Path:
    for name in ("cut/a.png", "cut/b.v2.png", "c.jpg"):
        save_image(folder / name, color=(len(name), 9, 9))
    return folder


def test_kohya_metadata_by_path_by_stem_and_by_a_path_of_another_machine(tmp_path):
    folder = data_set(tmp_path / "data")
    write(
        folder / "meta_lat.json",
        {
            "cut/a.png": {"caption": "zog on a hill", "tags": "hat, sunset", "train_resolution": [64, 64]},
            "cut/b.v2": {"tags": ["zog", "sky"]},
            "D:\\old\\c.jpg": {"caption": "zog sits"},
        },
    )
    assert captions(folder) == {
        "c.jpg": "zog sits",
        "cut/a.png": "zog on a hill, hat, sunset",
        "cut/b.v2.png": "zog, sky",
    }
    assert not problems_of(folder)


def test_a_name_that_two_images_have_needs_its_folder(tmp_path):
    for name in ("x/a.png", "y/a.png"):
        save_image(tmp_path / name, color=(ord(name[0]), 9, 9))
    write(tmp_path / "meta.json", {"/old/a.png": {"caption": "whose?"}, "x/a.png": {"caption": "zog"}})
    assert captions(tmp_path) == {"x/a.png": "zog", "y/a.png": None}


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "train.jsonl",
            [
                {"image_path": "cut/a.png", "caption": "zog", "tags": "hat"},
                {"image_path": "/d/b.v2.png", "caption": "zog, hat"},
                {"image_path": "{}/c.jpg", "caption": "zog, hat", "image_size": [1, 2]},
            ],
        ),
        (
            "metadata.jsonl",
            [
                {"file_name": "cut/a.png", "text": "zog, hat"},
                {"file_name": "cut/b.v2.png", "prompt": "zog, hat"},
                {"file_name": "c.jpg", "additional_feature": "zog, hat"},
            ],
        ),
    ],
)
def test_json_lines(tmp_path, name, lines):
    folder = data_set(tmp_path / "data")
    text = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    write(folder / name, text.replace("{}", folder.as_posix()))
    assert set(captions(folder).values()) == {"zog, hat"}
    assert not problems_of(folder)


def test_a_table_of_captions(tmp_path):
    folder = data_set(tmp_path / "data")
    write(folder / "metadata.csv", 'file_name,text\ncut/a.png,"zog, ""hat"""\ncut/b.v2.png,zog\nc.jpg,"two\nlines"\n')
    assert list(captions(folder).values()) == ["two\nlines", 'zog, "hat"', "zog"]
    assert not problems_of(folder)


def test_a_metadata_file_is_read_once_and_what_it_lacks_is_said(tmp_path, monkeypatch):
    folder = data_set(tmp_path / "data")
    write(folder / "meta.json", {"c": {"caption": "zog"}, "gone": {"caption": "x"}, "gone2": "y"})
    opened = []
    open_path = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: opened.append(self.name) or open_path(self, *a, **k))
    found = warnings(folder)
    assert opened.count("meta.json") == 1
    assert "2 entries of meta.json belong to no image" in found


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("meta.json", '{"cut/a.png": {"caption": "x"},}', "meta.json is not JSON"),
        ("metadata.jsonl", '{"file_name": "c.jpg", "text": "zog"}\n{"file_na', "Line 2 of metadata.jsonl is not JSON"),
        ("meta.json", {"/else/x.png": {"caption": "x"}, "/else/y.png": {"caption": "y"}}, "none of the 2 images"),
        ("metadata.csv", "file_name,width\nc.jpg,3\n", "1 .csv"),
        ("settings.json", {"epochs": 3, "list": [1]}, "1 .json"),
    ],
)
def test_a_metadata_file_that_does_not_fit_is_named(tmp_path, name, content, words):
    folder = data_set(tmp_path / "data")
    write(folder / "cut" / "a.txt", "zog")
    write(folder / name, content)
    assert words in "\n".join(map(str, problems_of(folder)))


def test_metadata_files_that_are_too_large_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("lib_pivotal.core.data.metadata_file.MAX_BYTES", 100)
    folder = data_set(tmp_path / "data")
    write(folder / "meta.json", {"c": {"caption": "zog " * 100}})
    assert "meta.json is not read" in "\n".join(map(str, problems_of(folder)))


def test_captions_of_metadata_files_are_cleaned_like_those_of_files(tmp_path):
    save_image(tmp_path / "a.png")
    write(tmp_path / "meta.json", {"a": {"caption": " zog，hat\r\nNegative prompt: lowres"}})
    assert captions(tmp_path) == {"a.png": "zog, hat"}
    assert "generation data" in warnings(tmp_path)


def test_half_characters_are_damaged_characters(tmp_path):
    save_image(tmp_path / "a.png")
    write(tmp_path / "a.json", '{"caption": "zog \\ud800"}')
    report = read_dataset(TrainConfig(data_folder=str(tmp_path)))
    assert report.images[0].caption == "zog \ufffd" and report.digest()
    assert "damaged" in warnings(tmp_path)


# -- what is not used


def test_control_files_of_other_trainers_are_named(tmp_path):
    save_image(tmp_path / "a.png")
    write(tmp_path / "a.txt", "zog")
    for name in ("flip_p.txt", "cond_dropout.txt", "loss_scale.txt", "global.yaml", "local.yaml", "emb_init.json"):
        write(tmp_path / name, "{}")
    found = warnings(tmp_path)
    for name in ("flip_p.txt", "cond_dropout.txt", "loss_scale.txt", "global.yaml", "local.yaml", "emb_init.json"):
        assert f"1 {name}" in found


def test_files_of_operating_systems_are_skipped_silently_and_other_hidden_ones_are_not(tmp_path):
    save_image(tmp_path / "a.png")
    write(tmp_path / "a.txt", "zog")
    for name in ("._a.png", "Thumbs.db", "desktop.ini", ".DS_Store", "__MACOSX/._a.png", "@eaDir/a.png/thumb.jpg"):
        write(tmp_path / name, "x")
    assert list(captions(tmp_path)) == ["a.png"]
    assert not problems_of(tmp_path)
    save_image(tmp_path / ".draft.png")
    save_image(tmp_path / ".later" / "b.png")
    assert "1 hidden file" in warnings(tmp_path) and "1 hidden folder" in warnings(tmp_path)


def test_captions_of_another_source_are_counted(tmp_path):
    save_image(tmp_path / "a.png")
    write(tmp_path / "a.txt", "zog")
    write(tmp_path / "a.caption", "zog")
    assert "1 caption of another source" in warnings(tmp_path, caption_source="txt")


def test_scripts_that_list_a_folder_get_captions_of_all_kinds(tmp_path):
    save_image(tmp_path / "a.png")
    write(tmp_path / "a.caption", "zog")
    assert [image.caption for image in scan(tmp_path)] == ["zog"]


def test_ten_thousand_captions_are_read_in_linear_time(tmp_path, monkeypatch):
    """Counted in comparisons of names, not in seconds."""
    from lib_pivotal.core.data import caption_match

    calls = []
    alike = caption_match.alike
    monkeypatch.setattr(caption_match, "alike", lambda name: calls.append(name) or alike(name))
    monkeypatch.setattr("lib_pivotal.core.data.metadata_file.alike", caption_match.alike)
    for number in range(300):
        (tmp_path / f"i{number}.png").write_bytes(b"x")
    write(tmp_path / "meta.json", {f"/old/i{number}.png": {"caption": "zog"} for number in range(300)})
    assert {image.caption for image in scan(tmp_path)} == {"zog"}
    assert len(calls) < 20 * 300
