"""What a training step copies to the GPU and reads back, shown without one: torch's meta device stands in for it.

Nothing can be read from that device, so a step that waited for a value would fail. On a GPU, tests/gpu does the same.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lib_pivotal.core.events import Control
from lib_pivotal.core.process_group import SingleProcess
from lib_pivotal.core.train.loop import Loop
from lib_pivotal.core.train.setup import prepare
from tests.unit.toy import ToyModel, toy_config, write_images

META = torch.device("meta")
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class CopiesToDevice(TorchDispatchMode):
    """Notes the shape of each tensor that is copied from the CPU to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        if function in _COPIES:
            source = args[1] if function is torch.ops.aten.copy_.default else args[0]
            if (source.device.type, output.device.type) == ("cpu", "meta"):
                self.shapes.append(tuple(output.shape))
        return output


class ModelOnDevice(ToyModel):
    device = META

    def __init__(self) -> None:
        super().__init__()
        (encoder,) = self.text_encoders
        vocabulary = encoder.table.weight.detach().clone()
        # The initial vectors are made from it before the first step.
        encoder.token_vectors = lambda: vocabulary
        encoder.mask = encoder.mask.to(META)
        for module in (self.unet, encoder.table, encoder.layer):
            module.to(META)


@pytest.fixture
def loop(tmp_path):
    write_images(tmp_path)
    config = toy_config(tmp_path, batch_size=4, lora_start=0.0)
    setup = prepare(
        config,
        ModelOnDevice(),
        cache=tmp_path,
        group=SingleProcess(),
        progress=lambda *_: None,
        stopped=lambda: False,
    )
    # Without CUDA the update reads whether gradients are finite, and values are read back at once.
    norms = {group.name: torch.zeros((), device=META) for group in setup.optimizer.groups}
    setup.optimizer.step = lambda: norms
    made = Loop(setup, None, lambda _: None, Control(), SingleProcess())
    made._readback.push = lambda *_: None
    with setup.attached():
        yield made


def test_a_step_copies_what_is_new_in_it_and_reads_nothing(loop):
    loop.train_step(0)
    for step in (1, 2):
        with CopiesToDevice() as copied:
            loop.train_step(step)
        batch, ids = (4,), (4, 77)
        # Timesteps, noise with the draw of the latents, images, tokens, and where which vectors go.
        fixed = [batch, batch, (4, 2, 4, 8, 8), ids]
        vectors = [shape for shape in copied.shapes if shape not in fixed]
        assert sorted(copied.shapes) == sorted([*fixed, *vectors])
        assert [shape[0] for shape in vectors] == [3]
