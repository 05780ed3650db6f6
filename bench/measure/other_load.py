"""Find out what else the machine did during a measurement: other processes, stolen CPU time, a shared GPU."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import psutil
import torch

SHARE = 0.1  # share of the cores that others may use before a measurement counts as disturbed
SHORTEST = 0.25  # seconds; CPU time is counted in ticks of 0.01 s, which is too coarse for shorter measurements
WORKING = ("user", "nice", "system", "irq", "softirq")


@dataclass(frozen=True)
class Counters:
    """Counters at one moment, in seconds.

    Attributes:
        wall: A monotonic clock.
        epoch: Unix time, which NVML's samples are stamped with.
        busy: CPU time spent by all processes on the cores that this process may use.
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
    """The load between two readings. One core is one CPU second per second.

    Attributes:
        seconds: Time between the readings.
        cores: Number of cores that this process may use.
        own_cores: Cores used by this process and its children.
        other_cores: Of the same cores, those used by other processes.
        stolen_cores: Cores given to other virtual machines.
        gpu_processes: Number of other processes that computed on the GPU. None on a CPU, or if NVML cannot be read.
    """

    seconds: float
    cores: int
    own_cores: float
    other_cores: float
    stolen_cores: float
    gpu_processes: int | None = None

    @classmethod
    def between(cls, first: Counters, last: Counters, cores: int, gpu_processes: int | None = None) -> "Load":
        """Return the load from one reading to a later one."""
        seconds = max(last.wall - first.wall, 1e-9)
        own = (last.own - first.own) / seconds
        others = (last.busy - first.busy) / seconds - own
        stolen = (last.stolen - first.stolen) / seconds
        return cls(seconds, cores, own, max(0.0, others), max(0.0, stolen), gpu_processes)

    @property
    def disturbances(self) -> list[str]:
        """Significant load from others, in words. Empty if there was none, or the time was too short to tell."""
        messages = []
        if self.seconds >= SHORTEST and self.other_cores + self.stolen_cores > SHARE * self.cores:
            if self.other_cores >= self.stolen_cores:
                messages.append(f"other processes used {self.other_cores:.1f} of {self.cores} cores")
            else:
                messages.append(f"other virtual machines took {self.stolen_cores:.1f} of {self.cores} cores")
        if self.gpu_processes:
            messages.append(f"{self.gpu_processes} other processes computed on the GPU")
        return messages

    @property
    def recorded(self) -> dict[str, float | int | None]:
        """The load as it goes into a record."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


class Watch:
    """Reads the machine's counters.

    Args:
        device: The device on which the cell is computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._process = psutil.Process()
        # macOS has no affinity: every process may use every core.
        affinity = getattr(self._process, "cpu_affinity", None)
        self._numbers: list[int] = affinity() if affinity else list(range(os.cpu_count() or 1))
        self._gpu_processes = _gpu_counter(device)

    def read(self) -> Counters:
        """Return the current counters."""
        cores = psutil.cpu_times(percpu=True)
        usable = [cores[number] for number in self._numbers if number < len(cores)]
        busy = sum(getattr(core, name, 0.0) for core in usable for name in WORKING)
        stolen = sum(getattr(core, "steal", 0.0) for core in usable)
        return Counters(time.perf_counter(), time.time(), busy, self._own(), stolen)

    def since(self, first: Counters) -> Load:
        """Return the load from a reading until now."""
        last = self.read()
        gpu_processes = self._gpu_processes(first.epoch) if self._gpu_processes else None
        return Load.between(first, last, len(self._numbers), gpu_processes)

    def pause(self, seconds: float) -> Load:
        """Sleep for some seconds and return the load meanwhile."""
        first = self.read()
        time.sleep(seconds)
        return self.since(first)

    def _own(self) -> float:
        seconds = time.process_time()
        for child in self._process.children(recursive=True):
            with suppress(psutil.Error):  # the child has just ended
                times = child.cpu_times()
                seconds += times.user + times.system
        return seconds


def _gpu_counter(device: torch.device) -> Callable[[float], int | None] | None:
    """Return a function that counts the other processes on a GPU since a Unix time, or None without NVML.

    Seen to count 0 on an otherwise idle H100; not seen to count others.
    """
    if device.type != "cuda":
        return None
    try:
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except Exception:  # noqa: BLE001 - NVML is not installed, there is no driver, or the device is a part of a GPU
        return None

    def count(since: float) -> int | None:
        try:
            samples = nvml.nvmlDeviceGetProcessUtilization(handle, int(since * 1e6))
        except nvml.NVMLError:  # no sample since then, or the driver does not support it
            return None
        # In a container, NVML reports process ids of the host, so ours cannot be identified. It is one of them.
        return max(0, len({sample.pid for sample in samples if sample.smUtil}) - 1)

    return count
