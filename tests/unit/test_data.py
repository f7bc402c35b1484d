"""From a folder to what a step sees."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.data.bucket import bucket_for, bucket_sizes, crop
from lib_pivotal.core.data.caption import CaptionMaker
from lib_pivotal.core.data.findings import inspect_pictures
from lib_pivotal.core.data.latents import LatentEntry, encode_all
from lib_pivotal.core.data.pixels import load_pixels
from lib_pivotal.core.data.plan import Plan
from lib_pivotal.core.data.scan import scan
from lib_pivotal.core.errors import DatasetError, Interrupted
from tests.unit.toy import ToyCodec, write_pictures

# -- scan and findings


def save(path, size=(64, 64), colour=(10, 200, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def test_scan_reads_kohya_repeats_captions_and_orientation(tmp_path):
    save(tmp_path / "3_zog" / "a.PNG", (40, 80))
    (tmp_path / "3_zog" / "a.txt").write_text("\ufeff zog, left \n", encoding="utf-8")
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "plain" / "b.jpg", (40, 80), exif=exif)
    save(tmp_path / ".hidden" / "c.png")
    save(tmp_path / "d-masklabel.png")
    pictures = scan(tmp_path)
    assert [(p.path.name, p.repeats, p.caption) for p in pictures] == [("a.PNG", 3, "zog, left"), ("b.jpg", 1, None)]
    assert (pictures[0].width, pictures[0].height) == (40, 80)
    assert (pictures[1].width, pictures[1].height) == (80, 40)


def findings(folder, **changes):
    config = TrainConfig(data_folder=str(folder), resolution=64, **changes)
    return inspect_pictures(folder, scan(folder), config)


def texts(problems, severity="error"):
    return [str(problem) for problem in problems if problem.severity == severity]


def test_missing_and_empty_folders_say_so(tmp_path):
    assert "does not exist" in texts(findings(tmp_path / "none"))[0]
    assert "no pictures" in texts(findings(tmp_path))[0]
    (tmp_path / "file").write_text("x")
    assert "is a file" in texts(findings(tmp_path / "file"))[0]


def test_every_bad_picture_is_named_at_once(tmp_path):
    write_pictures(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    whole = (tmp_path / "00.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    save(tmp_path / "tiny.png", (20, 20))
    (tmp_path / "bad.png").write_bytes(whole)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    errors = "\n".join(texts(findings(tmp_path)))
    for name in ("broken.png", "cut.png", "tiny.png", "bad.png"):
        assert name in errors
    assert "00.png" not in errors


def test_doubtful_pictures_are_warnings(tmp_path):
    write_pictures(tmp_path)
    save(tmp_path / "copy1.png", (64, 64), (1, 2, 3))
    save(tmp_path / "copy2.png", (64, 64), (1, 2, 3))
    save(tmp_path / "long.png", (640, 64))
    problems = findings(tmp_path)
    assert not texts(problems)
    warnings = "\n".join(texts(problems, "warning"))
    assert "copy2.png" in warnings and "copy1.png" in warnings and "long.png" in warnings and "No caption" in warnings


def test_small_pictures_copies_and_dates(tmp_path):
    write_pictures(tmp_path, 3)
    for number in range(8):
        save(tmp_path / f"copy{number}.png", (64, 64), (9, 9, 9))
        (tmp_path / f"copy{number}.txt").write_text("zog_x")
    for number, level in enumerate((300, 60000)):
        Image.fromarray(np.full((64, 64), level, np.uint16)).save(tmp_path / f"grey{number}.png")
        (tmp_path / f"grey{number}.txt").write_text("zog_x")
    config = TrainConfig(resolution=512)
    warnings = inspect_pictures(tmp_path, scan(tmp_path), config)
    assert sum("same picture" in str(warning) for warning in warnings) == 5
    assert any("2 more pictures are there twice" in str(warning) for warning in warnings)
    assert not any("grey" in str(warning) and "same picture" in str(warning) for warning in warnings)
    assert any(warning.field == "resolution" for warning in warnings)
    save(tmp_path / "20231105_trip" / "a.png")
    assert {picture.repeats for picture in scan(tmp_path)} == {1}


def test_many_broken_pictures_stay_readable(tmp_path):
    for number in range(30):
        (tmp_path / f"{number:02d}.png").write_bytes(b"x")
    errors = texts(findings(tmp_path))
    assert len(errors) == 11 and "20 more" in errors[-1]


def test_no_captions_at_all_is_an_error(tmp_path):
    save(tmp_path / "a.png")
    assert "No picture" in texts(findings(tmp_path))[0]


def test_concept_that_no_caption_mentions(tmp_path):
    write_pictures(tmp_path)
    concepts = (Concept("zog_x"), Concept("mib_x"), Concept("ghost", aliases=("tag 1",)))
    problems = findings(tmp_path, concepts=concepts)
    assert [problem.field for problem in problems] == ["concepts[1].name"]


# -- captions


def maker(*concepts, **changes):
    values = {"shuffle_tags": False, "tag_dropout": 0.0, "name_only": 0.0, "caption_dropout": 0.0}
    return CaptionMaker(concepts, TrainConfig(**{**values, **changes}))


ZOG = Concept("zog", aliases=("teal hexagon", "saber (fate)"))


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("teal hexagon, left", "zog, left"),
        ("Teal_Hexagon, left", "zog, left"),
        (r"saber \(fate\), left", "zog, left"),
        ("saber (fate)", "zog"),
        ("a teal hexagon on grass", "a zog on grass"),
        ("a teal_hexagon on grass", "a zog on grass"),
        (r"a picture of saber \(fate\) in a park", "a picture of zog in a park"),
        ("teal hexagons, left", "teal hexagons, left"),
        ("dark teal hexagon, left", "dark teal hexagon, left"),
        ("left, a teal hexagon sits on the green grass", "left, a zog sits on the green grass"),
        ("dark teal hexagon2", "dark teal hexagon2"),
        ("zogling, left", "zogling, left"),
        ("dark_teal_hexagon", "dark_teal_hexagon"),
        ("", ""),
    ],
)
def test_aliases_are_replaced_as_whole_words_only(caption, expected):
    assert maker(ZOG).normalise(caption) == expected


def test_the_longest_words_of_all_concepts_win_and_nothing_is_replaced_twice():
    make = maker(
        Concept("surtr", aliases=("girl",)), Concept("chenx", aliases=("dragon girl", "_")), Concept("zog-girl")
    )
    assert make.normalise("a dragon girl sits") == "a chenx sits"
    assert make.normalise("a zog-girl on grass") == "a zog-girl on grass"
    assert make.normalise("A cat. Red (hat).") == "A cat. Red (hat)."
    assert make.concepts_in("a dragon girl and a girl") == {"chenx", "surtr"}
    assert maker(Concept("a\\q", aliases=("teal",))).normalise("some teal thing") == "some a\\q thing"


def test_a_tag_that_only_holds_an_alias_is_another_tag():
    make = maker(Concept("zog_v1", aliases=("girl", "magical_girl")))
    assert make.normalise("girl, cat girl, girl_sitting, left") == "zog_v1, cat girl, girl_sitting, left"
    assert make.normalise("Magical Girl, smile") == "zog_v1, smile"
    assert make.normalise("a magical girl and a girl") == "a zog_v1 and a zog_v1"
    assert make.normalise("the big_girl waits") == "the big_girl waits"
    assert not make.concepts_in("cat girl, left")


def test_a_name_within_a_tag_is_a_mention():
    make = maker(Concept("zog_v1"), shuffle_tags=True)
    assert make.concepts_in("left, photo of ZOG_v1") == {"zog_v1"}
    assert {make.vary("left, photo of zog_v1", random.Random(seed)) for seed in range(9)} == {"photo of zog_v1, left"}


@pytest.mark.parametrize("caption", ["a g\u0131rl sits", "mag\u0131cal", "a \u017fign here", "G\u0130RL"])
def test_letters_without_a_pair_are_no_alias_and_no_failure(caption):
    """Python finds the dotless i and the long s where i and s are looked for in any case."""
    make = maker(Concept("zog_v1", aliases=("girl", "magical", "sign")))
    assert make.normalise(caption) == caption


def test_escaped_brackets_are_bare_as_in_a_prompt():
    make = maker(ZOG)
    assert make.normalise(r"left, asuka \(eva\), \[x\], a\\b") == r"left, asuka (eva), [x], a\\b"
    assert make.vary(r"hat \(red\)", random.Random(0)) == "hat (red)"


def test_names_stay_in_front_and_are_never_dropped():
    make = maker(ZOG, shuffle_tags=True, tag_dropout=0.5)
    seen = {make.vary("left, teal hexagon, red, blue, green", random.Random(seed)) for seed in range(60)}
    assert len(seen) > 10 and all(text.split(", ")[0] == "zog" for text in seen)
    assert any("red" not in text for text in seen) and any("red" in text for text in seen)
    assert any(text.index("left") > text.index("blue") for text in seen if "left" in text and "blue" in text)


def test_dropouts_happen_as_often_as_asked():
    make = maker(ZOG, name_only=0.3, caption_dropout=0.2)
    texts_seen = [make.vary("zog, left", random.Random(seed)) for seed in range(2000)]
    assert 0.16 < texts_seen.count("") / 2000 < 0.24
    assert 0.26 < texts_seen.count("zog") / 2000 < 0.34


def test_caption_without_names_is_not_cut_to_nothing():
    assert maker(ZOG, name_only=1.0).vary("left, red", random.Random(0)) == "left, red"


# -- buckets


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([64, 256, 512, 768, 1024]))
@settings(max_examples=200, deadline=None)
def test_bucket_and_crop_hold_for_any_picture(width, height, resolution):
    bucket = bucket_for(width, height, resolution)
    assert bucket[0] % 64 == bucket[1] % 64 == 0
    assert bucket[0] * bucket[1] <= resolution * resolution
    cut = crop(width, height, bucket)
    assert cut.width >= cut.left + bucket[0] and cut.height >= cut.top + bucket[1]
    assert min(cut.width - bucket[0], cut.height - bucket[1]) == 0
    assert cut.left >= 0 and cut.top >= 0
    assert abs(cut.width * height - cut.height * width) <= max(width, height)


def test_known_buckets():
    assert bucket_for(512, 512, 512) == (512, 512)
    assert bucket_for(1920, 1080, 512) == (640, 384)
    assert bucket_for(1080, 1920, 512) == (384, 640)
    assert (1024, 1024) in bucket_sizes(1024) and bucket_sizes(64) == ((64, 64),)
    assert bucket_for(300, 300, 500) == (448, 448) and bucket_for(300, 300, 100) == (64, 64)


# -- pixels and latents


def test_pixels_are_upright_white_backed_and_mirrored(tmp_path):
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[:, :32] = (255, 0, 0, 255)
    Image.fromarray(picture, "RGBA").save(tmp_path / "a.png")
    pixels = load_pixels(tmp_path / "a.png", (64, 64), mirrored=False)
    assert pixels.shape == (3, 64, 64)
    assert torch.allclose(pixels[:, 5, 5], torch.tensor([1.0, -1.0, -1.0]))
    assert torch.allclose(pixels[:, 5, 60], torch.ones(3))
    assert torch.equal(load_pixels(tmp_path / "a.png", (64, 64), mirrored=True), pixels.flip(2))


def test_turned_and_sixteen_bit_pictures_are_read_as_shown(tmp_path):
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, :64] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    pixels = load_pixels(tmp_path / "turned.png", (64, 128), mirrored=False)
    assert pixels[0, 5, 5] == 1.0 and pixels[0, 120, 5] == -1.0
    Image.fromarray(np.full((64, 64), 32896, np.uint16)).save(tmp_path / "grey.png")
    assert abs(float(load_pixels(tmp_path / "grey.png", (64, 64), mirrored=False).mean())) < 0.01


class CountingCodec(ToyCodec):
    def __init__(self, identity="toy"):
        self.encoded, self._identity = 0, identity

    def identity(self):
        return self._identity

    def encode(self, pixels):
        self.encoded += len(pixels)
        return super().encode(pixels)


def encode(entries, codec, folder=None, stopped=lambda: False):
    return encode_all(entries, codec, batch_size=2, folder=folder, progress=lambda *_: None, stopped=stopped)


def test_latents_are_cached_by_content_crop_flip_and_codec(tmp_path):
    write_pictures(tmp_path, 2)
    a = tmp_path / "00.png"
    entries = [LatentEntry(a, (64, 64), False), LatentEntry(a, (64, 64), True), LatentEntry(a, (64, 64), False)]
    other_bucket = encode([*entries, LatentEntry(a, (64, 128), False)], CountingCodec())
    assert other_bucket[3].mean.shape == (4, 16, 8)
    first = CountingCodec()
    items = encode(entries, first, tmp_path / "cache")
    assert first.encoded == 2 and torch.equal(items[0].mean, items[2].mean)
    again = CountingCodec()
    stored = encode(entries, again, tmp_path / "cache")
    assert again.encoded == 0 and torch.equal(stored[1].mean, items[1].mean)
    other = CountingCodec("other")
    encode(entries, other, tmp_path / "cache")
    assert other.encoded == 2
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b"damaged")
    repaired = CountingCodec()
    encode(entries, repaired, tmp_path / "cache")
    assert repaired.encoded == 2
    a.write_bytes((tmp_path / "01.png").read_bytes())
    changed = CountingCodec()
    encode(entries, changed, tmp_path / "cache")
    assert changed.encoded == 2


def test_bad_latents_name_the_file(tmp_path):
    write_pictures(tmp_path, 1)

    class Bad(ToyCodec):
        def encode(self, pixels):
            mean, std = super().encode(pixels)
            return mean * float("nan"), std

    with pytest.raises(DatasetError, match=r"00\.png"):
        encode([LatentEntry(tmp_path / "00.png", (64, 64), False)], Bad())
    with pytest.raises(DatasetError, match=r"none\.png"):
        encode([LatentEntry(tmp_path / "none.png", (64, 64), False)], ToyCodec())
    with pytest.raises(Interrupted):
        encode([LatentEntry(tmp_path / "00.png", (64, 64), False)], ToyCodec(), stopped=lambda: True)


# -- the order of pictures


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_plan_shows_every_picture_in_proportion(pictures, items_per_step, seed):
    buckets, repeats = [bucket for bucket, _ in pictures], [count for _, count in pictures]
    plan = Plan(buckets, repeats, items_per_step, seed)
    steps = 60
    seen = [0] * len(pictures)
    for number in range(steps):
        items = plan.step(number)
        assert len(items) == items_per_step and len({buckets[item] for item in items}) == 1
        for item in items:
            seen[item] += 1
    passes = steps * items_per_step / sum(repeats)
    for count, repeat, bucket in zip(seen, repeats, buckets):
        weight = sum(r for b, r in zip(buckets, repeats) if b == bucket)
        slack = repeat * (1 + len(set(buckets)) * items_per_step / weight) + buckets.count(bucket)
        assert abs(count - passes * repeat) <= slack + 1e-9


@pytest.mark.parametrize(("pictures", "repeats"), [(7, 1), (5, 1), (20, 3), (4, 2)])
def test_no_picture_twice_in_a_step(pictures, repeats):
    plan = Plan(["a"] * pictures, [repeats] * pictures, 4, 1)
    assert all(len(set(plan.step(number))) == 4 for number in range(200))
    assert sorted(Plan(["a"] * 3, [1] * 3, 7, 1).step(0)) in (
        [0, 0, 0, 1, 1, 2, 2],
        [0, 0, 1, 1, 1, 2, 2],
        [0, 0, 1, 1, 2, 2, 2],
    )


def test_plan_does_not_depend_on_what_was_asked_before():
    buckets, repeats = ["a"] * 5 + ["b"] * 3, [1] * 8
    straight = Plan(buckets, repeats, 2, 1)
    order = [straight.step(number) for number in range(30)]
    jumping = Plan(buckets, repeats, 2, 1)
    assert [jumping.step(number) for number in (29, 3, 17, 0)] == [order[number] for number in (29, 3, 17, 0)]
    assert order != [Plan(buckets, repeats, 2, 2).step(number) for number in range(30)]
