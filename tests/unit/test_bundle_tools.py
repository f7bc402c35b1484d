"""Tools for bundle files: what they write, what they keep, what they refuse."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lib_pivotal.cli.main import main
from lib_pivotal.core.bundle.embeddings import read_embeddings
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.inspection import describe, verify
from lib_pivotal.core.bundle.metadata import BUNDLE_KEY
from lib_pivotal.core.bundle.names import file_stem_for
from lib_pivotal.core.bundle.tools import remove, rename, split
from lib_pivotal.core.bundle.tools_add import merge, pack
from lib_pivotal.core.bundle.values import embedding_hash
from lib_pivotal.core.errors import BundleError, ConfigError
from tests.unit.bundle_samples import LORA, NETWORKS, sd1, sdxl

GOLDEN = Path(__file__).parent / "golden"
FACTS = {"zog x": {"init_text": "hat", "vectors": 3, "sha256": embedding_hash({"clip_l": sd1()})}}
METADATA = {
    "ss_output_name": "x",
    "ss_base_model_version": "sd_v1",
    "sshs_model_hash": "old",
    "modelspec.trigger_phrase": "zog x",
    "note": "kept é",
    BUNDLE_KEY: json.dumps({"version": 1, "embeddings": FACTS}),
}


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"bundle_emb.zog x.string_to_param.*": sd1(), "bundle_emb.zog x.clip_l_out": sd1(3, 8)}
    save_file({**LORA, **tensors, "bundle_emb.b.emb_params": sd1(1, 2)}, path, METADATA)
    return path


def metadata_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def names(path):
    return set(read_embeddings(path).embeddings)


def lora_is_kept(path):
    tensors = load_file(path)
    return all(torch.equal(tensors[key], value) and tensors[key].dtype == value.dtype for key, value in LORA.items())


def test_rename_keeps_everything_else(bundle, tmp_path):
    out = tmp_path / "y.safetensors"
    rename(bundle, {"zog x": "nim_v2"}, out)
    assert names(out) == {"nim_v2", "b"}
    assert lora_is_kept(out)
    assert "bundle_emb.nim_v2.clip_l_out" in load_file(out), "what we do not use stays with its name"
    values = metadata_of(out)
    assert json.loads(values[BUNDLE_KEY])["embeddings"] == {"nim_v2": FACTS["zog x"]}
    assert values["modelspec.trigger_phrase"] == "nim_v2"
    assert values["ss_output_name"] == "y"
    assert values["note"] == "kept é"
    assert "sshs_model_hash" not in values, "a hash of other contents"
    assert names(bundle) == {"zog x", "b"}


def test_names_can_be_swapped_in_the_same_file(bundle):
    before = read_embeddings(bundle).embeddings
    rename(bundle, {"zog x": "b", "b": "zog x"}, bundle, overwrite=True)
    after = read_embeddings(bundle).embeddings
    assert after["b"].hash == before["zog x"].hash
    assert after["zog x"].hash == before["b"].hash


@pytest.mark.parametrize(
    "change",
    [
        lambda path, other: rename(path, {"b": "zog y"}, path, overwrite=True),
        lambda path, other: remove(path, ["b"], path, overwrite=True),
        lambda path, other: pack(path, {"nim x": other}, path, overwrite=True),
    ],
    ids=["rename", "remove", "pack"],
)
def test_a_file_is_closed_before_it_is_replaced(bundle, tmp_path, monkeypatch, change):
    """Windows does not replace a file that is open, not even for the program that has opened it."""
    save_file({"emb_params": sd1()}, tmp_path / "e.safetensors")
    opened, open_path, replace = [], Path.open, os.replace

    def recorded(path, *args, **more):
        opened.append(open_path(path, *args, **more))
        return opened[-1]

    def replace_closed(source, target):
        assert all(file.closed for file in opened)
        replace(source, target)

    monkeypatch.setattr(Path, "open", recorded)
    monkeypatch.setattr("os.replace", replace_closed)
    change(bundle, tmp_path / "e.safetensors")
    assert lora_is_kept(bundle)


def test_renaming_keeps_the_tensor_of_an_unusable_embedding(tmp_path):
    """In cloneofsimo's files the key is the name itself, so it has to change."""
    path, broken = tmp_path / "x.safetensors", torch.full((768,), float("nan"))
    save_file({**LORA, "<s1>": broken}, path, {"<s1>": "<embed>"})
    rename(path, {"<s1>": "zog y"}, path, overwrite=True)
    assert load_file(path)["bundle_emb.zog y.emb_params"].isnan().all()
    assert metadata_of(path) is None, "the mark of the old name"


def test_all_bad_names_at_once(bundle, tmp_path):
    with pytest.raises(ConfigError) as caught:
        rename(bundle, {"zog x": "a.b", "b": "<x>", "none": "c"}, tmp_path / "y.safetensors")
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match="Two embeddings"):
        rename(bundle, {"b": "ZOG x"}, tmp_path / "y.safetensors")
    assert not (tmp_path / "y.safetensors").exists()


def test_remove(bundle, tmp_path):
    remove(bundle, ["zog x"], tmp_path / "y.safetensors")
    assert names(tmp_path / "y.safetensors") == {"b"}
    assert load_file(tmp_path / "y.safetensors").keys() == {*LORA, "bundle_emb.b.emb_params"}
    assert json.loads(metadata_of(tmp_path / "y.safetensors")[BUNDLE_KEY])["embeddings"] == {}
    with pytest.raises(ConfigError, match="no embedding of this name"):
        remove(bundle, ["nobody"], tmp_path / "z.safetensors")


def test_split_and_pack_again(bundle, tmp_path):
    written = split(bundle, tmp_path / "s")
    assert [path.name for path in written.paths] == ["x_lora.safetensors", "b.safetensors", "zog x.safetensors"]
    assert load_file(written.paths[0]).keys() == LORA.keys()
    assert metadata_of(written.paths[0])["note"] == "kept é"
    out = tmp_path / "again.safetensors"
    pack(written.paths[0], {"zog x": written.paths[2], "b2": written.paths[1]}, out)
    before, after = read_embeddings(bundle).embeddings, read_embeddings(out).embeddings
    assert after["zog x"].hash == before["zog x"].hash
    assert after["b2"].hash == before["b"].hash
    assert lora_is_kept(out)
    assert not [problem for problem in verify(out) if problem.is_error]


@pytest.mark.parametrize("overwrite", [False, True])
def test_split_never_replaces_the_bundle_itself(tmp_path, overwrite):
    path = tmp_path / "zog.safetensors"
    save_file({**LORA, "bundle_emb.zog.emb_params": sd1()}, path)
    before = path.read_bytes()
    written = split(path, tmp_path, overwrite=overwrite)
    assert [item.name for item in written.paths] == ["zog_lora.safetensors", "zog-2.safetensors"]
    assert "zog is now in zog-2.safetensors" in str(written.problems[0])
    assert path.read_bytes() == before


def test_split_without_a_lora_writes_none(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"bundle_emb.zog.emb_params": sd1()}, path)
    (tmp_path / "x_lora.safetensors").write_bytes(b"of another bundle")
    assert [item.name for item in split(path, tmp_path).paths] == ["zog.safetensors"]
    assert (tmp_path / "x_lora.safetensors").read_bytes() == b"of another bundle"


def test_a_file_that_cannot_be_read_is_not_a_problem_of_its_embeddings(bundle, tmp_path):
    for call in (
        lambda path: split(path, tmp_path / "s"),
        lambda path: merge(bundle, path, tmp_path / "m.safetensors"),
    ):
        with pytest.raises(BundleError, match="There is no file nothing"):
            call(tmp_path / "nothing.safetensors")
        (tmp_path / "bad.safetensors").write_bytes(b"bad")
        with pytest.raises(BundleError, match="has only 3 bytes"):
            call(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("embeddings", [[[1, 2]], "zog x", [[[], 1]], None, 5])
def test_facts_of_any_form_in_the_metadata(bundle, tmp_path, embeddings):
    path = tmp_path / "odd.safetensors"
    metadata = {BUNDLE_KEY: json.dumps({"version": 1, "embeddings": embeddings}), "modelspec.trigger_phrase": "zog x"}
    save_file(load_file(bundle), path, metadata)
    rename(path, {"b": "zog y"}, tmp_path / "y.safetensors")
    assert names(tmp_path / "y.safetensors") == {"zog x", "zog y"}


def test_split_of_hostile_names_stays_in_the_folder(tmp_path):
    path = tmp_path / "in" / "x.safetensors"
    path.parent.mkdir()
    evil = ["../../up", "/etc/x", "C:\\x", "..", "con", "a/b", "a:b", "x_lora", "<s0>", "<s1>", "é"]
    save_file({**LORA, **{f"bundle_emb.{name}.emb_params": sd1(1) for name in evil}}, path)
    written = split(path, tmp_path / "out")
    assert len(set(written.paths)) == len(evil) + 1
    assert all(item.resolve().parent == (tmp_path / "out").resolve() for item in written.paths)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["in", "out"]
    assert file_stem_for("..") == "embedding"


def test_sdxl_is_split_into_both_encoders(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({**LORA, **{f"bundle_emb.zog.{end}": value for end, value in sdxl().items()}}, path)
    split(path, tmp_path / "s")
    assert load_file(tmp_path / "s" / "zog.safetensors").keys() == {"clip_l", "clip_g"}


def test_pack_reads_pt_through_the_given_loader_only(tmp_path):
    save_file(LORA, tmp_path / "l.safetensors")
    contents = {"string_to_token": {"*": 265}, "string_to_param": {"*": sd1()}, "name": "n", "step": 5}
    torch.save(contents, tmp_path / "zog.pt")
    files = {"zog x": tmp_path / "zog.pt"}
    with pytest.raises(ConfigError, match="pickle cannot be read"):
        pack(tmp_path / "l.safetensors", files, tmp_path / "o.safetensors")
    pack(tmp_path / "l.safetensors", files, tmp_path / "o.safetensors", load_other=lambda _path: contents)
    assert torch.equal(read_embeddings(tmp_path / "o.safetensors").embeddings["zog x"].encoders["clip_l"], sd1())


class Bomb:
    """A pickle that would run something."""

    def __reduce__(self):
        return (Path("/tmp/pivotal-bomb").touch, ())


def test_a_pickle_that_would_run_code_is_refused(tmp_path, capsys):
    save_file(LORA, tmp_path / "l.safetensors")
    torch.save({"string_to_param": {"*": Bomb()}}, tmp_path / "evil.pt")
    out = tmp_path / "o.safetensors"
    assert main(["bundle", "pack", str(tmp_path / "l.safetensors"), str(tmp_path / "evil.pt"), "--out", str(out)]) == 2
    assert "safely" in capsys.readouterr().err
    assert not out.exists()
    assert not Path("/tmp/pivotal-bomb").exists()


@pytest.mark.parametrize("twin", ["zOG y", "zog  y"])
def test_pack_refuses_two_names_with_the_same_tokens(bundle, tmp_path, twin):
    file, out = tmp_path / "e.safetensors", tmp_path / "out.safetensors"
    save_file({"emb_params": sd1()}, file)
    with pytest.raises(ConfigError, match="the same name to the tokenizer"):
        pack(bundle, {"zog y": file, twin: file}, out)
    assert not out.exists()


def test_pack_reports_everything_at_once(tmp_path):
    save_file(LORA, tmp_path / "l.safetensors")
    save_file({"emb_params": torch.full((1, 768), float("nan"))}, tmp_path / "nan.safetensors")
    files = {"a.b": tmp_path / "nan.safetensors", "fine x": tmp_path / "l.safetensors"}
    with pytest.raises(ConfigError) as caught:
        pack(tmp_path / "l.safetensors", files, tmp_path / "o.safetensors", tokenizer=lambda _text: [320])
    text = str(caught.value)
    for word in ("NaN or infinite", "cannot be a name", "it is a LoRA", "vocabulary"):
        assert word in text


def test_merge(bundle, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({"bundle_emb.nim.clip_l": sd1(2, 5), "lora_unet_z.alpha": torch.tensor(1.0)}, other)
    merge(bundle, other, tmp_path / "m.safetensors")
    assert names(tmp_path / "m.safetensors") == {"zog x", "b", "nim"}
    assert "lora_unet_z.alpha" not in load_file(tmp_path / "m.safetensors")
    facts = json.loads(metadata_of(tmp_path / "m.safetensors")[BUNDLE_KEY])["embeddings"]["nim"]
    assert facts == {"vectors": 2, "sha256": embedding_hash({"clip_l": sd1(2, 5)})}
    with pytest.raises(ConfigError, match="already"):
        merge(bundle, bundle, tmp_path / "n.safetensors")


@pytest.mark.parametrize("title", NETWORKS)
def test_a_network_of_any_kind_stays_bit_for_bit_what_it_was(tmp_path, title):
    path, other = tmp_path / "x.safetensors", tmp_path / "other.safetensors"
    # Magnitudes are in fp32 even in files in half precision.
    network = {key: value if "dora" in key else value.half() for key, value in NETWORKS[title][0].items()}
    save_file({**network, "bundle_emb.zog.emb_params": sd1(), "bundle_emb.b.emb_params": sd1(1, 2)}, path)
    save_file({"bundle_emb.nim.emb_params": sd1(2, 5)}, other)
    outs = [tmp_path / f"{name}.safetensors" for name in ("renamed", "removed", "merged")]
    rename(path, {"zog": "nim_v2"}, outs[0])
    remove(path, ["b"], outs[1])
    merge(path, other, outs[2])
    outs.append(split(path, tmp_path / "split").paths[0])
    expected = describe(path)
    for out in outs:
        assert describe(out)["lora"] == expected["lora"]
        tensors = {key: value for key, value in load_file(out).items() if not key.startswith("bundle_emb.")}
        assert tensors.keys() == network.keys()
        assert all(torch.equal(tensors[key], value) and tensors[key].dtype == value.dtype
                   for key, value in network.items())  # fmt: skip
    assert describe(outs[-1])["kind"] == expected["kind"].removesuffix(" + embeddings")


def test_more_embeddings_than_forge_accepts_and_two_families_are_reported(tmp_path):
    save_file(LORA, tmp_path / "l.safetensors")
    files = {}
    for number in range(13):
        files[f"zog x{number}"] = tmp_path / f"{number}.safetensors"
        save_file(sdxl(1) if number == 12 else {"emb_params": sd1(1)}, tmp_path / f"{number}.safetensors")
    found = " ".join(map(str, pack(tmp_path / "l.safetensors", files, tmp_path / "o.safetensors").problems))
    assert "Forge" in found
    assert "families" in found


def test_nothing_is_overwritten_without_permission(bundle, tmp_path):
    out = tmp_path / "y.safetensors"
    out.write_bytes(b"precious")
    calls = (
        lambda: rename(bundle, {"b": "zog y"}, out),
        lambda: remove(bundle, ["b"], out),
        lambda: merge(bundle, bundle, out),
        lambda: pack(bundle, {}, out),
    )
    for call in calls:
        with pytest.raises(BundleError, match="exists"):
            call()
    (tmp_path / "b.safetensors").write_bytes(b"precious")
    with pytest.raises(BundleError, match="exists"):
        split(bundle, tmp_path)
    assert not (tmp_path / "x_lora.safetensors").exists()
    assert out.read_bytes() == (tmp_path / "b.safetensors").read_bytes() == b"precious"


def test_a_failure_leaves_no_half_file(bundle, tmp_path, monkeypatch):
    def fail(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib_pivotal.core.bundle.file.write_tensors", fail)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BundleError, match="No space"):
        remove(bundle, ["b"], bundle, overwrite=True)
    assert sorted(tmp_path.iterdir()) == before
    assert names(bundle) == {"zog x", "b"}


def test_lora_in_a_number_type_that_torch_lacks_is_copied(tmp_path):
    header = json.dumps({
        "lora_unet_a.x": {"dtype": "F4", "shape": [2, 4], "data_offsets": [0, 4]},
        "bundle_emb.b.emb_params": {"dtype": "F32", "shape": [1, 4], "data_offsets": [4, 20]},
    }).encode()  # fmt: skip
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x12\x34\x56\x78" + bytes(16))
    remove(path, ["b"], tmp_path / "y.safetensors")
    raw = (tmp_path / "y.safetensors").read_bytes()
    assert raw.endswith(b"\x12\x34\x56\x78")
    assert b'"F4"' in raw
    assert b"bundle_emb" not in raw


def test_inspect_and_verify(bundle):
    facts = describe(bundle)
    assert facts["families"] == {"zog x": "SD1", "b": "SD1"}
    assert facts["hashes"]["zog x"] == embedding_hash({"clip_l": sd1()})[:12]
    assert facts["lora"]["ranks"] == {"4": 1}
    assert facts["lora"]["alphas"] == [2.0]
    found = verify(bundle)
    assert [problem.severity for problem in found] == ["warning"], "the output embedding"


def test_verify_finds_parts_that_do_not_match(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"bundle_emb.zog x.string_to_param.*": sd1() * 1000, "bundle_emb.<s>.clip_g": sdxl()["clip_g"]}
    save_file(tensors, path, METADATA)
    text = " ".join(map(str, verify(path)))
    for word in ("no LoRA", "do not match the file's metadata", "SDXL refiner", "length", "cannot be a name"):
        assert word in text
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    assert verify(tmp_path / "bad.safetensors")[0].is_error


@pytest.mark.parametrize("runs", [{"Ｚｏｇ": [5], "zog": [5]}, {"初": [7, 8], "始": [7, 8]}])
def test_verify_asks_the_tokenizer_whether_two_names_are_one(tmp_path, runs):
    """Tokenizers differ in what they take for one letter; only the loaded model's own can say."""
    path = tmp_path / "x.safetensors"
    save_file({**LORA, **{f"bundle_emb.{name}.emb_params": sd1(1, index) for index, name in enumerate(runs)}}, path)
    found = [
        problem
        for problem in verify(path, tokenizer=lambda text: runs.get(text, [1, 2, 3]))
        if "are the same name" in problem.message
    ]
    assert [problem.is_error for problem in found] == [True]
    assert all(name in found[0].message for name in runs)
    assert "are the same name" not in str(verify(path))
    assert "are the same name" not in str(verify(path, tokenizer=lambda text: [ord(letter) for letter in text]))


# -- LyCORIS


def test_bundle_of_lycoris_and_back(tmp_path):
    """Read the file of LyCORIS's tool and write ours; the tool unpacked ours to ``lycoris_unpacked.json`` (run once)."""
    source = GOLDEN / "lycoris_bundle.safetensors"
    recorded = json.loads((GOLDEN / "lycoris_unpacked.json").read_text("utf-8"))["files"]
    lora, *embeddings = split(source, tmp_path).paths
    out = tmp_path / "out.safetensors"
    pack(lora, {path.stem: path for path in embeddings}, out)
    tensors = load_file(out)
    for name, keys in recorded.items():
        for end, (shape, digest) in keys.items():
            # LyCORIS's tool uses the name up to the first dot, and the last part of the rest.
            prefix = "" if name == "(LoRA)" else f"bundle_emb.{name}."
            value = tensors.pop(next(key for key in tensors if key.startswith(prefix) and key.endswith(end)))
            assert list(value.shape) == shape
            assert hashlib.sha256(value.numpy().tobytes()).hexdigest() == digest
    assert not tensors
    assert read_bundle(source).lora.keys() == LORA.keys()


# -- command line


def test_command_line(bundle, tmp_path, capsys):
    folder = str(tmp_path / "s")
    assert main(["bundle", "split", str(bundle), "--out", folder]) == 0
    assert "zog x.safetensors" in capsys.readouterr().out
    out = str(tmp_path / "o.safetensors")
    file = f"nim x={tmp_path / 's' / 'b.safetensors'}"
    assert main(["bundle", "pack", str(tmp_path / "s" / "x_lora.safetensors"), file, "--out", out]) == 0
    assert main(["bundle", "rename", out, "nim x=nim y", "--out", out, "--overwrite"]) == 0
    assert main(["bundle", "merge", out, str(bundle), "--out", str(tmp_path / "m.safetensors")]) == 0
    assert main(["bundle", "remove", out, "nim y", "--out", out, "--overwrite"]) == 0
    assert names(tmp_path / "m.safetensors") == {"nim y", "zog x", "b"}
    assert main(["bundle", "verify", str(tmp_path / "m.safetensors")]) == 0
    assert main(["bundle", "rename", out, "nim", "--out", out]) == 2
    assert main(["bundle", "verify", folder]) == 2
    capsys.readouterr()
    assert main(["bundle", "inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert main(["inspect", str(bundle)]) == 0
    assert capsys.readouterr().out == shown
    assert "SD1" in shown
