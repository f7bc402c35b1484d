"""Bundled embeddings in prompts: every case with our extension, and in the webui alone for comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.bundle_cases import CASES, RESULTS, Bench, Case
from tests.e2e.bundles import Maker
from tests.e2e.server import Webui, find_installed, find_webui, running, version_of


@contextmanager
def _started_alone(folder: Path, checkpoints: list[Path]) -> Iterator[Bench]:
    found = find_installed()
    assert found is not None
    with running(*found, folder, checkpoints[:2], with_extension=False) as server:
        yield _bench(server, checkpoints, is_alone=True)


def _bench(server: Webui, checkpoints: list[Path], *, is_alone: bool = False) -> Bench:
    tree = find_webui()
    assert tree is not None
    bench = Bench(server, Maker(server.data, checkpoints[0]), version_of(tree), is_alone=is_alone)
    bench.prepare()
    return bench


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, random_checkpoints: list[Path]) -> Iterator[Bench]:
    """The webui without our extension."""
    with _started_alone(tmp_path_factory.mktemp("alone") / "data", random_checkpoints) as bench:
        yield bench


@pytest.fixture(scope="module")
def ours(server: Webui, random_checkpoints: list[Path]) -> Bench:
    """The webui with our extension and a random checkpoint."""
    server.choose("random")
    return _bench(server, random_checkpoints)


LONG = {
    "names_work_in_every_prompt_syntax",
    "other_checkpoints_keep_the_names",
    "a_refiner_keeps_the_names",
    "a_second_pass_with_another_checkpoint_keeps_the_names",
}
"""Each of these takes five seconds or more."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.long] * (case.check.__name__ in LONG)) for case in CASES],
    ids=lambda case: case.check.__name__,
)
def test_bundle_cases_hold_with_the_extension(ours: Bench, case: Case) -> None:
    RESULTS.setdefault(case.name, {})["with us"] = "fails"
    ours.start_afresh()
    case.check(ours)
    RESULTS[case.name]["with us"] = "holds"


def test_without_bundles_nothing_differs(alone: Bench, ours: Bench) -> None:
    prompts = ["a cat, (dog:1.2)", "[a:b:1] AND c", "<lora:plain_A:1> x", "zogA", "<s0>, <s1>."]
    for prompt in prompts:
        found, wanted = (bench.generate(prompt, negative_prompt="bad, (worse)", steps=2) for bench in (ours, alone))
        assert {**found, "comments": ""} == {**wanted, "comments": ""}, prompt


def test_an_extension_that_is_off_equals_the_webui_alone(alone: Bench, ours: Bench) -> None:
    prompts = ["<lora:A:1> a zogA", "zogA", "<lora:B:1> s1, zogA", "nothing"]
    for bench in (alone, ours):
        bench.start_afresh()
    # In the middle of work: we loaded the active LoRA, and the first prompt without us names it again.
    with_us = ours.c("<lora:A:1> a zogA")
    with ours.options(pivotal_loader=False):
        for prompt in prompts:
            found, wanted = (bench.generate(prompt) for bench in (ours, alone))
            assert (found["c"], found["pixels"], found["text"]) == (wanted["c"], wanted["pixels"], wanted["text"]), (
                prompt
            )
            assert not found["comments"]
        ours.c("<lora:A:1> a zogA")
    assert ours.c("<lora:A:1> a zogA") == with_us
    with ours.files(plainname=12):
        assert ours.c("<lora:plain_A:1> a plainname") == with_us


def test_embedding_files_are_packed_by_the_webuis_own_safe_reader(ours: Bench, tmp_path: Path) -> None:
    ours.start_afresh()
    fields = {"lora": "plain_A", "folder": str(tmp_path), "width": ours.make.width}
    answer = ours.webui.post("/pivotal-test/pack_pt", fields)
    assert answer["name"] == "packed_here"
    assert answer["embeddings"] == ["saved_v1"]
    assert answer["listed"]
    assert not answer["verified"]
    assert "hostile_v1.pt" in answer["refused"]
    assert not answer["was_run"]
    ours.refresh()
    assert ours.c("<lora:packed_here:1> a saved_v1") != ours.c("<lora:packed_here:1:ti=off> a saved_v1")


def test_names_mean_the_same_when_the_webui_handles_bundles_first(ours: Bench) -> None:
    ours.start_afresh()
    with ours.files(plainname=12):
        wanted = ours.c("<lora:plain_A:1> a plainname")
    assert ours.c("<lora:A:1> a zogA") == wanted
    with ours.options(pivotal_loader_takes_over=False):
        assert ours.c("<lora:A:1> a zogA") == wanted
        assert ours.c("<lora:A:1> a zogA@A") == wanted
    ours.start_afresh()


ALONE = pytest.mark.a1111("which cases the webui alone fails is said of A1111's versions")


@ALONE
@pytest.mark.long
@pytest.mark.parametrize("case", [case for case in CASES if not case.blocks], ids=lambda case: case.check.__name__)
def test_bundle_cases_fail_in_the_webui_alone_as_documented(alone: Bench, case: Case) -> None:
    """If a case holds there after all, our claim that the webui alone fails is out of date."""
    alone.start_afresh()
    _fails_as_we_say(alone, case)


@ALONE
@pytest.mark.long
@pytest.mark.parametrize("case", [case for case in CASES if case.blocks], ids=lambda case: case.check.__name__)
def test_bundle_cases_fail_in_a_fresh_webui_alone_as_documented(
    tmp_path: Path, random_checkpoints: list[Path], case: Case
) -> None:
    """After such a case, every other one would fail in that webui."""
    with _started_alone(tmp_path / "data", random_checkpoints) as bench:
        _fails_as_we_say(bench, case)


def _fails_as_we_say(alone: Bench, case: Case) -> None:
    expected = case.fails_alone(alone.version)
    try:
        case.check(alone)
        failure = None
    except (AssertionError, IndexError, KeyError) as error:
        failure = error
    row = RESULTS.setdefault(case.name, {})
    row["alone"] = "holds" if failure is None else "fails"
    assert expected or failure is None, failure
    assert not expected or failure is not None, "known to fail here, but it holds"


def test_no_error_of_the_extension_is_in_the_log(ours: Bench) -> None:
    assert "Bundled embeddings: an error" not in ours.webui.log()
