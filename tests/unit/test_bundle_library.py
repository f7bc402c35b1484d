"""The bundle tools by name: only listed files can be reached, nothing is lost, the webui is notified."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_pivotal.app.bundle_library import BundleLibrary, Destination
from lib_pivotal.core.bundle.embeddings import read_embeddings
from lib_pivotal.core.errors import BundleError, ConfigError
from tests.unit.bundle_samples import LORA, sd1

WORDS = {"cat": [2368]}


class Host:
    """A webui's folders, and its reader of ``.pt`` files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes = 0
        self.loaded: list[Path] = []

    def lora_folder(self):
        return self.folder / "Lora"

    def embedding_folder(self):
        return self.folder / "embeddings"

    def split_folder(self):
        return self.folder / "split"

    def tokenizer(self):
        return lambda text: WORDS.get(text, [len(text), 40_000])

    def load_safely(self, path):
        self.loaded.append(path)
        if path.stem == "bad":
            raise ValueError("refused")
        return {"string_to_token": {"*": 265}, "string_to_param": {"*": sd1()}, "name": path.stem}

    def files_changed(self):
        self.changes += 1


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    for folder in (host.lora_folder() / "people", host.embedding_folder() / "more"):
        folder.mkdir(parents=True)
    save_file(
        {**LORA, "bundle_emb.zog.string_to_param.*": sd1(), "bundle_emb.nim.emb_params": sd1(1, 2)},
        host.lora_folder() / "people" / "x.safetensors",
    )
    save_file({**LORA, "bundle_emb.other.emb_params": sd1(2, 3)}, host.lora_folder() / "y.safetensors")
    save_file({"emb_params": sd1(2, 4)}, host.embedding_folder() / "hat_v1.safetensors")
    for name in ("more/coat_v1.pt", "bad.pt"):
        (host.embedding_folder() / name).write_bytes(b"pickle")
    (host.lora_folder() / "notes.txt").write_text("no model")
    return host


@pytest.fixture
def library(host):
    return BundleLibrary(host)


def names(host, name):
    return set(read_embeddings(host.lora_folder() / f"{name}.safetensors").embeddings)


def test_lists_the_bundles_of_the_folder(library):
    assert library.bundles() == ["people/x", "y"]
    assert library.embedding_files() == ["bad.pt", "hat_v1.safetensors", "more/coat_v1.pt"]


def test_linked_folders_are_listed(library, host, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk")
    save_file(LORA, elsewhere / "far.safetensors")
    (host.lora_folder() / "linked").symlink_to(elsewhere, target_is_directory=True)
    assert "linked/far" in library.bundles()


def test_circular_links_do_not_loop(library, host):
    for number in range(3):
        (host.lora_folder() / f"loop{number}").symlink_to(host.lora_folder(), target_is_directory=True)
        (host.embedding_folder() / "more" / f"up{number}").symlink_to("..", target_is_directory=True)
    assert library.bundles() == ["people/x", "y"]
    assert len(library.embedding_files()) == 3


def test_file_names_that_are_not_utf8_can_be_chosen(library, host):
    """The page needs valid text; one such file must not hide all others."""
    try:
        (host.lora_folder() / "y.safetensors").rename(host.lora_folder() / "caf\udce9\x1b.safetensors")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such name")
    listed = library.bundles()
    assert listed == ["caf\\xe9\\x1b", "people/x"]
    assert all(name.isprintable() for name in listed)
    assert library.describe(listed[0])["embeddings"].keys() == {"other"}
    done = library.remove(listed[0], ["other"], Destination())
    assert done.name in library.bundles()


def test_images_are_listed_unless_they_are_previews(library, host):
    folder = host.embedding_folder()
    for name in (
        "hat_v1.png",
        "hat_v1.preview.png",
        "alone.png",
        "alone.preview.webp",
        "wide　name.webp",
        "more/coat_v1.jpg",
    ):
        (folder / name).write_bytes(b"image")
    save_file({"clip_l": sd1()}, folder / "token.pti")
    assert library.embedding_files() == [
        "alone.png", "bad.pt", "hat_v1.safetensors", "more/coat_v1.pt", "token.pti", "wide　name.webp",
    ]  # fmt: skip


def test_packed_files_go_by_the_names_inside_them(library, host):
    from lib_pivotal.core.bundle.tools import split

    split(host.lora_folder() / "people" / "x.safetensors", host.embedding_folder() / "s")
    library.pack("y", ["s/zog.safetensors", "s/nim.safetensors"], "", Destination("both"))
    assert names(host, "both") == {"other", "zog", "nim"}


@pytest.mark.parametrize("name", ["", "gone", "../embeddings/hat_v1", "people/../y", "/etc/passwd"])
def test_other_files_cannot_be_reached(library, name):
    for work in (
        lambda: library.describe(name),
        lambda: library.verify(name),
        lambda: library.rename(name, "zog", "zog_v2", Destination()),
        lambda: library.remove(name, ["zog"], Destination()),
        lambda: library.merge("y", name, Destination("new")),
        lambda: library.split(name, Destination()),
        lambda: library.pack("y", [name], "", Destination("new")),
    ):
        with pytest.raises(BundleError):
            work()


@pytest.mark.parametrize("target", ["../out", "a/b", "con", "x:1"])
def test_results_stay_in_the_lora_folder(library, host, target):
    with pytest.raises(ConfigError):
        library.remove("y", ["other"], Destination(target))
    assert host.changes == 0


def test_says_what_is_in_a_file_and_what_is_wrong(library):
    assert set(library.describe("people/x")["embeddings"]) == {"zog", "nim"}
    save_file({**LORA, "bundle_emb.cat.emb_params": sd1()}, library._host.lora_folder() / "cat.safetensors")
    assert any("cat" in problem.message for problem in library.verify("cat")), "the model's tokenizer was not asked"


def test_rename_writes_next_to_the_old_file(library, host):
    done = library.rename("people/x", "zog", " zog_v2 ", Destination())
    assert done.name == "people/x-2"
    assert names(host, "people/x-2") == {"zog_v2", "nim"}
    assert names(host, "people/x") == {"zog", "nim"}
    assert host.changes == 1


def test_nothing_is_replaced_without_permission(library, host):
    with pytest.raises(BundleError, match=r"already exists?"):
        library.remove("people/x", ["zog"], Destination("y"))
    assert names(host, "y") == {"other"}
    done = library.remove("people/x", ["zog"], Destination("people/x", overwrite=True))
    assert done.name == "people/x"
    assert names(host, "people/x") == {"nim"}


def test_merge_takes_the_other_ones_embeddings(library, host):
    assert library.merge("people/x", "y", Destination("both")).name == "both"
    assert names(host, "both") == {"zog", "nim", "other"}


def test_pack_reads_pt_files_by_the_host_only(library, host):
    library.pack("y", ["hat_v1.safetensors", "more/coat_v1.pt"], "", Destination("packed"))
    assert names(host, "packed") == {"other", "hat_v1", "coat_v1"}
    assert host.loaded == [host.embedding_folder() / "more" / "coat_v1.pt"]
    found = read_embeddings(host.lora_folder() / "packed.safetensors").embeddings["coat_v1"]
    assert torch.equal(found.encoders["clip_l"], sd1())
    with pytest.raises(ConfigError, match=r"bad\.pt"):
        library.pack("y", ["bad.pt"], "", Destination("no"))
    assert "no" not in library.bundles()


def test_one_packed_file_can_have_another_name(library, host):
    library.pack("y", ["hat_v1.safetensors"], "crown_v1", Destination("named"))
    assert names(host, "named") == {"other", "crown_v1"}


def test_split_files_lie_where_they_change_no_prompt(library, host):
    done = library.split("people/x", Destination())
    assert done.name == ""
    assert {path.name for path in done.paths} == {"x_lora.safetensors", "zog.safetensors", "nim.safetensors"}
    assert {path.parent for path in done.paths} == {host.split_folder() / "x"}
    assert set(load_file(host.split_folder() / "x" / "x_lora.safetensors")) == set(LORA)
    with pytest.raises(BundleError, match=r"already exists?"):
        library.split("people/x", Destination())
    library.split("people/x", Destination(overwrite=True))
