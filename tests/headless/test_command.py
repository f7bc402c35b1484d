"""The command line: a settings file becomes a bundle, and mistakes become messages."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_pivotal.cli.main import main
from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.file_lock import locked
from lib_pivotal.core.train.recorder import read_losses, read_validation
from lib_pivotal.core.train.state import load_newest
from lib_pivotal.host.diffusers.lora_size import values_per_rank
from tests.unit.toy import write_images

ROOT = Path(__file__).resolve().parents[2]


def the_run(out: Path) -> Path:
    (run,) = (out / "runs").iterdir()
    return run


def test_check_shows_how_long_the_run_is_and_what_each_concept_gets(settings, capsys):
    assert main(["train", str(settings(steps=0)), "--check"]) == 0
    output = capsys.readouterr().out
    assert "6 images, 600 steps, 1200 samples" in output
    assert "my_hero       6" in output and "200 times" in output


def test_train_writes_bundle_and_run_folder(settings, tmp_path, capsys):
    out = tmp_path / "out"
    config = settings(sample_every=3, sample_steps=1, sample_prompts="my_hero")
    assert main(["train", str(config), "--out", str(out), "--device", "cpu"]) == 0
    bundle = read_bundle(out / "hero.safetensors")
    assert bundle.embeddings["my_hero"]["clip_l"].shape == (2, 32)
    assert len([key for key in bundle.lora if key.endswith("lora_up.weight")]) == 160
    run = the_run(out)
    assert run.name.startswith("hero-")
    assert [step for step, _ in read_losses(run)] == [1, 2, 3]
    assert (run / "samples" / "step-000003-0.png").exists()
    assert (run / "log.txt").exists()
    output = capsys.readouterr().out
    assert f"Done at step 3: {out / 'hero.safetensors'}" in output
    assert "<lora:hero:1> my_hero" in output

    assert main(["inspect", str(out / "hero.safetensors")]) == 0
    text = capsys.readouterr().out
    assert "LoRA, 160 layers; read by all webuis" in text
    assert "160 layers in the unet" in text
    assert "rank 2 on 160 layers" in text
    assert "my_hero (clip_l): 2 × 32, norms " in text
    assert main(["inspect", "--json", str(out / "hero.safetensors")]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["embeddings"]["my_hero"]["clip_l"]["vectors"] == 2
    assert described["metadata"]["pivotal_bundle"]["settings"]["rank"] == 2


def test_resume_continues_the_same_run(settings, tmp_path):
    out = tmp_path / "out"
    assert main(["train", str(settings(steps=2)), "--out", str(out), "--device", "cpu"]) == 0
    run = the_run(out)
    longer = settings(steps=4)
    assert main(["train", str(longer), "--resume", str(run), "--device", "cpu"]) == 0
    assert the_run(out) == run
    assert main(["train", "--check", "--resume", str(run)]) == 0, "its own bundle does not prevent it"
    assert [step for step, _ in read_losses(run)] == [1, 2, 3, 4]


def test_mistakes_are_reported_together_without_a_traceback(settings, tmp_path, capsys):
    config = settings(checkpoint=str(tmp_path / "none.safetensors"), rank=-1, output_name="a:b")
    assert main(["train", str(config), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    for word in ("none.safetensors", "rank", "output_name"):
        assert word in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "word"),
    [(None, "cannot be read"), ("{", "not JSON"), ('{"stepz": 1}', "Did you mean steps?")],
)
def test_a_bad_settings_file_is_reported(tmp_path, capsys, text, word):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    assert main(["train", str(path)]) == 2
    assert word in capsys.readouterr().err


def test_check_only_checks(settings, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["train", "--check", str(settings()), "--out", str(out)]) == 0
    assert "Ready to train." in capsys.readouterr().out
    assert main(["train", "--check", str(settings(batch_size=0)), "--out", str(out)]) == 2
    assert "batch_size" in capsys.readouterr().out
    assert main(["train", "--check", str(settings(unet_lr="fast", batch_size=0)), "--out", str(out)]) == 2
    output = capsys.readouterr().out
    assert "unet_lr" in output
    assert "batch_size" in output
    assert not out.exists()


def test_inspecting_a_file_that_is_not_a_bundle_is_reported(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "no.safetensors")]) == 2
    assert "There is no file" in capsys.readouterr().err


def test_a_crash_leaves_its_traceback_in_the_log(settings, tmp_path, capsys, monkeypatch):
    from lib_pivotal.host.diffusers.model import DiffusersModel

    def fail(_self):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(DiffusersModel, "verify", fail)
    assert main(["train", str(settings()), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert "ZeroDivisionError: a bug" in (the_run(tmp_path / "out") / "log.txt").read_text()


def start(*arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *launcher, "-m", "lib_pivotal", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def main_in_fork(arguments: list[str], output: Path) -> None:
    """The same in a forked process, which has everything imported already; its output goes to a file."""
    # Under nohup, the tests themselves ignore this signal, and their processes would, too.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with output.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        code = main(arguments)
    sys.exit(code)


def wait_for_a_step(out: Path, is_running: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not list(out.glob("runs/*/loss.csv")) or not read_losses(the_run(out)):
        assert is_running()
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals for a single process")
def test_docker_stop_and_a_closed_terminal_keep_the_result(settings, tmp_path):
    """Ctrl-C is the same path."""
    outs = {name: tmp_path / name for name in ("SIGTERM", "SIGHUP")}
    commands = {
        name: ["train", str(settings(steps=5000)), "--out", str(outs[name]), "--device", "cpu"] for name in outs
    }
    process = start(*commands["SIGTERM"])
    forked = multiprocessing.get_context("fork").Process(
        target=main_in_fork, args=(commands["SIGHUP"], tmp_path / "output.txt")
    )
    forked.start()
    wait_for_a_step(outs["SIGHUP"], forked.is_alive)
    os.kill(forked.pid, signal.SIGHUP)
    wait_for_a_step(outs["SIGTERM"], lambda: process.poll() is None)
    process.send_signal(signal.SIGTERM)
    forked.join(120)
    outputs = {"SIGTERM": process.communicate(timeout=120)[0], "SIGHUP": (tmp_path / "output.txt").read_text()}
    assert (process.returncode, forked.exitcode) == (0, 0), outputs
    for name, out in outs.items():
        assert "Stopped, progress kept" in outputs[name]
        assert read_bundle(out / "hero.safetensors").embeddings
        assert load_newest(the_run(out) / "states").step > 0
        assert {path.name for path in the_run(out).iterdir()} >= {"log.txt", "files.json", "config.json"}
        assert not [path for path in out.rglob(".*") if path.is_file()]


def test_resume_takes_a_file_of_the_run_and_names_anything_else(settings, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["train", str(settings(steps=1)), "--out", str(out), "--device", "cpu"]) == 0
    run, longer = the_run(out), str(settings(steps=2))
    (state,) = (run / "states").iterdir()
    assert main(["train", longer, "--resume", str(state), "--device", "cpu"]) == 0
    assert [step for step, _ in read_losses(run)] == [1, 2] and the_run(out) == run
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    for wrong in (out / "hero.safetensors", tmp_path / "nope", tmp_path / "images", out):
        for more in ([], ["--check"]):
            assert main(["train", longer, "--resume", str(wrong), *more]) == 2
            error = capsys.readouterr().err
            assert "run folder" in error or "Did you mean" in error or "Give one of its runs" in error, error
            assert "Traceback" not in error and str(wrong) in error
    assert sorted(tmp_path.rglob("*")) == before
    with locked(run / ".lock"):
        assert main(["train", longer, "--resume", str(run), "--check"]) == 2
        assert main(["train", longer, "--resume", str(run)]) == 2
    assert "Another process is using this run" in capsys.readouterr().err
    for path in (run / "states").iterdir():
        path.write_bytes(b"damaged")
    assert main(["train", longer, "--resume", str(run), "--check"]) == 2
    assert "are damaged" in capsys.readouterr().out


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_broken_link(path: Path) -> None:
    path.symlink_to("/not/mounted")


@pytest.mark.parametrize(
    ("make", "part"), [(a_file, ""), (a_broken_link, ""), (a_file, "runs"), (a_broken_link, "runs")]
)
def test_check_and_training_report_an_output_that_cannot_be_written(settings, tmp_path, capsys, make, part):
    out = tmp_path / "out"
    (out / part).parent.mkdir(parents=True, exist_ok=True)
    make(out / part)
    arguments = ["train", str(settings()), "--out", str(out), "--device", "cpu"]
    for more in ([], ["--check"]):
        assert main([*arguments, *more]) == 2
        text = "".join(capsys.readouterr())
        assert str(out / part) in text and "cannot be written" in text and "Traceback" not in text


def test_the_size_of_a_lora_follows_from_the_header_of_the_checkpoint(small, model):
    from lib_pivotal.core.lora.targets import choose_targets

    targets = choose_targets(model.lora_targets(), rank=1, conv_rank=1, text_encoder_rank=1)
    chosen = [target for target, _ in targets]
    counted = {"unet": 0, "convolutions": 0, "text": 0}
    for target in chosen:
        shape = target.module.weight.shape
        kind = (
            "text"
            if target.part != "unet"
            else "unet"
            if target.role in ("attention", "feed_forward")
            else "convolutions"
        )
        counted[kind] += shape[0] + shape[1:].numel()
    for path in (small.file, small.folder):
        found = values_per_rank(path)
        assert found.unet == counted["unet"] and found.text == counted["text"]
        assert found.convolutions == pytest.approx(counted["convolutions"], rel=0.2)
    assert values_per_rank(small.file.with_name("none")) is None


def test_the_size_of_a_lora_counts_every_weight_file_once(small, tmp_path):
    whole = values_per_rank(small.folder)
    folder = tmp_path / "folder"
    shutil.copytree(small.folder, folder)
    (plain,) = (folder / "text_encoder").glob("*.safetensors")
    shutil.copy(plain, plain.with_name("model.fp16.safetensors"))
    (unet,) = (folder / "unet").glob("*.safetensors")
    tensors, shards = load_file(unet), {}
    for index, name in enumerate(sorted(tensors)):
        shards.setdefault(f"shard-{index % 2}.safetensors", {})[name] = tensors[name]
    for name, part in shards.items():
        save_file(part, unet.with_name(name))
    listed = {key: name for name, part in shards.items() for key in part}
    unet.with_name(f"{unet.name}.index.json").write_text(json.dumps({"weight_map": listed}))
    unet.unlink()
    assert values_per_rank(folder) == whole
    shutil.rmtree(folder / "unet")
    assert values_per_rank(folder) is None


@pytest.mark.long
def test_two_processes_equal_one_with_twice_the_batch_size(settings, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    write_images(tmp_path / "plain", 3, "hat")
    options = {
        "subsets": [{"folder": str(tmp_path / "plain"), "kind": "regularization"}],
        "regularization_share": 0.6,
        "regularization_target": "prior",
        "validation_share": 0.2,
        "validate_every": 2,
        "lora_start": 0.0,
    }
    assert main(["train", str(settings(batch_size=4, **options)), "--out", str(alone), "--device", "cpu"]) == 0
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    process = start(
        "train", str(settings(batch_size=2, **options)), "--out", str(together), "--device", "cpu", launcher=launcher
    )
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    one = torch.tensor([loss for _, loss in read_losses(the_run(alone))])
    two = torch.tensor([loss for _, loss in read_losses(the_run(together))])
    assert len(one) == 3
    measured = [[row["step"] for row in read_validation(the_run(folder))] for folder in (alone, together)]
    assert measured == [[0, 2, 3]] * 2
    # Latents that were encoded in other batches differ in their last digits, which the first steps of Adam enlarge.
    assert torch.allclose(one, two, rtol=1e-3), (one, two)
    lora_one, lora_two = (read_bundle(folder / "hero.safetensors").lora for folder in (alone, together))
    for key, value in lora_one.items():
        assert torch.allclose(value, lora_two[key], atol=2e-3), key
