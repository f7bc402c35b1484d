"""The tools of the cases: a webui with files, and the description of a case."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.e2e.bundles import Maker
from tests.e2e.server import Webui, digest_of

__all__ = ["ALWAYS", "BUNDLES", "RESULTS", "Bench", "Case", "case", "cases_of", "reference", "references"]

Version = tuple[int, ...]
ALWAYS: Version = (0,)
BUNDLES: Version = (1, 7)
"""The first webui that reads bundles at all."""
_MISSING = {"forge-neo": ("lora_in_memory_limit", "sd_checkpoints_limit")}
"""Kind of webui → settings that it does not have."""
_DEFAULTS = {"pivotal_loader": True, "pivotal_loader_takes_over": True, "lora_in_memory_limit": 0, "sd_lora": "None"}
"""Of settings that the API of 1.6 and 1.7 leaves out until they are changed."""


@dataclass
class Bench:
    """A webui and what a case does with it.

    Attributes:
        webui: where the cases run.
        make: writes the files.
        version: of the webui.
        is_alone: whether it runs without our extension.
    """

    webui: Webui
    make: Maker
    version: Version
    is_alone: bool = False
    made: list[Path] = field(default_factory=list)

    def refresh(self) -> None:
        """Let the webui find new files."""
        self.webui.post("/sdapi/v1/refresh-loras")
        self.webui.post("/pivotal-test/reload_textual_inversion")

    def generate(self, prompt: str, **fields: Any) -> dict[str, Any]:
        """A small image: ``c`` and ``uc`` (digests of the encodings), ``comments``, ``text`` (infotext), ``pixels``."""
        self.webui.post("/pivotal-test/take")
        task = {"prompt": prompt, "seed": 5, "steps": 1, "width": 64, "height": 64, "sampler_name": "Euler", **fields}
        answer = self.webui.post("/sdapi/v1/txt2img", task)
        seen = self.webui.post("/pivotal-test/take")
        return {
            "c": [digest for kind, digest, _ in seen["conds"] if kind == "c"],
            "uc": [digest for kind, digest, _ in seen["conds"] if kind == "uc"],
            "comments": "\n".join(text for texts in seen["comments"] for text in texts),
            "text": json.loads(answer["info"])["infotexts"][0],
            "pixels": digest_of(answer["images"][0]),
        }

    def c(self, prompt: str, **fields: Any) -> str:
        """Digest of the encoding of the positive prompt."""
        return self.generate(prompt, **fields)["c"][-1]

    @contextmanager
    def files(self, **seeds: int) -> Iterator[None]:
        """Within the context there are ordinary embedding files of these names."""
        paths = [self.make.file(name, seed) for name, seed in seeds.items()]
        self.webui.post("/pivotal-test/reload_textual_inversion")
        try:
            yield
        finally:
            for path in paths:
                path.unlink(missing_ok=True)
            self.webui.post("/pivotal-test/reload_textual_inversion")

    @contextmanager
    def options(self, **values: Any) -> Iterator[None]:
        """Within the context the webui has these settings."""
        before = self._choose(values)
        try:
            yield
        finally:
            self._choose({name: before.get(name, _DEFAULTS.get(name, False)) for name in values})

    def _choose(self, values: dict[str, Any]) -> dict[str, Any]:
        """Change those settings that the webui has; returns the settings as they were, some without the defaults."""
        before = self.webui.get("/sdapi/v1/options")
        missing = _MISSING.get(self.webui.kind, ())
        self.webui.post("/sdapi/v1/options", {name: value for name, value in values.items() if name not in missing})
        return before

    def start_afresh(self) -> None:
        """Remove the traces of earlier cases: the webui alone depends on its history."""
        self._choose({"lora_in_memory_limit": 0})
        if self.is_alone:
            self.generate("nothing")
        self.refresh()

    def prepare(self) -> None:
        """The files that most cases use."""
        self.make.bundle("A", 1, {"s1": 11, "zogA": 12})
        self.make.bundle("B", 2, {"s1": 21})
        self.refresh()


@dataclass(frozen=True)
class Case:
    """Something that must hold.

    Attributes:
        check: fails where it does not hold.
        fails: versions (from, below) of the webui alone in which it does not hold; None where it always holds.
        blocks: the webui alone cannot load any LoRA afterwards until it is restarted.
    """

    check: Callable[[Bench], None]
    fails: tuple[Version, Version] | None
    blocks: bool = False

    @property
    def name(self) -> str:
        """The title of the case, as printed."""
        return self.check.__name__.replace("_", " ")

    def fails_alone(self, version: Version) -> bool:
        """Whether the webui alone is known to fail."""
        return self.fails is not None and self.fails[0] <= version < self.fails[1]


RESULTS: dict[str, dict[str, str]] = {}
"""Name of a case → ``alone`` and ``with us``: ``holds`` or ``fails``; printed at the end."""


def case(since: Version | None = None, until: Version = (9,), *, blocks: bool = False) -> Callable[..., Case]:
    """Make a function a case; ``since`` … ``until`` are the versions of the webui alone that fail it."""
    return lambda check: Case(check, None if since is None else (since, until), blocks)


def cases_of(module: ModuleType) -> list[Case]:
    """The cases in a module, in its order."""
    return [value for value in vars(module).values() if isinstance(value, Case)]


def reference(bench: Bench, prompt: str, *, files: dict[str, int], **fields: Any) -> dict[str, Any]:
    """What the webui itself makes of a prompt with plain LoRAs and ordinary embedding files."""
    _forget_bundles(bench)
    with bench.files(**files):
        return bench.generate(_plain(prompt), **fields)


def references(bench: Bench, prompts: Sequence[str], *, files: dict[str, int], **fields: Any) -> list[str]:
    """The same for several prompts: digests of their encodings."""
    _forget_bundles(bench)
    with bench.files(**files):
        return [bench.c(_plain(prompt), **fields) for prompt in prompts]


def _forget_bundles(bench: Bench) -> None:
    """The webui alone also forgets a file of a name when it forgets the bundle with that name."""
    if bench.is_alone:
        bench.generate("nothing")


def _plain(prompt: str) -> str:
    return prompt.replace("<lora:", "<lora:plain_")
