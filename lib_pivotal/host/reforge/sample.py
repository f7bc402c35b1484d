"""Preview images made with reForge's own txt2img during training."""

from __future__ import annotations

from typing import Any

from lib_pivotal.core.ports import LiveEmbeddings, Sample, SampleRequest
from lib_pivotal.host.a1111.sample import A1111Sampler
from lib_pivotal.host.reforge.memory import settle

__all__ = ["ReforgeSampler", "no_scripts"]


class ReforgeSampler(A1111Sampler):
    """Makes previews, and takes the model back after reForge has worked with it."""

    def make(self, request: SampleRequest, embeddings: LiveEmbeddings) -> Sample | None:
        """Generate one image whose prompt may name ``embeddings``; None when it was interrupted.

        Raises:
            HostError: the webui could not make the image, or there is too little memory left to continue.
        """
        try:
            return super().make(request, embeddings)
        finally:
            settle(self._model)

    def _scripts(self) -> Any:
        return no_scripts()


def no_scripts() -> Any:
    """A runner without scripts.

    Host: modules/processing.py, ``process_images_inner``, reForge: looks through ``p.scripts.alwayson_scripts``, also
        where there is no runner.
    Host: modules/scripts.py, ``ScriptRunner``, reForge: has no scripts until it is filled.
    """
    from modules import scripts

    return scripts.ScriptRunner()
