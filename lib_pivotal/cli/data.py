"""The commands ``data …``: what a data set is and how it is trained."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_pivotal.cli.console import say
from lib_pivotal.core.printable import printable, printable_json

if TYPE_CHECKING:
    from lib_pivotal.core.config.schema import TrainConfig

__all__ = ["add_data_commands"]

_SHOWN_DRAWS = 20


def add_data_commands(commands: Any) -> None:
    """Add the commands to the subparsers of ``data``."""
    captions = commands.add_parser("captions", help="print captions as they are trained")
    captions.add_argument("config", type=Path, help="JSON settings file")
    captions.add_argument("--step", type=int, default=1, metavar="K", help="the step, from 1 (default: 1)")
    captions.add_argument("--image", metavar="NAME", help="how the caption of this image varies from step K on")
    captions.add_argument("--count", type=int, default=1000, metavar="N", help="number of draws (default: 1000)")
    captions.add_argument("--tokens", action="store_true", help="count tokens as the checkpoint of the settings does")
    captions.add_argument("--json", action="store_true", help="print JSON")
    captions.set_defaults(run=_captions)


def _captions(options: argparse.Namespace) -> int:
    from lib_pivotal.core.data.dataset_report import read_dataset
    from lib_pivotal.core.train.caption_preview import CaptionPreview

    config = _settings(options.config)
    preview = CaptionPreview(read_dataset(config), config, _tokenizer(config) if options.tokens else None)
    if options.image is None:
        items = preview.step(options.step)
        say((printable_json(items) if options.json else _step_text(options.step, items)) + "\n")
    else:
        found = preview.image(options.image, options.count, options.step)
        say((printable_json(found) if options.json else _image_text(found)) + "\n")
    return 0


def _settings(path: Path) -> TrainConfig:
    from lib_pivotal.core.config.io import read_json
    from lib_pivotal.core.config.settings_file import read_settings_file
    from lib_pivotal.core.errors import ConfigError

    config, problems = read_json(read_settings_file(path))
    if any(problem.is_error for problem in problems):
        raise ConfigError(problems)
    return config


def _tokenizer(config: TrainConfig) -> Callable[[str], list[int]]:
    # Imports diffusers, which takes seconds.
    from lib_pivotal.host.diffusers.checkpoint import load_tokenizer

    tokenizer = load_tokenizer(Path(config.checkpoint).expanduser())
    return lambda text: list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _step_text(step: int, items: list[dict[str, Any]]) -> str:
    lines = [f"Step {step} trains on {len(items)} image{'s' if len(items) != 1 else ''}:"]
    for item in items:
        lines += [f"{item['image']}{' (mirrored)' if item['is_mirrored'] else ''}", f"  {_caption_text(item)}"]
    return "\n".join(lines)


def _caption_text(item: dict[str, Any]) -> str:
    tokens = f" ({item['tokens']} tokens, {item['chunks']} × 75)" if item.get("chunks", 1) > 1 else ""
    return f"{item['kind'] + ':':6} {printable(item['text'], None)}{tokens}"


def _image_text(found: dict[str, Any]) -> str:
    draws = found["draws"]
    lines = [found["image"], f"In its file: {printable(found['caption'], None)}", "", "Trained as, for example:"]
    lines += [f"  {_caption_text(item)}" for item in draws[:_SHOWN_DRAWS]]
    kinds = ", ".join(f"{kind} {share:.1%}" for kind, share in found["kinds"].items())
    lines += ["", f"Of {len(draws)} draws: {kinds}", "Share of the draws with each tag:"]
    lines += [f"  {share:6.1%}  {printable(tag, None)}" for tag, share in found["rates"].items()]
    return "\n".join(lines)
