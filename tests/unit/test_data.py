"""From a folder to the batch of a step: captions, buckets, pixels, latents and the plan."""

from __future__ import annotations

import hashlib
import random
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.data import latents
from lib_pivotal.core.data.bucket import bucket_for, bucket_sizes, crop
from lib_pivotal.core.data.bucket_image import KeptImages
from lib_pivotal.core.data.caption import CaptionMaker
from lib_pivotal.core.data.caption_names import NameFinder
from lib_pivotal.core.data.caption_tags import tags_of
from lib_pivotal.core.data.image_file import read_image
from lib_pivotal.core.data.latents import LatentEntry, encode_all
from lib_pivotal.core.data.pixels import load_pixels
from lib_pivotal.core.data.plan import Plan
from lib_pivotal.core.errors import DatasetError, Interrupted
from tests.unit.toy import ToyVae, write_images

# -- captions


def maker(*concepts, **changes):
    values = {"shuffle_tags": False, "tag_dropout": 0.0, "name_only": 0.0, "caption_dropout": 0.0}
    return CaptionMaker(concepts, TrainConfig(**{**values, **changes}))


def normalized(concepts, caption):
    """The caption with aliases replaced by names."""
    return ", ".join(tag.text for tag in NameFinder(concepts).replaced(tags_of(caption)))


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
        (r"an image of saber \(fate\) in a park", "an image of zog in a park"),
        ("teal hexagons, left", "teal hexagons, left"),
        ("dark teal hexagon, left", "dark teal hexagon, left"),
        ("left, a teal hexagon sits on the green grass", "left, a zog sits on the green grass"),
        ("dark teal hexagon2", "dark teal hexagon2"),
        ("zogling, left", "zogling, left"),
        ("dark_teal_hexagon", "dark_teal_hexagon"),
        ("(teal hexagon:1.2), left", "(zog:1.2), left"),
        ("((teal_hexagon, left))", "((zog, left))"),
        (r"(saber \(fate\):1.2), \(left\)", "(zog:1.2), (left)"),
        ("[[dark teal hexagon]], left", "[[dark teal hexagon]], left"),
        ("((((((((((teal hexagon)))))))))), left", "((((((((((teal hexagon)))))))))), left"),
        ("", ""),
    ],
)
def test_aliases_are_replaced_as_whole_words_only(caption, expected):
    assert normalized([ZOG], caption) == expected


def test_the_longest_words_of_all_concepts_win_and_nothing_is_replaced_twice():
    concepts = [
        Concept("surtr", aliases=("girl",)),
        Concept("chenx", aliases=("dragon girl", "_")),
        Concept("zog-girl"),
    ]
    assert normalized(concepts, "a dragon girl sits") == "a chenx sits"
    assert normalized(concepts, "a zog-girl on grass") == "a zog-girl on grass"
    assert normalized(concepts, "A cat. Red (hat).") == "A cat. Red (hat)."
    assert maker(*concepts).concepts_in("a dragon girl and a girl") == {"chenx", "surtr"}
    assert normalized([Concept("a\\q", aliases=("teal",))], "some teal thing") == "some a\\q thing"


def test_a_tag_that_only_holds_an_alias_is_another_tag():
    concepts = [Concept("zog_v1", aliases=("girl", "magical_girl"))]
    assert normalized(concepts, "girl, cat girl, girl_sitting, left") == "zog_v1, cat girl, girl_sitting, left"
    assert normalized(concepts, "Magical Girl, smile") == "zog_v1, smile"
    assert normalized(concepts, "a magical girl and a girl") == "a zog_v1 and a zog_v1"
    assert normalized(concepts, "the big_girl waits") == "the big_girl waits"
    assert not maker(*concepts).concepts_in("cat girl, left")


def test_a_name_within_a_tag_is_a_mention():
    make = maker(Concept("zog_v1"), shuffle_tags=True)
    assert make.concepts_in("left, photo of ZOG_v1") == {"zog_v1"}
    assert {make.vary("left, photo of zog_v1", random.Random(seed)) for seed in range(9)} == {"photo of zog_v1, left"}


@pytest.mark.parametrize("caption", ["a g\u0131rl sits", "mag\u0131cal", "a \u017fign here", "G\u0130RL"])
def test_letters_that_lower_to_others_are_not_an_alias_and_cause_no_error(caption):
    """Ignoring case, Python finds the dotless i where i is searched for, and the long s for s."""
    concepts = [Concept("zog_v1", aliases=("girl", "magical", "sign"))]
    assert normalized(concepts, caption) == caption


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("これは初音ミクの絵です", "これはzogの絵です"),
        ("これはmikuの絵です", "これはzogの絵です"),
        ("空, これは公園に座っているmikuの絵です", "空, これは公園に座っているzogの絵です"),
        ("一个初音ミク坐在公园里，蓝天", "一个zog坐在公园里，蓝天"),
        ("mikus and a miku2 and a miku", "mikus and a miku2 and a zog"),
        # A short part between commas is a tag, in any script.
        ("初音ミク風, 空", "初音ミク風, 空"),
        ("cafe\u0301, park", "zog, park"),
        ("a cafe\u0301 in the park", "a zog in the park"),
        ("re\u0301sume\u0301, park", "re\u0301sume\u0301, park"),
    ],
)
def test_aliases_in_any_script_and_form(caption, expected):
    assert normalized([Concept("zog", aliases=("初音ミク", "miku", "caf\u00e9"))], caption) == expected


def test_escaped_brackets_are_bare_as_in_a_prompt():
    make = maker(ZOG)
    assert normalized([ZOG], r"left, asuka \(eva\), \[x\], a\\b") == r"left, asuka (eva), [x], a\\b"
    assert make.vary(r"hat \(red\)", random.Random(0)) == "hat (red)"


def test_names_stay_in_front_and_are_never_dropped():
    make = maker(ZOG, shuffle_tags=True, tag_dropout=0.5)
    seen = {make.vary("left, teal hexagon, red, blue, green", random.Random(seed)) for seed in range(60)}
    assert len(seen) > 10 and all(text.split(", ")[0] == "zog" for text in seen)
    assert any("red" not in text for text in seen) and any("red" in text for text in seen)
    assert any(text.index("left") > text.index("blue") for text in seen if "left" in text and "blue" in text)


def test_dropouts_happen_as_often_as_requested():
    make = maker(ZOG, name_only=0.3, caption_dropout=0.2)
    texts_seen = [make.vary("zog, left", random.Random(seed)) for seed in range(2000)]
    assert 0.16 < texts_seen.count("") / 2000 < 0.24
    assert 0.26 < texts_seen.count("zog") / 2000 < 0.34


def test_caption_without_names_is_not_cut_to_nothing():
    assert maker(ZOG, name_only=1.0).vary("left, red", random.Random(0)) == "left, red"


# -- buckets


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([64, 256, 512, 768, 1024]))
@settings(max_examples=200, deadline=None)
def test_bucket_and_crop_hold_for_any_image(width, height, resolution):
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
    image = np.zeros((64, 64, 4), np.uint8)
    image[:, :32] = (255, 0, 0, 255)
    Image.fromarray(image, "RGBA").save(tmp_path / "a.png")
    pixels = load_pixels(tmp_path / "a.png", (64, 64), mirrored=False)
    assert pixels.shape == (3, 64, 64)
    assert torch.allclose(pixels[:, 5, 5], torch.tensor([1.0, -1.0, -1.0]))
    assert torch.allclose(pixels[:, 5, 60], torch.ones(3))
    assert torch.equal(load_pixels(tmp_path / "a.png", (64, 64), mirrored=True), pixels.flip(2))


def test_turned_and_sixteen_bit_images_are_read_as_shown(tmp_path):
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, :64] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
    pixels = load_pixels(tmp_path / "turned.png", (64, 128), mirrored=False)
    assert pixels[0, 5, 5] == 1.0 and pixels[0, 120, 5] == -1.0
    Image.fromarray(np.full((64, 64), 32896, np.uint16)).save(tmp_path / "gray.png")
    assert abs(float(load_pixels(tmp_path / "gray.png", (64, 64), mirrored=False).mean())) < 0.01


class CountingVae(ToyVae):
    def __init__(self, identity="toy"):
        self.encoded, self._identity = 0, identity

    def identity(self):
        return self._identity

    def encode(self, pixels):
        self.encoded += len(pixels)
        return super().encode(pixels)


def entry(path, bucket=(64, 64), *, mirrored=False):
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
    return LatentEntry(path, bucket, mirrored=mirrored, sha256=sha256, shown=path.name)


def encode(entries, vae, folder=None, stopped=lambda: False, kept=None):
    return encode_all(
        entries, vae, batch_size=2, folder=folder, progress=lambda *_: None, stopped=stopped, kept=kept
    )  # fmt: skip


def test_latents_are_cached_by_content_crop_flip_and_vae(tmp_path):
    write_images(tmp_path, 2)
    a = tmp_path / "00.png"
    entries = [entry(a), entry(a, mirrored=True), entry(a)]
    other_bucket = encode([*entries, entry(a, (64, 128))], CountingVae())
    assert other_bucket[3].mean.shape == (4, 16, 8)
    first = CountingVae()
    items = encode(entries, first, tmp_path / "cache")
    assert first.encoded == 2 and torch.equal(items[0].mean, items[2].mean)
    again = CountingVae()
    stored = encode(entries, again, tmp_path / "cache")
    assert again.encoded == 0 and torch.equal(stored[1].mean, items[1].mean)
    other = CountingVae("other")
    encode(entries, other, tmp_path / "cache")
    assert other.encoded == 2
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b"damaged")
    repaired = CountingVae()
    encode(entries, repaired, tmp_path / "cache")
    assert repaired.encoded == 2
    a.write_bytes((tmp_path / "01.png").read_bytes())
    changed = CountingVae()
    encode([entry(a), entry(a, mirrored=True)], changed, tmp_path / "cache")
    assert changed.encoded == 2


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux")
def test_stored_latents_do_not_keep_their_files_mapped(tmp_path):
    write_images(tmp_path, 1)
    encode([entry(tmp_path / "00.png")], ToyVae(), tmp_path / "cache")
    stored = encode([entry(tmp_path / "00.png")], ToyVae(), tmp_path / "cache")
    assert stored and str(tmp_path / "cache") not in Path("/proc/self/maps").read_text()


def test_bad_latents_name_the_file(tmp_path):
    write_images(tmp_path, 1)

    class Bad(ToyVae):
        def encode(self, pixels):
            mean, std = super().encode(pixels)
            return mean * float("nan"), std

    with pytest.raises(DatasetError, match=r"00\.png"):
        encode([entry(tmp_path / "00.png")], Bad())
    with pytest.raises(DatasetError, match=r"none\.png"):
        encode([entry(tmp_path / "none.png")], ToyVae())
    with pytest.raises(Interrupted):
        encode([entry(tmp_path / "00.png")], ToyVae(), stopped=lambda: True)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_latents_are_stored_whatever_their_strides(tmp_path, memory_format):
    """Some VAEs return batches with the channels last, and safetensors does not store such tensors."""
    write_images(tmp_path, 6)

    class TransposingVae(CountingVae):
        def encode(self, pixels):
            return tuple(part.contiguous(memory_format=memory_format) for part in super().encode(pixels))

    entries = [entry(tmp_path / f"{number:02d}.png", (128, 64)) for number in range(6)]
    items = encode(entries, TransposingVae(), tmp_path / "cache")
    again = TransposingVae()
    stored = encode(entries, again, tmp_path / "cache")
    assert again.encoded == 0
    for one, two in zip(items, stored):
        assert torch.equal(one.mean, two.mean) and torch.equal(one.std, two.std)
    assert sorted({path.suffix for path in (tmp_path / "cache").iterdir()}) == [".safetensors"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("non contiguous tensor")])
def test_latents_that_cannot_be_stored_do_not_end_the_run(tmp_path, monkeypatch, caplog, error):
    write_images(tmp_path, 1)

    def fail(*_):
        raise error

    monkeypatch.setattr("lib_pivotal.core.data.latents.write_tensors", fail)
    assert encode([entry(tmp_path / "00.png")], ToyVae(), tmp_path / "cache")
    assert "cannot be stored" in caplog.text
    assert not list((tmp_path / "cache").iterdir())


def test_an_image_that_was_replaced_after_the_check_is_not_trained_on(tmp_path):
    write_images(tmp_path, 2)
    checked = entry(tmp_path / "00.png")
    (tmp_path / "00.png").write_bytes((tmp_path / "01.png").read_bytes())
    with pytest.raises(DatasetError, match=r"00\.png has changed since it was checked"):
        encode([checked], ToyVae())


def test_images_are_decoded_in_threads_in_their_order_and_no_more_of_them_than_needed(tmp_path, monkeypatch):
    write_images(tmp_path, 40)
    entries = [entry(tmp_path / f"{number:02}.png") for number in range(40)]
    plain = [encode([one], ToyVae())[0].mean for one in entries]
    threads = []
    real = latents.read_image
    monkeypatch.setattr(latents, "read_image", lambda data: threads.append(threading.current_thread()) or real(data))
    together = encode(entries, ToyVae())
    assert all(torch.allclose(one.mean, alone, atol=1e-6) for one, alone in zip(together, plain, strict=True))
    assert len(threads) == 40 and threading.main_thread() not in threads
    threads.clear()
    asked = iter([False, False, True])
    with pytest.raises(Interrupted):
        encode(entries, ToyVae(), stopped=lambda: next(asked))
    assert len(threads) < 40


def test_kept_images_need_no_file(tmp_path):
    write_images(tmp_path, 2)
    entries = [entry(tmp_path / "00.png", (128, 64)), entry(tmp_path / "00.png", (128, 64), mirrored=True)]
    read = encode(entries, ToyVae())
    kept = KeptImages(96)
    kept.keep(entries[0].sha256, read_image((tmp_path / "00.png").read_bytes()))
    (tmp_path / "00.png").unlink()
    from_memory = encode(entries, ToyVae(), kept=kept)
    for one, two in zip(read, from_memory):
        assert torch.equal(one.mean, two.mean)
    assert kept.take(entries[0].sha256, (128, 64)) is None


def test_images_are_kept_up_to_a_limit(tmp_path):
    write_images(tmp_path, 3)
    images = [read_image((tmp_path / f"0{number}.png").read_bytes()) for number in (1, 2)]
    kept = KeptImages(64, limit=4 * 64 * 64 + 100)
    for name, image in zip("ab", images):
        kept.keep(name, image)
    assert kept.take("b", (64, 64)) is None
    assert kept.take("a", (64, 64)) is not None


# -- the order of images


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), min_size=1, max_size=12),
    st.integers(1, 6),
    st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_plan_shows_every_image_in_proportion(images, items_per_step, seed):
    buckets, repeats = [bucket for bucket, _ in images], [count for _, count in images]
    plan = Plan(buckets, repeats, items_per_step, seed)
    steps = 60
    seen = [0] * len(images)
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


@pytest.mark.parametrize(("images", "repeats"), [(7, 1), (5, 1), (20, 3), (4, 2)])
def test_no_image_twice_in_a_step(images, repeats):
    plan = Plan(["a"] * images, [repeats] * images, 4, 1)
    assert all(len(set(plan.step(number))) == 4 for number in range(200))
    assert sorted(Plan(["a"] * 3, [1] * 3, 7, 1).step(0)) in (
        [0, 0, 0, 1, 1, 2, 2],
        [0, 0, 1, 1, 1, 2, 2],
        [0, 0, 1, 1, 2, 2, 2],
    )


def test_plan_does_not_depend_on_earlier_requests():
    buckets, repeats = ["a"] * 5 + ["b"] * 3, [1] * 8
    straight = Plan(buckets, repeats, 2, 1)
    order = [straight.step(number) for number in range(30)]
    jumping = Plan(buckets, repeats, 2, 1)
    assert [jumping.step(number) for number in (29, 3, 17, 0)] == [order[number] for number in (29, 3, 17, 0)]
    assert order != [Plan(buckets, repeats, 2, 2).step(number) for number in range(30)]


def test_the_order_of_images_is_that_of_earlier_releases():
    """Resumed runs continue with it."""
    plan = Plan(["a"] * 9 + ["b"] * 4, [1, 2, 3, 40, *[1] * 9], 6, 5)
    steps = repr([plan.step(number) for number in range(200)])
    assert hashlib.sha256(steps.encode()).hexdigest().startswith("4e92db3d3c23e804")


def test_an_image_of_many_repeats_waits_in_one_place():
    """It used to fill the list that is searched for each image."""
    plan = Plan(["a"] * 500, [999] + [1] * 499, 8, 1)
    plan.step(400)
    (stream,) = plan._streams
    assert len(stream._aside) <= 8
