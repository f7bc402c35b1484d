"""A run that has written its bundle is a success; other failures around it are warnings."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from lib_pivotal.core.bundle.file import read_bundle
from lib_pivotal.core.bundle.writer import write_bundle
from lib_pivotal.core.errors import ConfigError, OutOfMemory, TrainingDiverged
from lib_pivotal.core.events import Finished, StepDone, Warned
from lib_pivotal.core.train.out_of_memory import explained, is_out_of_memory
from lib_pivotal.core.train.recorder import Recorder, read_losses
from tests.runs.harness import ImageMaker, Listener, folders, run, stopped_run
from tests.unit.toy import ToyModel, toy_config

FULL = Path("/dev/full")


def warnings_of(listener) -> list[str]:
    return [event.message for event in listener.of(Warned)]


# -- a full run folder


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("breaks", [False, True])
def test_a_loss_table_that_cannot_be_written_does_not_end_the_run_or_hide_its_error(
    tmp_path, data, monkeypatch, breaks
):
    """Also at the end, when buffered lines are written."""
    path_open = Path.open

    def full(path, mode="r", *arguments, **options):
        return path_open(FULL if path.name == "loss.csv" and mode == "a" else path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    model, listener = ToyModel(), Listener()
    model.broken_at = 4 if breaks else None
    if breaks:
        with pytest.raises(TrainingDiverged):
            run(toy_config(data), folders(tmp_path), model, listener)
    else:
        outcome, _ = run(toy_config(data), folders(tmp_path), model, listener)
        assert outcome.outcome == "done" and read_bundle(outcome.bundle_path).lora
        assert [event.outcome for event in listener.of(Finished)] == ["done"]
    assert len([text for text in warnings_of(listener) if "loss.csv" in text and "No space left" in text]) == 1


def refusing(monkeypatch, names, error=errno.ENOSPC):
    """Make it impossible to create files whose names start like this."""
    path_open = Path.open

    def refuse(path, mode="r", *arguments, **options):
        if mode[0] in "xwa" and path.name.lstrip(".").startswith(names):
            raise OSError(error, os.strerror(error), str(path))
        return path_open(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EMFILE, errno.EROFS])
@pytest.mark.parametrize("name", ["loss.csv", "config.json", "step-", "toy.json", "toy.png", "state-", "files.json"])
def test_whatever_fails_apart_from_the_bundle_is_a_warning(tmp_path, data, monkeypatch, name, error):
    refusing(monkeypatch, name, error)
    config = toy_config(data, steps=2, sample_every=2, sample_prompts="zog_x")
    outcome, listener = run(config, folders(tmp_path), sampler=ImageMaker())
    assert outcome.outcome == "done" and read_bundle(outcome.bundle_path).lora
    assert len(listener.of(StepDone)) == 2
    assert [os.strerror(error) in text for text in warnings_of(listener)] == [True], warnings_of(listener)


def test_a_failing_memory_measurement_does_not_end_the_run(tmp_path, data, monkeypatch):
    def broken(_device):
        raise RuntimeError("the driver is gone")

    monkeypatch.setattr("lib_pivotal.core.train.run.peak_bytes", broken)
    outcome, _ = run(toy_config(data, steps=1), folders(tmp_path))
    assert outcome.outcome == "done"


def test_a_failing_snapshot_does_not_end_the_run(tmp_path, data, monkeypatch):
    real, calls = write_bundle, []

    def broken(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("a bug")
        return real(*arguments, **options)

    monkeypatch.setattr("lib_pivotal.core.train.output.write_bundle", broken)
    outcome, listener = run(toy_config(data, save_every=4), folders(tmp_path))
    assert outcome.outcome == "done" and ["RuntimeError: a bug" in text for text in warnings_of(listener)] == [True]


def test_a_bundle_that_cannot_be_written_says_that_the_state_is_kept(tmp_path, data, monkeypatch):
    refusing(monkeypatch, "toy.safetensors")
    with pytest.raises(Exception, match=r"No space left.*is saved in .*run: resume"):
        run(toy_config(data, steps=1), folders(tmp_path))


def test_no_space_for_the_bundle_is_found_before_the_first_step(tmp_path, data, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(10**9, 10**9, 100))
    listener = Listener()
    with pytest.raises(ConfigError, match="bundle needs"):
        run(toy_config(data), folders(tmp_path), listener=listener)
    assert not listener.of(StepDone)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(10**9, 10**9, 10_000))
    outcome, listener = run(toy_config(data, save_every=2), folders(tmp_path))
    assert outcome.outcome == "done" and ["this run needs" in text for text in warnings_of(listener)] == [True]


# -- a bundle that somebody holds open


def test_a_bundle_in_use_is_saved_under_another_name_and_still_belongs_to_its_run(tmp_path, data, monkeypatch):
    where = folders(tmp_path)
    first, _ = stopped_run(toy_config(data, steps=8), where)
    replace = os.replace

    def busy(source, target):
        if Path(target) == first.bundle_path:
            raise PermissionError(13, "used by another process")
        replace(source, target)

    before = first.bundle_path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("lib_pivotal.core.atomic_file._WAITS", ())
        patch.setattr("os.replace", busy)
        second, listener = stopped_run(toy_config(data, steps=8), where, at=6, resume_from=where.run)
    assert second.bundle_path.name == "toy-2.safetensors" and read_bundle(second.bundle_path).lora
    assert first.bundle_path.read_bytes() == before
    assert ["toy-2.safetensors" in text for text in warnings_of(listener)] == [True]
    assert second.bundle_path.with_suffix(".json").exists()
    third, _ = run(toy_config(data, steps=8), where, resume_from=where.run)
    assert third.bundle_path == first.bundle_path and first.bundle_path.read_bytes() != before


# -- side-cars


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.mkdir(),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text("{not json"),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: os.mkfifo(path) if hasattr(os, "mkfifo") else path.mkdir(),
        lambda path: path.write_text('{"preferred weight": "' + "x" * 2**21 + '"}'),
    ],
)
def test_an_invalid_sidecar_gives_a_warning_and_is_not_changed(tmp_path, make):
    side = tmp_path / "my.json"
    make(side)
    before = side.stat()
    written = write_bundle(tmp_path / "my.safetensors", {}, {}, {}, words="zog")
    assert written.path.exists() and len(written.warnings) == 1 and "my.json" in written.warnings[0]
    assert (side.stat().st_ino, side.stat().st_size) == (before.st_ino, before.st_size)


# -- damaged tables


@pytest.mark.parametrize(
    ("text", "rows", "is_kept"),
    [
        (b"step,loss\r\n1,0.5\r\n2,0.4\r\n", [1, 2], False),
        (b"step,loss\r\n1,0.5\r\n2", [1], False),
        ("step,loss\n1,0.5\n".encode("utf-16"), [], True),
        (b"step,loss\n1,0.5\n\xe9\xff,1\n2,0.4\n", [1, 2], True),
        (b"step,loss\n1,0.5\n\x00\x00\n", [1], True),
        ("step,loss\n1,0.5\n\u00b2,0.4\n3,oops\n-4,1\n1,2,3\n".encode(), [1], False),
        (b'step,loss\n1,0.5\n"' + b"x" * 200_000 + b"\n", [1], True),
        (b"", [], False),
    ],
)
def test_a_loss_table_edited_by_someone_does_not_prevent_a_resume(tmp_path, text, rows, is_kept):
    (tmp_path / "loss.csv").write_bytes(text)
    assert [step for step, _ in read_losses(tmp_path)] == rows
    warnings: list[str] = []
    recorder = Recorder(tmp_path, 10, warnings.append)
    recorder.handle(StepDone(11, 0.25))
    recorder.close()
    assert [step for step, _ in read_losses(tmp_path)] == [*rows, 11] and not warnings
    kept = tmp_path / "loss.csv.damaged"
    assert kept.exists() is is_kept and (not is_kept or kept.read_bytes() == text)


# -- out of memory, in everybody's words


class OutOfMemoryError(RuntimeError):
    """torch moves its class between modules; its name stays."""


WORDS = [
    (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
    (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
    (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried"), True),
    (RuntimeError("[enforce fail at CPUAllocator.cpp:76] data. DefaultCPUAllocator: can't allocate memory"), True),
    (RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB, other allocations: 1 KB)"), True),
    (RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"), True),
    (MemoryError(), True),
    (MemoryError("Unable to allocate 5.96 GiB for an array"), True),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
    (OSError(errno.ENOSPC, "No space left on device"), False),
    (RuntimeError("Expected all tensors to be on the same device"), False),
    (ValueError("out of memory"), False),
    (KeyError("memory"), False),
]


@pytest.mark.parametrize(("error", "is_memory"), WORDS)
def test_out_of_memory_is_recognized(error, is_memory):
    assert is_out_of_memory(error) is is_memory
    found = explained(error, "training")
    assert (isinstance(found, OutOfMemory) and "batch size" in found.hint) if is_memory else found is error


@pytest.mark.parametrize("error", [error for error, is_memory in WORDS if is_memory][:9:4])
def test_out_of_memory_while_training_has_a_remedy_and_keeps_what_was_learned(tmp_path, data, error):
    class Small(ToyModel):
        def predict(self, *arguments):
            if self.predictions == 3:
                raise error
            return super().predict(*arguments)

    with pytest.raises(OutOfMemory, match="while training"):
        run(toy_config(data), folders(tmp_path), Small())
    assert read_bundle(tmp_path / "run-bundles" / "toy.safetensors").lora


def test_an_error_while_saving_does_not_hide_why_the_run_ended(tmp_path, data, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a second failure")

    monkeypatch.setattr("lib_pivotal.core.train.output.write_bundle", broken)
    monkeypatch.setattr("lib_pivotal.core.train.output.save_state", broken)
    model = ToyModel()
    model.broken_at = 5
    with pytest.raises(TrainingDiverged):
        run(toy_config(data), folders(tmp_path), model)


def test_a_model_that_no_longer_responds_does_not_hide_the_error(tmp_path, data):
    class Gone(ToyModel):
        is_gone = False

        def predict(self, *arguments):
            if self.predictions == 3:
                self.is_gone = True
                raise ZeroDivisionError
            return super().predict(*arguments)

        def verify(self):
            if self.is_gone:
                raise RuntimeError("gone")

    with pytest.raises(ZeroDivisionError):
        run(toy_config(data), folders(tmp_path), Gone())


# -- skipped steps


class EveryOther(ToyModel):
    """Half of its losses, or of their gradients, are NaN."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def predict(self, noisy, timesteps, condition):
        result = super().predict(noisy, timesteps, condition)
        if self.predictions % 2:
            return result
        if self.what == "loss":
            return result * float("nan")
        result.register_hook(lambda gradient: gradient * float("nan"))
        return result


@pytest.mark.parametrize("what", ["loss", "gradients"])
def test_skipped_steps_are_counted_at_the_end(tmp_path, data, what):
    outcome, listener = run(toy_config(data, steps=8), folders(tmp_path), EveryOther(what))
    assert outcome.outcome == "done"
    assert ["4 of 8 steps were skipped" in text for text in warnings_of(listener)] == [True]
    assert all(torch.isfinite(value).all() for value in read_bundle(outcome.bundle_path).lora.values())
