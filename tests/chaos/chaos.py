"""`make chaos`: random faults on real jobs of a real Slurm; each job ends right, or says why it does not.

    python tests/chaos/chaos.py --seconds 3600 --seed 7 --workers 2 --to chaos/    # a journal: JSON, Markdown
    python tests/chaos/chaos.py --seed 7 --only 12                                 # one trial again

A trial is one job (train on two nodes, a study's array, a sweep, a preparation) with a few faults. It ends
`equal` (by itself, with the bits of the undisturbed output), `resumed` (it stopped with a line of cause, and
the same command made it equal), or it is a finding: `no cause`, `differs`, `stuck`, `not resumed`, `crash`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from getpass import getuser
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1] / "support")]

from chaos_cluster import Site
from command_line import outputs
from faults import Missed, draw, inject, ready
from kinds import Kind, kinds, make_inputs

SHARE = {"train": 6, "study": 3, "sweep": 1, "prepare": 3}
PATIENCE = 40.0  # seconds in which what a fault needs must be there
LIMIT = 600.0  # seconds after the last fault in which a job must end
GOOD = ("equal", "resumed")


def plan(seed: int, number: int) -> tuple[str, list[dict[str, Any]]]:
    """The kind of a trial and its faults, from the seed alone."""
    random = Random(f"{seed}-{number}")
    kind = random.choices(list(SHARE), list(SHARE.values()))[0]
    return kind, [draw(random, kind) for _ in range(random.randint(6, 10))]


class Trial:
    """One job and what is done to it."""

    def __init__(self, site: Site, kind: Kind, number: int, faults: list[dict[str, Any]]) -> None:
        self.site, self.kind, self.number, self.faults = site, kind, number, faults
        self.base = site.disk / f"{kind.name}{number}"
        self.out = self.base / "out"
        self.undo: list[threading.Timer] = []
        self.begin = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Do everything; returns the line of the journal."""
        self.base.mkdir(mode=0o700)
        line: dict[str, Any] = {"trial": self.number, "kind": self.kind.name, "faults": []}
        try:
            self.send(line)
            for fault in self.faults:
                line["faults"].append(self.one(fault))
            ended = self.site.until(self.over, LIMIT)
            self.undo_all()
            line |= self.judge(ended)
        except Exception:
            line |= {"end": "crash", "why": traceback.format_exc()}
        finally:
            self.undo_all()
            self.site.calm()
        line["left"] = self.left()
        line["seconds"] = round(time.monotonic() - self.begin)
        return line

    def send(self, line: dict[str, Any]) -> None:
        """Submit, several times if Slurm does not answer meanwhile; a refusal has one line."""
        for _ in range(4):
            code, said = self.kind.send(self.site, self.out)
            if code == 0:
                return
            line.setdefault("refused", []).append(said.strip()[-300:])
            time.sleep(3)
        raise RuntimeError(f"submission failed: {said}")

    def one(self, fault: dict[str, Any]) -> dict[str, Any]:
        """Wait for the moment of a fault and do it."""
        if not self.site.until(lambda: ready(fault, self.site) or self.over(), PATIENCE) or self.over():
            return fault | {"did": None, "missed": "job has ended" if self.over() else "never there"}
        time.sleep(fault["after"])
        if self.over():
            return fault | {"did": None, "missed": "job has ended"}
        at = round(time.monotonic() - self.begin, 1)
        try:
            did, undo = inject(fault, self.site, self.base, self.again)
        except Missed as reason:
            return fault | {"did": None, "missed": str(reason)}
        if undo:
            timer = threading.Timer(fault["lasts"], undo)
            timer.start()
            self.undo.append(timer)
        return fault | {"did": did, "at": at}

    def again(self) -> str:
        """The same command while the job is there."""
        code, said = self.kind.send(self.site, self.out)
        return f"exit code {code}, {said.strip().splitlines()[-1] if said.strip() else 'nothing'}"

    def undo_all(self) -> None:
        """Undo now what is not undone yet."""
        for timer in self.undo:
            if timer.is_alive():
                timer.cancel()
                timer.function()
            timer.join()
        self.undo.clear()

    def over(self) -> bool:
        """Whether no job is left that may still run by itself."""
        try:
            return all("held" in state.lower() for state in self.site.queue().values())
        except RuntimeError:  # slurmctld is down
            return False

    def judge(self, ended: bool) -> dict[str, Any]:
        """How it ended, after the same command once more if it stopped."""
        if not ended:
            return {"end": "stuck", "why": json.dumps(self.site.queue())}
        if self.kind.done(self.out):
            found = self.kind.differs(self.out)
            return {"end": "differs", "why": ", ".join(found)} if found else {"end": "equal", "why": ""}
        cause = self.kind.cause(self.site, self.out)
        self.site.calm()
        for _ in range(2):
            code, said = self.kind.send(self.site, self.out)
            if code:
                return {"end": "not resumed", "why": f"{cause} | {said.strip()[-600:]}"}
            self.site.until(self.over, LIMIT)
            if self.kind.done(self.out):
                break
        else:
            return {"end": "not resumed", "why": f"{cause} | {self.kind.cause(self.site, self.out)}"}
        if found := self.kind.differs(self.out):
            return {"end": "differs", "why": f"{cause} | after the same command: {', '.join(found)}"}
        return {"end": "resumed" if cause else "no cause", "why": cause or "no line of cause"}

    def left(self) -> list[str]:
        """Files in the folder for temporary files, and processes."""
        self.site.until(lambda: not self.pids(), 30)
        mine = outputs().name  # of the command lines that this process has started itself
        kept = (Path(mine).name, f"torchinductor_{getuser()}")  # torch keeps one folder of each user for good
        found = [path.name for path in self.site.tmp.iterdir() if path.name not in kept]
        found += [f"process {pid}" for pid in self.pids()]
        for path in [self.site.tmp / name for name in found if not name.startswith("process")]:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        return found

    def pids(self) -> list[int]:
        roles = ("rank", "supervisor", "launcher", "driver", "ray worker", "wandb", "raylet", "gcs")
        return [pid for role in roles for pid in self.site.processes(role)]


def leave(number: int, frame: object) -> None:
    """End in order: the cluster goes."""
    sys.exit(f"ended by signal {number}")


def work(
    folder: Path, base: Path, options: argparse.Namespace, worker: int, counter: Any, end: float
) -> None:
    """One worker: a cluster of its own, one trial after the other."""
    signal.signal(signal.SIGTERM, leave)
    site = Site(folder / str(worker))
    site.up()
    try:
        trial = None
        while trial is None or time.time() < end:
            with counter.get_lock():
                number, counter.value = counter.value, counter.value + 1
            if number >= options.trials:
                return
            kind, faults = plan(options.seed, number)
            trial = Trial(site, kinds(base)[kind], number, faults)
            line = trial.run()
            with (options.to / "trials.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            done = [fault["did"] for fault in line["faults"] if fault["did"]]
            print(
                f"{number:4d} {kind:8s} {line['end']:11s} {line['seconds']:4d} s  {'; '.join(done)}",
                flush=True,
            )
            if line["end"] not in GOOD:
                print(f"     {line['why'][-500:]}", flush=True)
                shutil.copytree(trial.base, options.to / f"trial{number}", symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(trial.base, ignore_errors=True)
    finally:
        site.down()


def table(options: argparse.Namespace) -> str:
    """The journal as Markdown, and as JSON beside it."""
    file = options.to / "trials.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    lines.sort(key=lambda line: line["trial"])
    faults = [fault for line in lines for fault in line["faults"] if fault["did"]]
    (options.to / "chaos.json").write_text(json.dumps({"seed": options.seed, "trials": lines}, indent=1))
    text = [f"# Chaos, seed {options.seed}, {time.strftime('%Y-%m-%d %H:%M')}", ""]
    text += [
        f"{len(faults)} faults in {len(lines)} trials.",
        "",
        "| kind | trials | faults | ends |",
        "|---|---|---|---|",
    ]
    for kind in SHARE:
        own = [line for line in lines if line["kind"] == kind]
        count = sum(bool(fault["did"]) for line in own for fault in line["faults"])
        ends = ", ".join(f"{n} {end}" for end, n in Counter(line["end"] for line in own).most_common())
        text.append(f"| {kind} | {len(own)} | {count} | {ends} |")
    text += ["", "| trial | kind | faults | end | cause or difference | left |", "|---|---|---|---|---|---|"]
    for line in lines:
        did = "; ".join(fault["did"] for fault in line["faults"] if fault["did"])
        why = line["why"].replace("|", "/").replace("\n", " ")[-300:]
        cells = (line["trial"], line["kind"], did, line["end"], why, ", ".join(line["left"]))
        text.append(f"| {' | '.join(map(str, cells))} |")
    (options.to / "chaos.md").write_text("\n".join(text) + "\n")
    return "\n".join(text[: 5 + len(SHARE)])


def main() -> int:
    """Run trials until the time is over; exit code 1 if one ends as it should not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600, help="no trial begins later (default 3600)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: a random one")
    parser.add_argument("--workers", type=int, default=2, help="clusters side by side (default 2)")
    parser.add_argument("--trials", type=int, default=10**6, help="end after this trial")
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--only", type=int, help="number of the only trial")
    parser.add_argument(
        "--to", type=Path, default=Path("chaos"), help="folder of the journal (default chaos/)"
    )
    parser.add_argument("--inputs", type=Path, help="folder of the undisturbed outputs, for the next time")
    options = parser.parse_args()
    if options.only is not None:
        options.first, options.trials, options.workers = options.only, options.only + 1, 1
    print(
        f"seed {options.seed}, {options.seconds:.0f} s, {options.workers} clusters; journal in {options.to}",
        flush=True,
    )
    options.to.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGTERM, leave)
    jobs: list[Any] = []
    folder = Path(tempfile.mkdtemp(prefix="c.", dir="/tmp"))
    folder.chmod(0o755)
    try:
        inputs = options.inputs or folder / "inputs"
        if not (inputs / "complete").is_file():
            inputs.mkdir(parents=True)
            make_inputs(inputs)
            (inputs / "complete").touch()
        context = multiprocessing.get_context("spawn")
        counter, end = context.Value("i", options.first), time.time() + options.seconds
        jobs = [
            context.Process(target=work, args=(folder, inputs, options, worker, counter, end))
            for worker in range(options.workers)
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
    finally:
        for job in jobs:
            job.terminate()
        for job in jobs:
            job.join()
        print(table(options), flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    ends = [json.loads(line)["end"] for line in (options.to / "trials.jsonl").read_text().splitlines()]
    return 0 if ends and all(end in GOOD for end in ends) else 1


if __name__ == "__main__":
    sys.exit(main())
