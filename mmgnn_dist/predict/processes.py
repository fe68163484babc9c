"""Portions worked through by this process or by several of this machine, in any order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from mmgnn_dist.errors import TryAgain
from mmgnn_dist.predict.parts import Parts
from mmgnn_dist.predict.portions import Portions, StoredPortions, Tables
from mmgnn_dist.predict.predictor import Predictor
from mmgnn_dist.progress import Progress, quiet_libraries
from mmgnn_dist.run_records import ExportRecord
from mmgnn_dist.train.ranks import init_distributed
from mmgnn_dist.train.text_data import open_text_data

AHEAD = 2  # portions of each process that are read ahead


@dataclass(frozen=True)
class Work:
    """All that a process needs to predict portions.

    Attributes:
        run: run directory, or a folder made by `mmgnn export`.
        export: description of the model.
        portions: the molecules.
        level: share of molecules that the intervals cover.
        threads: CPU threads of a process.
        out: the output, of which it writes parts.
    """

    run: Path
    export: ExportRecord
    portions: Portions
    level: float
    threads: int
    out: Path

    def predictor(self) -> Predictor:
        """Return what predicts a portion."""
        return Predictor(self.run, self.export, self.portions, self.level, self.threads)


def work_through(work: Work, nproc: int, moved: Callable[[int], None]) -> None:
    """Predict all portions whose parts are not complete.

    Args:
        work: what is to be done.
        nproc: number of processes.
        moved: called with the rows of each portion that is done.

    Raises:
        UserError: a source or the model cannot be read.
        TryAgain: a process died.
    """
    parts = Parts(work.out)
    waiting = [number for number in range(len(work.portions.sizes)) if not parts.is_done(number)]
    if not waiting:
        return
    if nproc == 1:
        read, predictor = work.portions.reader(), work.predictor()
        for number in waiting:
            parts.write(number, predictor.predict(number, read(number), parts.work(0)))
            moved(work.portions.sizes[number])
        return
    for number in _by_processes(work, nproc, waiting):
        moved(work.portions.sizes[number])


def _by_processes(work: Work, nproc: int, waiting: list[int]) -> Iterator[int]:
    """Yield the number of each portion that is done."""
    if isinstance(work.portions, StoredPortions):  # its text sidecars are made once, by this process
        open_text_data(work.portions.inputs, init_distributed(), Progress("text", quiet=True))
    spawn = multiprocessing.get_context("spawn")
    read, running = work.portions.reader(), set[Future[int]]()
    pool = ProcessPoolExecutor(nproc, spawn, _begin, (work, spawn.Value("i", 0)))
    try:
        for number in waiting:
            if len(running) >= AHEAD * nproc:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
            running.add(pool.submit(_predict, number, read(number)))
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool:
        raise TryAgain(
            "a process of the prediction died, perhaps for want of memory: the same command continues; "
            "--nproc sets the number of processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_own: dict[str, tuple[Predictor, Parts, Path]] = {}  # of a process that `_begin` made ready


def _begin(work: Work, count: Synchronized[int]) -> None:
    """Make a process ready; it ends with the one that started it, even if that one is killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    quiet_libraries()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the portion is done before the parent ends
    with count.get_lock():
        number = count.value
        count.value += 1
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible != "":
        own = visible.split(",")[number] if visible else str(number)
        os.environ["CUDA_VISIBLE_DEVICES"] = own
    parts = Parts(work.out)
    _own["work"] = work.predictor(), parts, parts.work(number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _predict(number: int, tables: Tables) -> int:
    predictor, parts, folder = _own["work"]
    parts.write(number, predictor.predict(number, tables, folder))
    return number
