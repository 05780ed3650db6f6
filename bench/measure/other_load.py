"""What else the machine did while something was measured: CPU time of other processes, stolen time, a shared GPU."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import psutil
import torch

SHARE = 0.1  # of the cores: what others may take before a measurement counts as disturbed
SHORTEST = 0.25  # seconds; the system counts CPU time in ticks of 0.01 s, too coarse for less
WORKING = ("user", "nice", "system", "irq", "softirq")


@dataclass(frozen=True)
class Counters:
    """Counters at one moment, in seconds.

    Attributes:
        wall: A clock that only goes forward.
        epoch: The time of day; NVML's samples are marked with it.
        busy: CPU time that the cores this process may use have worked, for whomever.
        own: CPU time of this process and its children.
        stolen: CPU time that the hypervisor gave to other virtual machines.
    """

    wall: float
    epoch: float
    busy: float
    own: float
    stolen: float


@dataclass(frozen=True)
class Load:
    """What ran between two readings. A core is one CPU second per second.

    Attributes:
        seconds: How long it was watched.
        cores: Cores that this process may use.
        own_cores: Used by this process and its children.
        other_cores: Used by other processes, on the same cores.
        stolen_cores: Given to other virtual machines.
        gpu_processes: Other processes that computed on the GPU; None on a CPU, or where NVML cannot be read.
    """

    seconds: float
    cores: int
    own_cores: float
    other_cores: float
    stolen_cores: float
    gpu_processes: int | None = None

    @classmethod
    def between(cls, first: Counters, last: Counters, cores: int, gpu_processes: int | None = None) -> "Load":
        """The load from one reading to a later one."""
        seconds = max(last.wall - first.wall, 1e-9)
        own = (last.own - first.own) / seconds
        others = (last.busy - first.busy) / seconds - own
        stolen = (last.stolen - first.stolen) / seconds
        return cls(seconds, cores, own, max(0.0, others), max(0.0, stolen), gpu_processes)

    @property
    def disturbances(self) -> list[str]:
        """What ran beside this process, in words; empty where that was nothing that matters, or cannot be told."""
        found = []
        if self.seconds >= SHORTEST and self.other_cores + self.stolen_cores > SHARE * self.cores:
            if self.other_cores >= self.stolen_cores:
                found.append(f"other processes used {self.other_cores:.1f} of {self.cores} cores")
            else:
                found.append(f"other virtual machines took {self.stolen_cores:.1f} of {self.cores} cores")
        if self.gpu_processes:
            found.append(f"{self.gpu_processes} other processes computed on the GPU")
        return found

    @property
    def recorded(self) -> dict[str, float | int | None]:
        """The load as it goes into a record."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


class Watch:
    """Reads the machine's counters."""

    def __init__(self, device: torch.device) -> None:
        self._process = psutil.Process()
        # Not on macOS, where every process may use every core.
        affinity = getattr(self._process, "cpu_affinity", None)
        self._numbers: list[int] = affinity() if affinity else list(range(os.cpu_count() or 1))
        self._gpu_processes = _gpu_counter(device)

    def read(self) -> Counters:
        """The counters now."""
        every = psutil.cpu_times(percpu=True)
        usable = [every[number] for number in self._numbers if number < len(every)]
        busy = sum(getattr(core, name, 0.0) for core in usable for name in WORKING)
        stolen = sum(getattr(core, "steal", 0.0) for core in usable)
        return Counters(time.perf_counter(), time.time(), busy, self._own(), stolen)

    def since(self, first: Counters) -> Load:
        """The load from a reading until now."""
        last = self.read()
        beside = self._gpu_processes(first.epoch) if self._gpu_processes else None
        return Load.between(first, last, len(self._numbers), beside)

    def pause(self, seconds: float) -> Load:
        """Sleep, and watch what runs meanwhile."""
        first = self.read()
        time.sleep(seconds)
        return self.since(first)

    def _own(self) -> float:
        seconds = time.process_time()
        for child in self._process.children(recursive=True):
            with suppress(psutil.Error):  # it has just ended
                times = child.cpu_times()
                seconds += times.user + times.system
        return seconds


def _gpu_counter(device: torch.device) -> Callable[[float], int | None] | None:
    """A function that counts the other processes that computed on a GPU since a time of day; None without NVML.

    Has not been run on a GPU yet.
    """
    if device.type != "cuda":
        return None
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except Exception:  # noqa: BLE001 - not installed, no driver, a part of a GPU: it cannot be watched
        return None

    def count(since: float) -> int | None:
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(handle, int(since * 1e6))
        except nvml.NVMLError:  # no sample since then, or the driver does not tell
            return None
        # In a container NVML's process numbers are the host's, so that ours cannot be found among them: it is one.
        return max(0, len({sample.pid for sample in samples if sample.smUtil}) - 1)

    return count
