"""The table of the results, for a reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["as_text"]


def as_text(results: Mapping[str, Any]) -> str:
    """The results in Markdown; sections that were not run are left out.

    Args:
        results: what :mod:`benchmarks.gpu` writes to its JSON file.
    """
    lines = [f"{results['device']}, torch {results['torch']}, diffusers {results['diffusers']}, peft {results['peft']}"]
    parts = (("steps", _steps), ("waits", _waits), ("busy", _busy), ("precision", _precision))
    for name, write in parts:
        if results.get(name):
            lines += ["", *write(results[name])]
    for name in ("tests", "demo"):
        if name in results:
            lines += ["", f"{name}: {results[name]['verdict']} in {results[name]['seconds']:.0f} s"]
    for name, problem in results.get("failed", {}).items():
        lines += ["", f"FAILED: {name}: {problem}"]
    return "\n".join(lines)


def _steps(rows: list[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| model | precision | what | ms/step | peak MiB | MiB between steps |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        start = f"| {row['model']} | {row['precision']} | {row['what']} |"
        if "problem" in row:
            lines.append(f"{start} {row['problem']} | | |")
        else:
            lines.append(f"{start} {row['ms']:.1f} | {row['peak'] / 2**20:.0f} | {row['held'] / 2**20:.0f} |")
    return lines


def _waits(waits: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = []
    for model, places in waits.items():
        lines.append(f"{model}: the CPU waits for the GPU {sum(places.values()):.1f} times per step")
        lines += [f"- {place}: {count:.1f}" for place, count in places.items()]
    return lines


def _busy(busy: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{model}: the GPU works {values['busy_ms']:.1f} of {values['ms']:.1f} ms ({values['share']:.0%}), "
        f"{values['kernels']:.0f} kernels per step"
        for model, values in busy.items()
    ]


def _precision(precisions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        "| precision | final loss | compared with fp32 | largest difference over ten steps | steps skipped |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {row['loss']:.5f} | {row['difference']:.2%} | {row['largest']:.2%} | "
        f"{row['skipped']} of {row['steps']} |"
        for name, row in precisions.items()
    ]
    return lines
