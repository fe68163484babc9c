"""The start of Ray on this machine, and the Ray Data execution that works through the chunks.

Ray Data hands runs of chunks to workers; if a source can only be read in one go, it hands raw records to the
workers that parse them. Only error messages come back through it. Progress is counted from the records that
workers write into the staging folder, so it moves with every chunk.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmgnn_dist.data.prepare.chunks import ChunkRunner, Staging
from mmgnn_dist.data.prepare.plan import PreparePlan
from mmgnn_dist.errors import TryAgain, UserError, WrongInput, need
from mmgnn_dist.process import owned_folder

OBJECT_STORE = 256 << 20  # bytes; only small data goes through it
RAY_BLOCK_BYTES = 1  # target bytes of a Ray block: each chunk of raw records is a block, open to any worker
SEEN_WITHIN = 90.0  # s; NFS keeps for up to 60 s in mind that a file is not there
POLL = 0.2  # s between two looks at the progress
# Ray then takes 127.0.0.1 for this machine's address, as on macOS and Windows, and listens there alone; with
# any other address it listens on all interfaces
LOOPBACK = ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
LONGEST = 20  # characters of the folder below which Ray puts its sockets, whose paths have a limit
STARTS = 2  # tries to start Ray: its node has to be up within a time that a busy machine may exceed
WORK = "reading, joining, checking, writing"


def run_chunks(
    plan: PreparePlan, staging: Staging, workers: int, report: Callable[[int, int, str], None]
) -> None:
    """Do every chunk of a plan that is not staged yet.

    Args:
        plan: the plan of the preparation.
        staging: staging folder for the shards and records.
        workers: number of parallel chunks, and of CPUs of a Ray started here; 0: all CPUs.
        report: called with molecules done, all molecules and the present step.

    Raises:
        WrongInput: a source is damaged; reports the first in the order of the plan.
        UserError: shards that other nodes wrote are not seen here.
        TryAgain: Ray does not start.
    """
    runs = [run._asdict() for run in plan.runs()]
    runner = ChunkRunner(plan, staging)
    cores, done = os.cpu_count() or 1, staged_rows(plan, staging)
    with watch(plan.rows, done, report) as step, ray_data(workers or cores) as data, _block_per_row(data):
        step(WORK)
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
    see_all(plan, staging, sorted({result["node"] for result in results}))


def see_all(plan: PreparePlan, staging: Staging, nodes: list[str]) -> None:
    """Wait until the shards of all chunks are seen here: a file system over a network may tell of them late.

    Args:
        plan: the plan of the preparation.
        staging: its staging folder.
        nodes: the nodes that wrote the shards.

    Raises:
        UserError: some are not seen after `SEEN_WITHIN` seconds.
    """
    end = time.monotonic() + SEEN_WITHIN
    while missing := [chunk for chunk in range(len(plan.chunks)) if not staging.shard(chunk).is_file()]:
        if time.monotonic() > end:
            raise UserError(
                f"{len(missing)} of {len(plan.chunks)} shards were written by {', '.join(nodes)} and are not "
                f"seen on this node: {staging.folder} must lie where all nodes of the job have the same files"
            )
        time.sleep(1)


def staged_rows(plan: PreparePlan, staging: Staging) -> Callable[[], int]:
    """Return a function that counts the molecules of the chunks that have a record by now."""
    waiting = set(range(len(plan.chunks)))

    def done() -> int:
        waiting.difference_update([chunk for chunk in waiting if staging.record(chunk).is_file()])
        return plan.rows - sum(plan.chunk_rows(chunk) for chunk in waiting)

    return done


def _cpus() -> int:
    """Number of CPUs of the Ray cluster that this process has joined."""
    import ray

    return int(ray.cluster_resources()["CPU"])


@contextmanager
def ray_here(cpus: int) -> Iterator[Any]:
    """Yield the module `ray`, connected to the cluster this process has joined, else to a new local one.

    Args:
        cpus: number of CPUs of a cluster that is started here; it ends with the block.

    Raises:
        UserError: Ray is not installed.
        TryAgain: Ray does not start.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray is imported, like LOOPBACK
    if "SLURM_JOB_ID" not in os.environ:
        os.environ.setdefault(*LOOPBACK)
    try:
        import ray
    except ImportError:
        raise need("ray", "data") from None
    if ray.is_initialized():
        yield ray
        return
    # Ray makes its folder writable for everybody: it lies in one that only this user can enter
    parent = ray_parent(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise TryAgain(f"Ray does not start on this machine: {parent} cannot be written to: set RAY_TMPDIR")
    with owned_folder(parent, "mmgnn-") as folder:
        _start(ray, cpus, folder / "t")
        try:
            with interruptible():  # Ray's own handler prints a stack trace and exits
                yield ray
        finally:
            ray.shutdown()


def ray_parent(folder: str) -> Path:
    """Return the folder for the one of Ray: `/tmp` if the given one makes the paths of sockets too long."""
    return Path(folder if len(folder) <= LONGEST else "/tmp")


def _start(ray: Any, cpus: int, folder: Path) -> None:
    """Start Ray on this machine, with the handler of SIGTERM left as it is."""
    handler = signal.getsignal(signal.SIGTERM)
    for left in reversed(range(STARTS)):
        try:
            ray.init(
                address="local",
                num_cpus=cpus,
                object_store_memory=OBJECT_STORE,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
            )
        except Exception as error:  # a bare Exception if a node is not up within Ray's fixed 30 s
            ray.shutdown()
            if left:
                continue
            lines = str(error).strip().splitlines()
            raise TryAgain(
                f"Ray does not start on this machine ({lines[0] if lines else type(error).__name__}), tried "
                f"{STARTS} times: the same command continues when the machine is less busy; else see that "
                "RAY_TMPDIR, by default /tmp, can be written to"
            ) from error
        else:
            break
        finally:
            _on_sigterm(handler)


@contextmanager
def ray_data(workers: int) -> Iterator[Any]:
    """Yield the module `ray.data`, connected as by `ray_here`."""
    with ray_here(workers):
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        # Ray warns if there are fewer chunks than workers, which is no fault
        warnings.filterwarnings("ignore", message="The maximum number of concurrent tasks")
        yield ray.data


@contextmanager
def _block_per_row(data: Any) -> Iterator[None]:
    """Let Ray Data make one block per row within the context."""
    context = data.DataContext.get_current()
    old_size = context.target_max_block_size
    context.target_max_block_size = RAY_BLOCK_BYTES
    try:
        yield
    finally:
        context.target_max_block_size = old_size


@contextmanager
def interruptible() -> Iterator[None]:
    """Stop as after Ctrl-C on SIGTERM within the block, and keep staged work, if nobody handles it yet."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is signal.SIG_DFL:
        _on_sigterm(_interrupt)
    try:
        yield
    finally:
        _on_sigterm(handler)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _on_sigterm(handler: Any) -> None:
    """Set the handler of SIGTERM if this is the main thread, the only one where Python allows it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def watch(
    total: int, done: Callable[[], int], report: Callable[[int, int, str], None], note: str = "starting Ray"
) -> Iterator[Callable[[str], None]]:
    """Report from a thread how much of `total` is `done`; yields a function that sets the present step.

    Args:
        total: all of the work.
        done: counts the work that is done.
        report: called with both, and the present step.
        note: the first step.
    """
    over = threading.Event()

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
