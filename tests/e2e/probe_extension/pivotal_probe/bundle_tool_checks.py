"""The bundle tools of the tab on the webui's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lib_pivotal.app.bundle_library import BundleLibrary, Destination
from lib_pivotal.core.errors import PivotalError
from lib_pivotal.host.bundle_prompts.bundle_tools import WebuiBundleTools


class Hostile:
    """An object whose pickle runs code."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.path),))


def pack_pt(lora: str, folder: str, width: int) -> dict[str, Any]:
    """Pack an embedding file of a width as the webui itself saves them, and one that would run something."""
    host = WebuiBundleTools()
    library, embeddings = BundleLibrary(host), host.embedding_folder()
    contents = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.full((2, width), 0.25)},
        "name": "saved_v1",
        "step": 5,
    }
    mark = Path(folder) / "was-run"
    hostile = {"string_to_param": {"*": torch.ones(1, width)}, "x": Hostile(str(mark))}
    for value, name in ((contents, "saved_v1"), (hostile, "hostile_v1")):
        # The readers of 1.6 and 1.7 do not know the newer form that torch 2.1 writes.
        torch.save(value, embeddings / f"{name}.pt", _use_new_zipfile_serialization=False)
    try:
        done = library.pack(lora, ["saved_v1.pt"], "", Destination("packed_here"))
        try:
            library.pack(lora, ["hostile_v1.pt"], "", Destination("never"))
            refused = ""
        except PivotalError as error:
            refused = str(error)
        return {
            "name": done.name,
            "embeddings": sorted(library.describe(done.name)["embeddings"]),
            "verified": [str(problem) for problem in library.verify(done.name) if problem.is_error],
            "listed": "packed_here" in library.bundles(),
            "refused": refused,
            "was_run": mark.exists(),
        }
    finally:
        for name in ("saved_v1.pt", "hostile_v1.pt"):
            (embeddings / name).unlink()


CHECKS = (pack_pt,)
