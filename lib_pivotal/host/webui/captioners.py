"""The programs of the webui that describe images."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lib_pivotal.core.errors import HostError, Interrupted

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ClipInterrogator", "DeepDanbooru", "available_captioners"]

_PUT_IT_THERE = "Put model-resnet_custom_v3.pt into models/torch_deepdanbooru, or choose another program."


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
            Interrupted: by the function, after the webui's Interrupt.
        """
        from modules import deepbooru

        model = deepbooru.model
        try:
            model.start()
        except IndexError as error:
            # The webui hides why a download failed, and then looks for the first of no files.
            text = "The model of DeepDanbooru is missing, and the webui could not download it."
            raise HostError(text, hint=_PUT_IT_THERE) from error
        except Exception as error:
            text = f"The model of DeepDanbooru cannot be loaded: {type(error).__name__}: {error}."
            raise HostError(text, hint=_PUT_IT_THERE) from error

        def describe(image: Image.Image) -> str:
            _stop_if_interrupted()
            return str(model.tag_multi(image, force_disable_ranks=True))

        try:
            yield describe
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
            HostError: by the function, if an image cannot be described.
            Interrupted: by the function, after the webui's Interrupt.
        """
        from modules import shared

        def describe(image: Image.Image) -> str:
            _stop_if_interrupted()
            text = str(shared.interrogator.interrogate(image) or "")
            if "<error>" in text:
                hint = "The webui's console says why; its models may be missing because they could not be downloaded."
                raise HostError("The webui's CLIP interrogator has failed.", hint=hint)
            return text

        yield describe


def available_captioners() -> list[DeepDanbooru | ClipInterrogator]:
    """The programs that this webui has.

    Host: modules/deepbooru.py, ``DeepDanbooru``, and modules/interrogate.py, ``InterrogateModels``, A1111 1.6.1-1.10.1,
        Forge, reForge; Forge-Neo has neither module.
    """
    found: list[DeepDanbooru | ClipInterrogator] = []
    for module, program in (("deepbooru", DeepDanbooru()), ("interrogate", ClipInterrogator())):
        with contextlib.suppress(ImportError):
            importlib.import_module(f"modules.{module}")
            found.append(program)
    return found


def _stop_if_interrupted() -> None:
    """Raise if the user has pressed Interrupt.

    Host: modules/shared_state.py, ``State.interrupted``, ``State.begin``, A1111 1.6.1-1.10.1, and
        ``State.stopping_generation``, from 1.8: stay until the next job begins, which the interrogator does for each
        image.
    """
    from modules import shared

    if shared.state.interrupted or getattr(shared.state, "stopping_generation", False):
        raise Interrupted("Interrupted.")
