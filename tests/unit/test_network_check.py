"""verify finds what is wrong with the weights of a LoRA."""

from __future__ import annotations

import json
import resource

import pytest
import torch
from safetensors.torch import save_file

from lib_pivotal.core.bundle.inspection import describe, verify
from tests.unit.bundle_samples import LORA, NETWORKS

DOWN, UP, ALPHA = LORA


def found(tmp_path, tensors):
    path = tmp_path / "x.safetensors"
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, path)
    return [f"{problem.severity}: {problem}" for problem in verify(path)]


def changed(**values):
    """The small LoRA with some of its tensors replaced, or left out where the value is None."""
    named = {
        DOWN: values.get("down", LORA[DOWN]),
        UP: values.get("up", LORA[UP]),
        ALPHA: values.get("alpha", LORA[ALPHA]),
    }
    return {key: value for key, value in named.items() if value is not None}


FAULTS = {
    "NaN": (changed(up=torch.full((8, 4), float("nan"))), "error", "NaN or infinite"),
    "one NaN": (changed(down=torch.where(torch.arange(32).reshape(4, 8) == 31, torch.nan, LORA[DOWN].float())), "error", "NaN"),
    "infinite": (changed(up=torch.full((8, 4), float("inf")).half()), "error", "NaN or infinite"),
    "no up": (changed(up=None), "error", "lora_up.weight is missing"),
    "no down": (changed(down=None), "error", "lora_down.weight is missing"),
    "ranks": (changed(up=torch.ones(8, 5)), "error", "ranks that do not fit"),
    "alpha NaN": (changed(alpha=torch.tensor(float("nan"))), "error", "unusable alpha"),
    "alpha infinite": (changed(alpha=torch.tensor(float("inf"))), "error", "unusable alpha"),
    "alpha 0": (changed(alpha=torch.tensor(0.0)), "error", "unusable alpha"),
    "alpha negative": (changed(alpha=torch.tensor(-1.0)), "error", "unusable alpha"),
    "alpha a row": (changed(alpha=torch.ones(4)), "error", "unusable alpha"),
    "alpha huge": (changed(alpha=torch.tensor(100.0)), "warning", "far above its rank"),
    "integers": (changed(up=torch.ones(8, 4, dtype=torch.int64)), "error", "dtype"),
    "zero": (changed(up=torch.zeros(8, 4)), "error", "All of its weights are zero"),
    "LoHa without a half": ({k: v for k, v in NETWORKS["LoHa"][0].items() if "w2_b" not in k}, "error", "hada_w2_b is missing"),
    "LoKr without w1": ({k: v for k, v in NETWORKS["LoKr"][0].items() if "w1" not in k}, "error", "lokr_w1 is missing"),
    "LoHa of two ranks": ({k: v[..., :2] if "w1_a" in k else v for k, v in NETWORKS["LoHa"][0].items()}, "error", "ranks"),
    "PEFT without B": ({k: v for k, v in NETWORKS["PEFT LoRA"][0].items() if "lora_B" not in k}, "error", "lora_B.weight is missing"),
    "OFT NaN": ({k: v * torch.nan for k, v in NETWORKS["OFT"][0].items()}, "error", "NaN"),
    "full zero": ({k: v * 0 for k, v in NETWORKS["full"][0].items()}, "error", "All of its weights are zero"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named_with_its_layer(tmp_path, fault):
    tensors, severity, words = FAULTS[fault]
    lines = [line for line in found(tmp_path, tensors) if words in line]
    assert lines, found(tmp_path, tensors)
    assert lines[0].startswith(f"{severity}: LoRA:")
    assert (
        "zero" in fault
        or next(iter(tensors)).partition(".lora")[0].partition(".hada")[0].partition(".alpha")[0][:11] in lines[0]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn])
def test_every_fraction_can_be_checked(tmp_path, dtype):
    assert not found(tmp_path, changed(down=LORA[DOWN].to(dtype), up=LORA[UP].to(dtype)))
    assert "All of its weights are zero" in str(found(tmp_path, changed(up=torch.zeros(8, 4).to(dtype))))


def test_a_part_that_was_not_trained_is_a_warning(tmp_path):
    other = {key.replace("lora_unet_a", "lora_te_b"): value * 0 if key == UP else value for key, value in LORA.items()}
    (line,) = found(tmp_path, {**LORA, **other})
    assert line.startswith("warning: LoRA: 1 layer is zero and changes nothing: lora_te_b")


def test_magnitudes_change_something_even_where_the_product_is_zero(tmp_path):
    tensors = {k: v * 0 if "lora_up" in k else v for k, v in NETWORKS["DoRA"][0].items()}
    assert "zero" not in str(found(tmp_path, tensors))


def test_an_alpha_that_no_program_uses_is_not_judged(tmp_path):
    """With two full matrices LyCORIS stores a very large alpha, which loaders ignore."""
    layer = next(iter(NETWORKS["LoKr (whole)"][0])).partition(".")[0]
    assert not found(tmp_path, {**NETWORKS["LoKr (whole)"][0], f"{layer}.alpha": torch.tensor(1e10)})


def test_many_layers_are_counted_and_a_few_named(tmp_path):
    tensors = {
        key.replace("_a.", f"_{number}."): value for number in range(50) for key, value in LORA.items() if key != UP
    }
    (line,) = found(tmp_path, tensors)
    assert "50 layers have tensors missing" in line
    assert "and 47 more" in line
    assert len(line) < 500


def raw_file(path, header, data=b""):
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


GOOD = {"dtype": "F32", "shape": [4, 1], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [4, 2]}, "does not fit its shape"),
        ({"shape": [10**5, 10**5]}, "does not fit its shape"),
        ({"dtype": "F16"}, "does not fit its shape"),
        ({"dtype": "Q8_0"}, "dtype"),
        ({"dtype": "U8", "shape": [16, 1]}, "dtype"),
        ({"data_offsets": [0, 8], "shape": [2, 1]}, "do not belong to any tensor"),
        ({"data_offsets": [8, 16], "shape": [2, 1]}, "do not belong to any tensor"),
    ],
)
def test_what_makes_other_programs_refuse_a_file(tmp_path, changes, words):
    header = {
        "lora_unet_a.lora_down.weight": {**GOOD, **changes},
        "lora_unet_a.lora_up.weight": {**GOOD, "shape": [0, 4], "data_offsets": [16, 16]},
    }
    problems = verify(raw_file(tmp_path / "x.safetensors", header, bytes(16)))
    assert words in str([problem for problem in problems if problem.is_error])


@pytest.mark.parametrize("metadata", [{"a": 1}, {"a": "\ud800"}, {"\udc00": "x"}, [1], "text"])
def test_metadata_that_other_programs_refuse(tmp_path, metadata):
    path = raw_file(tmp_path / "x.safetensors", {"__metadata__": metadata, "x": {**GOOD}}, bytes(16))
    problems = [problem for problem in verify(path) if problem.is_error]
    assert "metadata" in problems[0].message
    assert "reject the file" in problems[0].hint
    assert describe(path)


def test_a_large_file_is_read_in_pieces(tmp_path):
    """240 MB of weights, and a fraction of that in memory at any time."""
    path = tmp_path / "x.safetensors"
    size = 120 * 2**20
    header = {
        "lora_unet_a.lora_down.weight": {"dtype": "F16", "shape": [1, size // 2], "data_offsets": [0, size]},
        "lora_unet_a.lora_up.weight": {"dtype": "F16", "shape": [size // 2, 1], "data_offsets": [size, 2 * size]},
    }
    raw_file(path, header)
    with path.open("r+b") as file:
        file.seek(0, 2)
        file.truncate(file.tell() + 2 * size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "zero" in str(verify(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
