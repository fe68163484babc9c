"""Ray: started for a preparation on this machine, and the one execution that works through the chunks.

Ray Data hands runs of chunks to workers, and raw records to those who parse them where a source can only be
read in one go; only an error message comes back through it. Progress is read off the records that workers
leave in the staging folder, so that it moves with every chunk.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmgnn_dist.data.prepare.chunks import ChunkRunner, Staging
from mmgnn_dist.data.prepare.plan import PreparePlan
from mmgnn_dist.errors import UserError, WrongInput, need

OBJECT_STORE = 256 << 20  # bytes; what goes through it is small
RAY_BLOCK_BYTES = 1  # bytes of a Ray block: every chunk of raw records is one, so that any worker may take it
POLL = 0.2  # s between two looks at the progress


def run_chunks(
    plan: PreparePlan, staging: Staging, workers: int, report: Callable[[int, int, str], None]
) -> None:
    """Do every chunk of a plan that is not staged yet.

    Args:
        plan: what to do.
        staging: where it goes.
        workers: chunks worked on at a time, and CPUs of Ray if it is started here; 0: as many as there are.
        report: called with molecules done, all molecules and the present step.

    Raises:
        WrongInput: a damaged source; the first in the order of the plan.
        UserError: Ray does not start.
    """
    runs = [run._asdict() for run in plan.runs()]
    runner = ChunkRunner(plan, staging)
    waiting = set(range(len(plan.chunks)))

    def done() -> int:
        waiting.difference_update([chunk for chunk in waiting if staging.record(chunk).is_file()])
        return plan.rows - sum(plan.chunk_rows(chunk) for chunk in waiting)

    cores = os.cpu_count() or 1
    with watch(plan.rows, done, report) as step, ray_data(workers or cores) as data, _block_per_row(data):
        step("reading, joining, checking, writing")
        workers = workers or _cpus()
        results = (
            data.from_items(runs, override_num_blocks=len(runs))
            .flat_map(runner.feed, num_cpus=0, concurrency=min(workers, len(runs)))  # cuts, never parses
            .map(runner.work, num_cpus=1, concurrency=min(workers, len(plan.chunks)))
            .take_all()
        )
    errors = [result["error"] for result in sorted(results, key=lambda r: r["first"]) if result["error"]]
    if errors:
        raise WrongInput(errors[0])


def _cpus() -> int:
    """CPUs of the Ray that this process has joined."""
    import ray

    return int(ray.cluster_resources()["CPU"])


@contextmanager
def ray_here(cpus: int) -> Iterator[Any]:
    """The module `ray`, joined to the cluster that this process has joined already, else to one of its own.

    Args:
        cpus: of a cluster that is started here, and ends with the block.

    Raises:
        UserError: Ray is not installed, or does not start.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray is imported
    try:
        import ray
    except ImportError:
        raise need("ray", "data") from None
    if ray.is_initialized():
        yield ray
        return
    term = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # a bare one of a node that is not up within Ray's fixed 30 s
        said = str(error).strip().splitlines()
        raise UserError(
            f"Ray does not start on this machine ({said[0] if said else type(error).__name__}): run the same "
            "command again if it is busy; else see that RAY_TMPDIR, by default /tmp, can be written to"
        ) from error
    # Ray's own handler prints a stack trace and dies: stop as after Ctrl-C instead, staged work stays
    _on_sigterm(_interrupt if term is signal.SIG_DFL else term)
    try:
        yield ray
    finally:
        ray.shutdown()
        _on_sigterm(term)


@contextmanager
def ray_data(workers: int) -> Iterator[Any]:
    """Ray Data, by `ray_here`."""
    with ray_here(workers):
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # said of fewer chunks than workers, which is no fault
        warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")
        yield ray.data


@contextmanager
def _block_per_row(data: Any) -> Iterator[None]:
    """Let Ray Data make a block of every row, for what is run meanwhile."""
    context = data.DataContext.get_current()
    before = context.target_max_block_size
    context.target_max_block_size = RAY_BLOCK_BYTES
    try:
        yield
    finally:
        context.target_max_block_size = before


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _on_sigterm(handler: Any) -> None:
    """Set the handler of SIGTERM, where Python lets us: in the main thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def watch(
    total: int, done: Callable[[], int], report: Callable[[int, int, str], None]
) -> Iterator[Callable[[str], None]]:
    """Report from a thread how much of `total` is `done`; gives a function that names the present step."""
    over = threading.Event()
    note = "starting Ray"

    def step(name: str) -> None:
        nonlocal note
        note = name

    def look() -> None:
        while not over.wait(POLL):
            report(done(), total, note)

    report(0, total, note)
    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield step
    finally:
        over.set()
        watcher.join()
