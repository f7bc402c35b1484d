"""The programs of the webui that describe images."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lib_pivotal.core.errors import HostError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ClipInterrogator", "DeepDanbooru"]


class DeepDanbooru:
    """Lists tags.

    Host: modules/deepbooru.py, ``model``, A1111 1.6.1-1.10.1: ``start`` loads the model, after downloading it if
        ``models/torch_deepdanbooru`` has none, ``stop`` moves it off the device, and ``tag_multi`` returns
        comma-separated tags as the settings under "Interrogate" say.
    """

    name = "DeepDanbooru (tags)"
    download = "600 MB"

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Image.Image], str]]:
        """Load the model; the function returns tags, without weights.

        Raises:
            HostError: the model cannot be loaded.
        """
        from modules import deepbooru

        model = deepbooru.model
        try:
            model.start()
        except Exception as error:
            text = f"The model of DeepDanbooru cannot be loaded: {type(error).__name__}: {error}."
            hint = "If it could not be downloaded, put model-resnet_custom_v3.pt into models/torch_deepdanbooru."
            raise HostError(text, hint=hint) from error
        try:
            yield lambda image: str(model.tag_multi(image, force_disable_ranks=True))
        finally:
            model.stop()


class ClipInterrogator:
    """Writes a sentence, then phrases of prompts that fit.

    Host: modules/interrogate.py, ``InterrogateModels.interrogate``, A1111 1.6.1-1.10.1: loads its models, after
        downloading them, and moves them off the device for each image; if it fails, the text ends in ``<error>``.
    """

    name = "CLIP interrogator (a sentence)"
    download = "1.8 GB"

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[Image.Image], str]]:
        """The function returns a sentence.

        Raises:
            HostError: an image cannot be described.
        """
        from modules import shared

        def describe(image: Image.Image) -> str:
            text = str(shared.interrogator.interrogate(image) or "")
            if "<error>" in text:
                hint = "The webui's console says why; its models may not have been downloaded."
                raise HostError("The webui's interrogator has failed.", hint=hint)
            return text

        yield describe
