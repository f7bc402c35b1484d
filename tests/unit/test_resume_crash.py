"""Killed at any moment, between or during saves, a run resumes from a whole state to the very same result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from lib_pivotal.core.events import Control
from lib_pivotal.core.train.run import Folders, train
from lib_pivotal.core.train.state import load_newest
from tests.unit.toy import ToyModel, toy_config, write_pictures

ROOT = Path(__file__).parents[2]

PROGRAM = """
    import os, signal, sys
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    import lib_pivotal.core.bundle.file as file
    from lib_pivotal.core.events import Control, StepDone
    from lib_pivotal.core.train.run import Folders, train
    from tests.unit.toy import ToyModel, toy_config
    root, moment = Path(sys.argv[1]), sys.argv[2]
    replace, count = os.replace, 0
    def dying_replace(a, b):
        global count
        count += "states" in str(b)
        if count == 2 and moment == "before rename":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(a, b)
    file.os.replace = dying_replace
    class Killer:
        def handle(self, event):
            if isinstance(event, StepDone) and event.step == 11 and moment == "between saves":
                os.kill(os.getpid(), signal.SIGKILL)
    (root / "run").mkdir(exist_ok=True)
    folders = Folders(root / "run", root / "bundles", root / "cache")
    config = toy_config(root / "data", steps=20, save_every=4)
    train(config, ToyModel(), None, [Killer()], Control(), folders)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize(("moment", "step"), [("between saves", 8), ("before rename", 4)])
def test_killed_run_resumes_exactly(tmp_path, moment, step):
    write_pictures(tmp_path / "data")
    program = textwrap.dedent(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    dead = subprocess.run([sys.executable, "-c", program, str(tmp_path), moment], env=environment, check=False)
    assert dead.returncode == -signal.SIGKILL
    assert load_newest(tmp_path / "run" / "states").step == step

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        config = toy_config(tmp_path / "data", steps=20, save_every=4)
        folders = Folders(tmp_path / "run", tmp_path / "bundles", tmp_path / "cache")
        train(config, ToyModel(), None, [], Control(), folders, resume_from=folders.run)
        (tmp_path / "whole").mkdir()
        whole = Folders(tmp_path / "whole", tmp_path / "whole-bundles", tmp_path / "cache")
        train(config, ToyModel(), None, [], Control(), whole)
    finally:
        torch.set_num_threads(threads)
    resumed, straight = load_newest(folders.run / "states"), load_newest(whole.run / "states")
    assert resumed.step == straight.step == 20
    assert all(torch.equal(resumed.tensors[key], straight.tensors[key]) for key in straight.tensors)
