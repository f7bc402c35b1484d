"""A dataset is read once per start, and what was checked is what is trained on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import ImageFile

from lib_pivotal.app.session import Session
from lib_pivotal.core.config.schema import Concept, TrainConfig
from lib_pivotal.core.data.bucket_image import KeptImages
from lib_pivotal.core.data.dataset_report import read_dataset
from lib_pivotal.core.errors import ConfigError, DatasetError, Interrupted, PivotalError
from lib_pivotal.core.events import Control, Warned
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train import checks
from lib_pivotal.core.train.checks import check
from lib_pivotal.core.train.model_checks import family_hints
from lib_pivotal.core.train.run import Folders, train
from lib_pivotal.core.train.training_data import load_training_data
from tests.ui.fake_host import FakeHost
from tests.unit.dataset_files import save_image, write_captions
from tests.unit.toy import ToyEncoder, ToyModel, ToyVae, toy_config, write_images

# -- how often files are touched


class Counting:
    """Counts what is decoded, and which files are opened, while it is on."""

    def __init__(self) -> None:
        self.is_on = False
        self.decoded = 0
        self.opened: Counter[str] = Counter()

    def hook(self, event, arguments) -> None:
        if not self.is_on or event != "open" or not str(arguments[0]).endswith((".png", ".txt")):
            return
        if not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            self.opened[Path(arguments[0]).name] += 1


COUNTING = Counting()
# An audit hook cannot be removed.
sys.addaudithook(COUNTING.hook)


@pytest.fixture
def counting(monkeypatch):
    load = ImageFile.ImageFile.load

    def counted(self):
        COUNTING.decoded += bool(self.tile)
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", counted)
    COUNTING.decoded, COUNTING.is_on = 0, True
    COUNTING.opened.clear()
    yield COUNTING
    COUNTING.is_on = False


class ToyHost(FakeHost):
    """Lends the toy model."""

    has_tokenizer = True

    def tokenizer(self):
        return ToyEncoder().tokenize if self.has_tokenizer else None

    @contextlib.contextmanager
    def borrow(self, config, control):
        borrowed = type("Borrowed", (), {"model": ToyModel(), "sampler": None})
        yield borrowed


@pytest.mark.parametrize("has_tokenizer", [True, False])
@pytest.mark.parametrize("flip", [True, False])
def test_a_start_decodes_each_image_once(tmp_path, counting, monkeypatch, has_tokenizer, flip):
    write_images(tmp_path / "data")
    calls = []
    monkeypatch.setattr(checks, "read_dataset", lambda *a, **k: calls.append(a) or read_dataset(*a, **k))
    host = ToyHost(tmp_path / "webui")
    host.has_tokenizer = has_tokenizer
    session = Session(host)
    session.start(toy_config(tmp_path / "data", steps=1, flip=flip))
    session.join()
    assert session.status()["state"] == "done", session.status()["message"]
    assert len(calls) == 1
    assert counting.decoded == 6
    # The header, then the whole file.
    assert {counting.opened[f"0{number}.png"] for number in range(6)} == {2}
    assert {counting.opened[f"0{number}.txt"] for number in range(6)} == {1}


def test_a_dataset_that_is_too_large_to_keep_is_decoded_twice(tmp_path, counting, monkeypatch):
    monkeypatch.setattr(checks, "KeptImages", lambda resolution, **options: KeptImages(resolution, limit=0, **options))
    write_images(tmp_path / "data")
    run(tmp_path, toy_config(tmp_path / "data", steps=1, flip=True))
    assert counting.decoded == 12


def run(tmp_path, config, sinks=(), **options):
    (tmp_path / "run").mkdir(exist_ok=True)
    folders = Folders(tmp_path / "run", tmp_path / "bundles", tmp_path / "cache")
    return train(config, ToyModel(), None, sinks, Control(), folders, **options)


def test_training_gives_the_same_with_and_without_kept_images(tmp_path, monkeypatch):
    write_images(tmp_path / "data")
    config = toy_config(tmp_path / "data")
    one = load(config, read_dataset(config))
    checked = check(config, bundles=tmp_path, taken_names={}, keeps_images=True)
    two = load(config, checked.dataset)
    assert all(torch.equal(a.mean, b.mean) for a, b in zip(one.items, two.items))


def test_warnings_of_a_check_are_passed_on_once(tmp_path):
    write_captions(tmp_path / "data", "zog_x", "zog_x, (hat:1.2)")
    config = toy_config(tmp_path / "data", steps=1, clip_skip=1, resolution=128)
    seen = []
    sink = type("Sink", (), {"handle": lambda self, event: seen.append(event)})()
    checked = check(config, bundles=tmp_path, taken_names={}, tokenizer=ToyEncoder().tokenize)
    hints = family_hints("sd1", ToyModel.native_resolution, config)
    assert hints, "what the webui's check adds"
    run(tmp_path, config, [sink], checked=replace(checked, problems=checked.problems + hints))
    warned = [event.message for event in seen if isinstance(event, Warned)]
    assert sum("Emphasis" in text for text in warned) == 1
    assert sum("The model was made for" in text for text in warned) == 1


def test_names_are_checked_with_the_models_tokenizer_when_the_check_had_none(tmp_path):
    write_captions(tmp_path / "data", "girl", "girl, hat")
    config = toy_config(tmp_path / "data", concepts=(Concept("girl"),))
    checked = check(config, bundles=tmp_path, taken_names={})
    assert not checked.has_errors
    with pytest.raises(ConfigError, match="vocabulary"):
        run(tmp_path, config, checked=checked)


def test_settings_that_are_refused_keep_no_images(tmp_path):
    write_images(tmp_path)
    for changed in ({"resolution": 0}, {"resolution": 10**9}, {"rank": -1}):
        checked = check(toy_config(tmp_path, **changed), bundles=tmp_path, taken_names={}, keeps_images=True)
        assert checked.has_errors
        assert checked.dataset.kept is None


# -- what changes between the check and the training


def checked_config(tmp_path):
    write_images(tmp_path / "data")
    config = toy_config(tmp_path / "data", steps=1, cache_to_disk=True)
    return config, check(config, bundles=tmp_path, taken_names={}, tokenizer=ToyEncoder().tokenize)


def load(config, dataset, group=None, vae=None, cache=None, progress=lambda *_: None):
    return load_training_data(
        config,
        vae or ToyVae(),
        dataset,
        cache=cache or Path(config.data_folder) / ".cache",
        group=group or SingleProcess(),
        progress=progress,
        stopped=lambda: False,
    )


@pytest.mark.parametrize(("change", "words"), [("removed", "cannot be read"), ("replaced", "has changed since")])
def test_an_image_that_changed_before_it_was_encoded_is_an_error(tmp_path, change, words):
    config, checked = checked_config(tmp_path)
    path = tmp_path / "data" / "03.png"
    if change == "removed":
        path.unlink()
    else:
        path.write_bytes((tmp_path / "data" / "04.png").read_bytes())
    with pytest.raises(DatasetError, match=f"03.png {words}"):
        run(tmp_path, config, checked=checked)


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_an_image_that_changes_after_it_was_encoded_changes_nothing(tmp_path, change):
    config, checked = checked_config(tmp_path)
    before = checked.dataset.digest()

    def meddle(done, total):
        for path in sorted((tmp_path / "data").iterdir()) if done == total else ():
            path.unlink() if change == "removed" else path.write_bytes(b"x")

    data = load(config, checked.dataset, cache=tmp_path / "cache", progress=meddle)
    assert data.digest == before
    assert len(data.items) == 6


# -- the digest


def digest_of(*images: tuple[bytes, str, str, str]) -> str:
    """As every release so far has computed it: states of unfinished runs contain it."""
    parts = [b"\0".join([name, *(text.encode() for text in texts)]) for name, *texts in images]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_the_digest_equals_that_of_earlier_releases(tmp_path):
    save_image(tmp_path / "3_zog" / "b.png")
    (tmp_path / "3_zog" / "b.txt").write_text(" zog, カフェ \n", encoding="utf-8")
    save_image(tmp_path / "ä.png", color=(1, 2, 3))
    (tmp_path / "broken.png").write_bytes(b"x")
    hashes = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("3_zog/b.png", "ä.png")]
    assert read_dataset(TrainConfig(data_folder=str(tmp_path))).digest() == digest_of(
        (b"3_zog/b.png", hashes[0], "zog, カフェ", "3"), ("ä.png".encode(), hashes[1], "", "1")
    )


def test_names_that_are_not_utf8_have_a_digest(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        path = save_image(tmp_path / name)
    except (OSError, UnicodeError):
        pytest.skip("this file system has Unicode names only")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_dataset(TrainConfig(data_folder=str(tmp_path))).digest() == digest_of((b"caf\xe9.png", sha256, "", "1"))


# -- several processes


class Recorder(SingleProcess):
    """The first of two processes, and what it sends."""

    size = 2

    def __init__(self) -> None:
        self.sent = []

    def from_first(self, value):
        self.sent.append(value)
        return value


class Receiver(SingleProcess):
    """The second of two processes."""

    rank, size = 1, 2

    def __init__(self, sent) -> None:
        self.sent = iter(sent)

    def from_first(self, value):
        return next(self.sent)


class NoVae:
    def __getattr__(self, name):
        pytest.fail("the second process encodes")


def test_one_process_encodes_for_all(tmp_path, counting, monkeypatch):
    monkeypatch.setattr("lib_pivotal.core.train.training_data._SENT_TOGETHER", 4)
    write_images(tmp_path)
    config = toy_config(tmp_path, flip=True)
    first = Recorder()
    one = load(config, None, first)
    counting.decoded = 0
    counting.opened.clear()
    second = Receiver(first.sent)
    two = load(config, None, second, NoVae())
    assert not counting.decoded and not counting.opened
    assert not list(second.sent)
    assert (two.digest, two.images, two.entries) == (one.digest, one.images, one.entries)
    assert len(two.items) == len(one.items) == 12
    assert all(torch.equal(a.mean, b.mean) and torch.equal(a.std, b.std) for a, b in zip(one.items, two.items))


def test_masks_reach_all_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("lib_pivotal.core.train.training_data._SENT_TOGETHER", 4)
    write_images(tmp_path)
    for number in range(5):
        save_image(tmp_path / f"0{number}-masklabel.png", color=(40 * number,) * 3)
    config = toy_config(tmp_path, masks="masklabel")
    first = Recorder()
    one = load(config, None, first)
    second = Receiver(first.sent)
    two = load(config, None, second, NoVae())
    assert not list(second.sent)
    assert [image.mask for image in two.images] == [image.mask for image in one.images]
    assert two.images[5].mask is None
    assert [image.mask.cells[0, 0] for image in two.images[:5]] == pytest.approx([40 * n / 255 for n in range(5)])


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (DatasetError("a.png is gone.", hint="Look."), DatasetError, "a.png is gone. Look."),
        (Interrupted("Stopped."), Interrupted, "Stopped."),
        (ZeroDivisionError("a bug"), PivotalError, "The first process failed: a bug."),
    ],
)
def test_the_others_do_not_wait_for_a_process_that_failed(tmp_path, error, kind, words):
    class Bad(ToyVae):
        def encode(self, pixels):
            raise error

    write_images(tmp_path)
    first = Recorder()
    with pytest.raises(type(error)):
        load(toy_config(tmp_path), None, first, Bad())
    with pytest.raises(kind, match=words):
        load(toy_config(tmp_path), None, Receiver(first.sent), NoVae())
