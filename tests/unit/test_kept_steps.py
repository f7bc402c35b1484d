"""After which steps a run keeps a bundle to choose from."""

from __future__ import annotations

import pytest

from lib_pivotal.core.config.schema import TrainConfig
from lib_pivotal.core.train.kept_steps import kept_steps


@pytest.mark.parametrize(
    ("total", "changes", "steps"),
    [
        (1600, {}, [200, 400, 600, 800, 1000, 1200, 1400]),
        (1000, {}, [100, 200, 400, 500, 600, 800, 900]),
        # There is nothing to look at after other steps.
        (300, {}, [100, 200]),
        (300, {"sample_every": 0, "validate_every": 0}, [38, 75, 112, 150, 188, 225, 262]),
        (1000, {"sample_every": 50, "validate_every": 200}, [100, 250, 400, 500, 600, 750, 900]),
        (4000, {"sample_every": 100, "validate_every": 250}, [500, 1000, 1500, 2000, 2500, 3000, 3500]),
        (800, {"sample_every": 5000, "validate_every": 0}, [100, 200, 300, 400, 500, 600, 700]),
        (3, {"sample_every": 0}, [1, 2]),
        (800, {"save_every": 200}, [100, 300, 500, 700]),
        (1000, {"step_bundles": 1}, []),
        (1000, {"step_bundles": 0}, []),
        (0, {}, []),
        (-5, {"step_bundles": -1}, []),
    ],
)
def test_the_steps_are_even_and_there_is_something_to_look_at(total, changes, steps):
    assert kept_steps(TrainConfig(**changes), total) == steps
