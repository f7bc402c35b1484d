"""The axes of the X/Y/Z plot, with the real script's own classes and functions from every webui tree."""

from __future__ import annotations

import ast
import dataclasses
import json
import types
from pathlib import Path
from typing import Any

import pytest

from lib_pivotal.host.webui.xyz_axes import add_axes
from tests.contract.fake_webui import FakeWebui
from tests.contract.host_tree import find_tree
from tests.contract.test_real_tree import _trees

_FORGES = [find_tree(name) for name in ("forge", "forge-old", "forge-classic", "reforge")]
TREES = [*_trees(), *(tree for tree in _FORGES if tree and (tree / "scripts" / "xyz_grid.py").exists())]
STEP = "[Pivotal] Step of the newest run"
LABELS = ["[Pivotal] Parts of a bundle", "[Pivotal] Name", "[Pivotal] Bundle weight", STEP]
NAMES = {"A": [("zog", 2)], "run": [("mib", 1)], "run-000100": [("mib", 1)], "plain": []}


def real_script(tree: Path) -> Any:
    """``xyz_grid.py`` with its axis classes and formats, without the webui around it."""
    parsed = ast.parse((tree / "scripts" / "xyz_grid.py").read_text(encoding="utf-8"))
    wanted = ("AxisOption", "AxisOptionImg2Img", "AxisOptionTxt2Img", "format_value", "format_value_add_label")
    body = [node for node in parsed.body if getattr(node, "name", "") in wanted]
    module = types.ModuleType("xyz_grid.py")
    exec(compile(ast.Module(body, []), "xyz_grid.py", "exec"), vars(module))
    module.axis_options = [module.AxisOption("Nothing", str, None), module.AxisOptionTxt2Img("Sampler", str, None)]
    return module


def files_in_use(tree: Path) -> list[str]:
    """How the real script decides which axes the page shows."""
    text = (tree / "scripts" / "xyz_grid.py").read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if "self.current_axis_options = " in line]


@dataclasses.dataclass
class Task:
    """The fields of a txt2img that the axes use."""

    prompt: str = ""
    negative_prompt: str = ""
    hr_prompt: str = ""
    hr_negative_prompt: str = ""


class _Axes:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, tree: Path, folder: Path) -> None:
        webui = FakeWebui(monkeypatch)
        self.script = real_script(tree)
        self.scripts = webui.modules["scripts"]
        self.scripts.scripts_data = [self._data("other.py", None), self._data("xyz_grid.py", self.script)]
        webui.modules["shared"].cmd_opts.lora_dir = str(folder / "Lora")
        (folder / "Lora").mkdir(exist_ok=True)
        vars(webui.modules["shared"].opts)["pivotal_data_folder"] = str(folder / "data")

    @staticmethod
    def _data(name: str, module: Any) -> Any:
        return types.SimpleNamespace(script_class=type("Script", (), {"__module__": name}), module=module)

    def add(self) -> list[str]:
        add_axes(lambda tag: NAMES.get(tag, []))
        return [option.label for option in self.script.axis_options]

    def __getitem__(self, label: str) -> Any:
        return next(option for option in self.script.axis_options if option.label == label)

    def prompts(self, label: str, task: Task, values: list[Any]) -> list[Task]:
        """As the script does it: check all values, then apply each to a copy."""
        option = self[label]
        values = [option.type(value) for value in values]
        option.confirm(task, values)
        made = []
        for value in values:
            made.append(dataclasses.replace(task))
            option.apply(made[-1], value, values)
            assert isinstance(option.format_value(task, option, value), str)
        return made


@pytest.fixture(params=TREES, ids=lambda tree: tree.name)
def axes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> _Axes:
    axes = _Axes(monkeypatch, request.param, tmp_path)
    axes.add()
    return axes


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> _Axes:
    """With one tree, for what does not depend on it."""
    if not TREES:
        pytest.skip("no webui tree")
    axes = _Axes(monkeypatch, TREES[0], tmp_path)
    axes.add()
    return axes


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_the_page_shows_objects_of_exactly_this_class(tree: Path) -> None:
    wanted = (
        "self.current_axis_options = [x for x in axis_options if type(x) == AxisOption or x.is_img2img == is_img2img]"
    )
    assert files_in_use(tree) == [wanted]


def test_axes_are_added_once_and_again_to_a_new_script(axes: _Axes) -> None:
    assert [option.label for option in axes.script.axis_options] == ["Nothing", "Sampler", *LABELS]
    assert axes.add() == ["Nothing", "Sampler", *LABELS]
    assert all(type(option) is axes.script.AxisOption for option in axes.script.axis_options[2:])
    assert all(0 < option.cost < 1 for option in axes.script.axis_options[2:])
    # Reload UI loads the script again.
    axes.script = axes.scripts.scripts_data[1].module = real_script(TREES[0])
    assert axes.add() == ["Nothing", "Sampler", *LABELS]


def test_a_webui_without_the_script_is_left_alone(first: _Axes) -> None:
    first.scripts.scripts_data = []
    add_axes(lambda tag: [])


def test_parts(axes: _Axes) -> None:
    task = Task("a zog <lora:plain:1><lora:A:0.8>", hr_prompt="fine <lora:A:0.5>")
    option = axes[LABELS[0]]
    made = axes.prompts(LABELS[0], task, option.choices())
    assert [item.prompt for item in made] == [
        "a zog <lora:plain:1><lora:A:0.8>",
        "a zog <lora:plain:1><lora:A:te=0:unet=0.8:ti=off>",
        "a zog <lora:plain:1><lora:A:te=0.8:unet=0:ti=off>",
        "a zog <lora:plain:1><lora:A:te=0:unet=0>",
        "a zog <lora:plain:1>",
    ]
    assert made[1].hr_prompt == "fine <lora:A:te=0:unet=0.5:ti=off>"
    assert made[4].hr_prompt == "fine "
    assert axes.prompts(LABELS[0], task, ["UNET", " nothing"])[0].prompt == made[1].prompt


def test_weight(axes: _Axes) -> None:
    made = axes.prompts(LABELS[2], Task("zog <lora:A:0.8:ti=x_>"), ["0", "0.5", "1"])
    assert [item.prompt for item in made] == ["zog <lora:A:0:ti=x_>", "zog <lora:A:0.5:ti=x_>", "zog <lora:A:1:ti=x_>"]


def test_axes_work_together_in_any_order(first: _Axes) -> None:
    parts, weight = first[LABELS[0]], first[LABELS[2]]
    for part, expected in (("unet", "<lora:A:te=0:unet=0.5:ti=off>"), ("embeddings", "<lora:A:0>"), ("nothing", "")):
        one, two = Task("<lora:A:1>"), Task("<lora:A:1>")
        parts.apply(one, part, [])
        weight.apply(one, 0.5, [])
        weight.apply(two, 0.5, [])
        parts.apply(two, part, [])
        assert (one.prompt, two.prompt) == (expected, expected if part != "embeddings" else "<lora:A:te=0:unet=0>")


def test_a_name_is_replaced_as_a_whole_word_and_not_in_tags(axes: _Axes) -> None:
    task = Task("Zog, zogling (zog:1.2) <lora:zog:1> <zog>", "zog", "a zog", "")
    made = axes.prompts(LABELS[1], task, ["zog", r"mib\1"])
    assert made[0].prompt == "zog, zogling (zog:1.2) <lora:zog:1> <zog>"
    assert dataclasses.astuple(made[1]) == (
        r"mib\1, zogling (mib\1:1.2) <lora:zog:1> <mib\1>",
        r"mib\1",
        r"a mib\1",
        "",
    )


def test_steps_of_the_newest_run(first: _Axes, tmp_path: Path) -> None:
    assert first[STEP].choices() == []
    loras = tmp_path / "Lora"
    for name, stem, steps in (("x-20240101-000000", "old", (5,)), ("a-20240202-000000-2", "run", (100, 50, 150))):
        folder = tmp_path / "data" / "runs" / name
        folder.mkdir(parents=True)
        files = [f"{stem}-{step:06d}.safetensors" for step in steps]
        (folder / "files.json").write_text(json.dumps({"bundle": stem, "files": dict.fromkeys(files, ())}))
        for file in [*files, f"{stem}.safetensors"]:
            (loras / file).write_bytes(b"")
    (loras / "run-000150.safetensors").unlink()
    (tmp_path / "data" / "runs" / "new-20240303-000000").mkdir()
    assert first[STEP].choices() == ["50", "100", "last"], "without a reload of the page"
    made = first.prompts(STEP, Task("<lora:A:1> <lora:run-000100:0.5> mib"), ["50", "last"])
    assert [item.prompt for item in made] == ["<lora:A:1> <lora:run-000050:0.5> mib", "<lora:A:1> <lora:run:0.5> mib"]
    with pytest.raises(RuntimeError, match=r"no bundle at step '7'. Saved: 50, 100, last"):
        first[STEP].confirm(Task("<lora:run:1>"), ["7"])
    with pytest.raises(RuntimeError, match="<lora:run:1>"):
        first[STEP].confirm(Task("<lora:A:1>"), ["50"])
    for path in loras.glob("run-*"):
        path.unlink()
    with pytest.raises(RuntimeError, match="Saved: none"):
        first[STEP].confirm(Task("<lora:run:1>"), ["50"])


@pytest.mark.parametrize(
    ("label", "prompt", "values", "words"),
    [
        (LABELS[0], "zog", ["unet"], "it has no <lora:NAME:1>"),
        (LABELS[0], "<lora:plain:1>", ["unet"], "without embeddings: plain"),
        (LABELS[0], "<lora:A:1>", ["half"], "'half' is not a part of a bundle. Use whole bundle"),
        (LABELS[1], "<lora:zog:1> a", ["zog", "mib"], "'zog' is not in the prompt"),
        (LABELS[1], "zog", [], "Enter names"),
        (LABELS[2], "zog", [0.5], "must contain the tag of a bundle"),
    ],
)
def test_wrong_values_are_explained_before_anything_is_made(
    first: _Axes, label: str, prompt: str, values: list[Any], words: str
) -> None:
    with pytest.raises(RuntimeError, match=words):
        first[label].confirm(Task(prompt), values)
