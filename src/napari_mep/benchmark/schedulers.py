"""Where the work is done: in this process, in several processes, or on a Dask cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Any, Protocol

from napari_mep.errors import DeviceError

__all__ = ["Backend", "open_backend"]

_log = logging.getLogger(__name__)

Work = Callable[..., Any]
_CONNECT_SECONDS = 10


class Backend(Protocol):
    """Takes work and gives futures."""

    @property
    def slots(self) -> int:
        """How much work is under way at the same time."""

    def submit(self, work: Work, *arguments: Any) -> Future[Any]:
        """Have ``work(*arguments, stop=...)`` done."""

    def share(self, value: Any) -> Any:
        """Make a large value an argument for several submissions."""


@contextmanager
def open_backend(
    workers: int = 1, scheduler: str | None = None, stop: threading.Event | None = None
) -> Iterator[Backend]:
    """The place to compute at, closed at the end.

    Parameters
    ----------
    workers : int
        1: this process, with all of torch's threads. More: so many processes, one thread each.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``"tcp://host:8786"``; its workers compute.
    stop : threading.Event, optional
        Once set, work under way in this process or its children is given up within a step. Work
        on a cluster runs to its end, and its result is dropped.

    Raises
    ------
    DeviceError
        The cluster cannot be reached, or the package distributed is missing.
    """
    stop = stop or threading.Event()
    if scheduler is not None:
        with _cluster(scheduler) as client:
            yield _Cluster(client)
    elif workers == 1:
        yield _Here(stop)
    else:
        processes = _Processes(workers, stop)
        try:
            yield processes
        finally:
            processes.close()


class _Here:
    """Work is done by the time `submit` returns."""

    slots = 1

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def submit(self, work: Work, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments, stop=self._stop))
        except Exception as err:  # noqa: BLE001 as an executor does: whoever asks for the result gets it
            future.set_exception(err)
        return future

    def share(self, value: Any) -> Any:
        return value


class _Processes:
    """So many processes with one torch thread each; one that dies is replaced."""

    def __init__(self, workers: int, stop: threading.Event) -> None:
        self.slots = workers
        self._stop = stop
        # Spawned, not forked: a child of a process with threads must not inherit their locks.
        self._context = get_context("spawn")
        self._children_stop = self._context.Event()
        self._closed = threading.Event()
        self._pool = self._new_pool()
        threading.Thread(target=self._pass_on_stop, daemon=True).start()

    def submit(self, work: Work, *arguments: Any) -> Future[Any]:
        try:
            return self._pool.submit(_in_child, work, arguments)
        except BrokenExecutor:
            self._pool.shutdown(wait=False)
            self._pool = self._new_pool()
            return self._pool.submit(_in_child, work, arguments)

    def share(self, value: Any) -> Any:
        return value

    def close(self) -> None:
        self._children_stop.set()
        self._closed.set()
        self._pool.shutdown(cancel_futures=True)

    def _new_pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            self.slots, self._context, initializer=_begin_child, initargs=(self._children_stop,)
        )

    def _pass_on_stop(self) -> None:
        while not self._closed.is_set():
            if self._stop.wait(0.2):
                self._children_stop.set()
                return


# The stop flag of a worker process: an event can be inherited but not be sent with the work.
_child_stop: Any = None


def _begin_child(stop: Any) -> None:
    global _child_stop
    _child_stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which sets `stop`
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import torch

    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A killed parent would leave its children waiting for work for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _in_child(work: Work, arguments: tuple[Any, ...]) -> Any:
    return work(*arguments, stop=_child_stop)


class _Cluster:
    """The workers of a Dask scheduler."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._executor = client.get_executor(pure=False)

    @property
    def slots(self) -> int:
        # Asked each time: clusters grow and shrink.
        return max(1, sum(self._client.nthreads().values()))

    def submit(self, work: Work, *arguments: Any) -> Future[Any]:
        future: Future[Any] = self._executor.submit(work, *arguments)
        return future

    def share(self, value: Any) -> Any:
        return self._client.scatter(value, hash=False)


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError:
        raise DeviceError(
            f"scheduler {address}: needs the package distributed; pip install distributed"
        ) from None
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as err:  # TimeoutError is an OSError
        _log.info("%s", err)
        raise DeviceError(
            f"scheduler {address}: no Dask scheduler answers there within {_CONNECT_SECONDS} s; "
            "start one with 'dask scheduler' and workers with 'dask worker --nthreads 1'"
        ) from None
    with client:
        yield client
