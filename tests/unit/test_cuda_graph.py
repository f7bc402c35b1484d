"""How steps are recorded on a GPU, and what is repaired after a failed recording; torch's functions are stand-ins."""

from __future__ import annotations

import contextlib
import gc

import pytest
import torch

from lib_pivotal.core.train import broken_recording, cuda_graph
from lib_pivotal.core.train.memory import peak_bytes

DEVICE = torch.device("cuda:1")
POOLS = [(0, 1), (0, 2), (0, 3)]


class Gpu:
    """Notes what is asked of torch."""

    def __init__(self, monkeypatch, *, breaks: bool = False) -> None:
        self.calls: list = []
        self.breaks = breaks
        self.stream, self.mode, self.collects = "main", 0, []
        self.device = torch.device("cuda:0")
        pools = iter(POOLS)
        gpu = self

        class Stream:
            def __init__(self, device=None):
                self.device = device

            def wait_stream(self, other):
                gpu.calls.append("wait")

        class Graph:
            def capture_begin(self, pool, capture_error_mode):
                assert gpu.device == DEVICE == gpu.stream.device
                gpu.calls.append(("begin", pool, capture_error_mode, gpu.stream))
                gpu.collects.append(gc.isenabled())

            def capture_end(self):
                gpu.calls.append("end")
                if gpu.breaks:
                    raise RuntimeError("operation failed due to a previous error during capture")

            def replay(self):
                gpu.calls.append("replay")

        @contextlib.contextmanager
        def chosen(what, value):
            before = getattr(self, what)
            setattr(self, what, value)
            try:
                yield
            finally:
                setattr(self, what, before)

        for name, value in {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "stream": lambda stream: chosen("stream", stream),
            "current_stream": Stream,
            "device": lambda device: chosen("device", device),
            "graph_pool_handle": lambda: next(pools),
            "synchronize": lambda: None,
            "empty_cache": lambda: self.calls.append("empty"),
            "get_sync_debug_mode": lambda: self.mode,
            "set_sync_debug_mode": lambda mode: setattr(self, "mode", mode),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)
        cuda_graph._recording_stream.cache_clear()
        self.recovered: list = []
        monkeypatch.setattr(cuda_graph, "recover", self.recovered.append)


def test_work_is_tried_without_waits_and_then_recorded_on_the_same_stream(monkeypatch):
    gpu = Gpu(monkeypatch)
    graphs = cuda_graph.CudaGraphs(DEVICE, 0)
    seen = []

    def work():
        seen.append((gpu.mode, gpu.stream))
        return torch.zeros(())

    graphs.warm_up(work)
    replay, _ = graphs.record(work)
    assert [mode for mode, _ in seen] == [0, "error", 0]
    streams = {id(stream) for _, stream in seen}
    assert len(streams) == 1 and gpu.stream == "main"
    begin = gpu.calls.index(("begin", POOLS[0], "thread_local", seen[0][1]))
    assert gpu.calls[begin:] == [gpu.calls[begin], "end"]
    assert "empty" in gpu.calls[:begin], "what earlier steps have left in the cache"
    assert gpu.collects == [False] and gc.isenabled()
    replay()
    assert gpu.calls[-1] == "replay"
    graphs.clear()
    graphs.record(work)
    assert cuda_graph.CudaGraphs(DEVICE, 0)._stream is graphs._stream, "each stream costs working memory"
    assert gpu.calls[-2][:2] == ("begin", POOLS[1]), "not into the memory of graphs that are gone"


def test_there_is_room_for_a_graph_if_its_memory_and_the_drivers_are_really_free(monkeypatch):
    gpu = Gpu(monkeypatch)
    graphs = cuda_graph.CudaGraphs(DEVICE, 5 * 2**30)
    free = [6 * 2**30, 6 * 2**30 - 1]

    def information():
        assert gpu.device == DEVICE and gpu.calls[-1] == "empty", "the cache counts as used otherwise"
        return free.pop(0), 0

    monkeypatch.setattr(torch.cuda, "mem_get_info", information)
    assert graphs.has_room()
    assert not graphs.has_room()


def test_the_memory_of_graphs_is_part_of_the_peak(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 5)
    assert peak_bytes(DEVICE) == 3
    assert peak_bytes(DEVICE, has_graphs=True) == 5
    assert peak_bytes(torch.device("cpu")) is None


def test_giving_memory_back_hides_no_earlier_error(monkeypatch):
    Gpu(monkeypatch)
    graphs = cuda_graph.CudaGraphs(DEVICE, 0)

    def fails():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "empty_cache", fails)
    graphs.clear()


def test_work_that_waits_is_not_recorded(monkeypatch):
    gpu = Gpu(monkeypatch)

    def work():
        raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError, match="synchronizing"):
        cuda_graph.CudaGraphs(DEVICE, 0).record(work)
    assert gpu.mode == 0 and gpu.stream == "main"
    assert "end" not in gpu.calls and not gpu.recovered


@pytest.mark.parametrize("breaks", [False, True])
def test_a_failed_recording_is_ended_and_repaired_only_if_that_fails(monkeypatch, breaks):
    gpu = Gpu(monkeypatch, breaks=breaks)
    times = iter(range(2))

    def work():
        if next(times):
            raise ValueError("fails during the recording")
        return torch.zeros(())

    with pytest.raises(RuntimeError if breaks else ValueError):
        cuda_graph.CudaGraphs(DEVICE, 0).record(work)
    assert gpu.calls.count("end") == 1
    assert gpu.recovered == ([POOLS[0]] if breaks else [])
    assert gpu.stream == "main" and gc.isenabled()


class Bindings:
    """Torch's functions for the memory of graphs, as a version has them."""

    def __init__(self, monkeypatch, version: tuple[int, int], *, is_recording: bool = True) -> None:
        self.calls: list = []
        self.is_recording = is_recording
        monkeypatch.setattr(torch, "__version__", f"{version[0]}.{version[1]}.1+cu121")
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
        monkeypatch.setattr(torch.cuda, "Stream", object)
        monkeypatch.setattr(torch.cuda, "graph", self.graph)
        monkeypatch.setattr(torch.cuda, "empty_cache", self.empty)
        old, new = "_cuda_endAllocateCurrentStreamToPool", "_cuda_endAllocateToPool"
        for name in (old, new):
            monkeypatch.delattr(torch._C, name, raising=False)
        end = self.end_of_stream if version < (2, 3) else self.end_of_pool
        monkeypatch.setattr(torch._C, new if version >= (2, 9) else old, end, raising=False)
        monkeypatch.setattr(torch._C, "_cuda_releasePool", self.release, raising=False)

    def empty(self):
        if self.is_recording:
            raise RuntimeError("INTERNAL ASSERT FAILED captures_underway")

    def end_of_stream(self, device):
        assert self.is_recording, "torch 2.1 would count below zero"
        self.is_recording = False
        self.calls.append("end")

    def end_of_pool(self, device, pool):
        if not self.is_recording:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.is_recording = False
        self.calls.append(("end", pool))

    def release(self, device, pool):
        self.calls.append(("release", pool))

    @contextlib.contextmanager
    def graph(self, graph, *, stream, capture_error_mode):
        yield
        self.calls.append("random numbers")


@pytest.mark.parametrize("version", [(2, 1), (2, 3), (2, 9), (2, 11)])
def test_a_broken_recording_is_ended_in_every_version(monkeypatch, caplog, version):
    bindings = Bindings(monkeypatch, version)
    broken_recording.recover(POOLS[0])
    end = "end" if version < (2, 3) else ("end", POOLS[0])
    assert bindings.calls == [end, ("release", POOLS[0]), "random numbers"]
    # If the allocator has ended it itself, a second end would do harm.
    bindings = Bindings(monkeypatch, version, is_recording=False)
    broken_recording.recover(POOLS[0])
    assert bindings.calls == ["random numbers"]
    assert not caplog.text


def test_newer_versions_repair_themselves_and_a_repair_that_fails_is_reported(monkeypatch, caplog):
    bindings = Bindings(monkeypatch, (2, 13))
    broken_recording.recover(POOLS[0])
    assert not bindings.calls
    Bindings(monkeypatch, (2, 9))
    monkeypatch.delattr(torch._C, "_cuda_endAllocateToPool")
    broken_recording.recover(POOLS[0])
    assert "Restart the webui" in caplog.text
