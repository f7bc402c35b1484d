"""A package ``modules`` with exactly the symbols that ``host/contract.json`` lists."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from lib_pivotal.host.detect import read_contract

__all__ = ["FakeWebui"]


class _Module(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{self.__name__}.{name} is not in host/contract.json")

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in vars(self) or name.startswith("__"), f"{self.__name__}.{name} is not in host/contract.json"
        super().__setattr__(name, value)


class _Lock:
    """Not re-entrant, like the webui's; records who acquires and releases it."""

    def __init__(self, calls: list[str]) -> None:
        self._calls, self._lock = calls, threading.Lock()

    def __enter__(self) -> None:
        assert self._lock.acquire(timeout=5), "the queue lock was taken twice"
        self._calls.append("lock")

    def __exit__(self, *_: object) -> None:
        self._calls.append("unlock")
        self._lock.release()


class FakeWebui:
    """Builds and installs the modules.

    Args:
        monkeypatch: puts ``sys.modules`` back afterwards.
        version: symbols that came later are left out.

    Attributes:
        calls: names of the host functions called, in order.
        modules: short module name → module, for setting values.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...] = (1, 10, 1)) -> None:
        self.calls: list[str] = []
        self.modules: dict[str, Any] = {}
        self._classes: dict[str, type] = {}
        self._flags: dict[str, Any] = {}
        for name in [name for name in sys.modules if name.split(".")[0] in ("modules", "networks")]:
            monkeypatch.delitem(sys.modules, name)
        self._monkeypatch = monkeypatch
        self._module("modules").__path__ = []
        symbols = [item for item in read_contract() if _number(item.get("since", "1.6")) <= version]
        for symbol in symbols:
            self._add(symbol)
        self._fill()

    def behave(self, module: str, name: str, function: Callable[..., Any]) -> None:
        """Replace a host function; calls are still checked and recorded."""
        self.modules[module].__dict__[name].behavior = function

    def make(self, class_name: str, **values: Any) -> Any:
        """An instance of a host class that has the contract's attributes (None unless given) and no others."""
        instance = self._classes[class_name]()
        for name, value in values.items():
            setattr(instance, name, value)
        return instance

    def _module(self, dotted: str) -> Any:
        if dotted not in sys.modules or not isinstance(sys.modules[dotted], _Module):
            module = _Module(dotted)
            module.__spec__ = None
            self._monkeypatch.setitem(sys.modules, dotted, module)
            parent, _, last = dotted.rpartition(".")
            if parent:
                owner = self._module(parent)
                owner.__dict__[last] = module
                owner.__path__ = []
            self.modules[last] = module
        return sys.modules[dotted]

    def _add(self, symbol: dict[str, Any]) -> None:
        file, name, kind = symbol["file"], symbol["name"], symbol["kind"]
        if kind == "flag":
            self._flags[name.replace("-", "_")] = None
        if file == "extensions-builtin/Lora/networks.py":
            dotted = "networks"
        elif file.startswith("modules/") and kind not in ("option", "flag"):
            dotted = file[: -len(".py")].replace("/", ".")
        else:
            return
        module = self._module(dotted)
        owner, _, last = name.rpartition(".")
        if kind == "function":
            module.__dict__[name] = _function(name, symbol.get("call"), self.calls)
        elif kind in ("class", "dataclass"):
            module.__dict__[name] = self._class(name)
        elif kind == "method":
            module.__dict__[owner] = self._class(owner)
            setattr(self._class(owner), last, _function(last, symbol.get("call"), self.calls, is_bound=True))
        elif kind == "attribute":
            self._class(owner).__dict__["_known"].add(last)
        else:
            module.__dict__[name] = None

    def _class(self, name: str) -> Any:
        if name not in self._classes:
            self._classes[name] = type(name, (_Strict,), {"_known": set()})
        return self._classes[name]

    def _fill(self) -> None:
        """The values that every test needs."""
        shared, modules = self.modules["shared"], self.modules
        shared.state = self.make("State", job_no=0, job_count=0, interrupted=False, skipped=False)
        if "stopping_generation" in type(shared.state)._known:
            shared.state.stopping_generation = False
        shared.opts = self.make("Options", data={}, data_labels={})
        shared.cmd_opts = types.SimpleNamespace(**self._flags)
        shared.cmd_opts.no_half, shared.cmd_opts.lora_dir = True, "loras"
        shared.parallel_processing_allowed = True
        shared.loaded_hypernetworks = []
        modules["call_queue"].queue_lock = _Lock(self.calls)
        modules["progress"].pending_tasks = {}
        modules["devices"].device = "cpu"
        modules["sd_models"].checkpoints_list = {}
        modules["sd_models"].checkpoint_aliases = {}
        modules["sd_models"].model_data = self.make("SdModelData", loaded_sd_models=[])
        modules["networks"].loaded_networks = []
        modules["networks"].networks_in_memory = {}
        modules["sd_hijack"].optimizers = []
        modules["sd_hijack"].model_hijack = self.make("StableDiffusionModelHijack", circular_enabled=False)
        modules["sd_hijack"].model_hijack.embedding_db = self.make(
            "EmbeddingDatabase", word_embeddings={}, ids_lookup={}
        )


class _Strict:
    _known: ClassVar[set[str]] = set()

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in self._known, f"{type(self).__name__}.{name} is not in host/contract.json"
        self.__dict__[name] = value

    def __getattr__(self, name: str) -> Any:
        if name in type(self)._known:
            return None
        raise AttributeError(f"{type(self).__name__}.{name} is not in host/contract.json")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _function(name: str, call: dict[str, Any] | None, calls: list[str], *, is_bound: bool = False) -> Any:
    def function(*arguments: Any, **options: Any) -> Any:
        if call is not None:
            count = len(arguments) - is_bound
            least = call["positional"] - call.get("optional", 0)
            assert least <= count <= call["positional"], f"{name}: {count} positional arguments are not in the contract"
            unknown = set(options) - set(call["keywords"])
            assert not unknown, f"{name}: {unknown} is not in the contract"
        calls.append(name)
        behavior = function.behavior
        return behavior(*arguments, **options) if behavior else None

    function.behavior = None  # type: ignore[attr-defined]
    return function


def _number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
