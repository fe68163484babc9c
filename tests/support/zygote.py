"""A process that has imported all libraries and forks itself for every command line that a test asks for.

Three quarters of a small training run are imports. Each forked process is one of its own (session, signals,
exit code, output file) and has run nothing before. Requests and answers are lines of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import traceback
from typing import Any

from forked import NEW_INTERPRETERS, fork_what_it_starts
from pictures import white_pictures

from mmgnn_dist.process import exit_now

LIBRARIES = (
    "torch",
    "torch._dynamo",
    "torch_geometric",
    "deepspeed",
    "deepspeed.runtime.zero.stage_1_and_2",
    "deepspeed.runtime.zero.muon.original_muon",
    "transformers.models.auto.modeling_auto",
    "peft",
    "transformers.models.bert.modeling_bert",
    "transformers.models.auto.tokenization_auto",
    "safetensors.torch",
    "matplotlib.pyplot",
    "pyarrow.parquet",
    "rich.progress",
    "mmgnn_dist.cli.main",
    "mmgnn_dist.train.session",
    "mmgnn_dist.train.application.evaluation",
    "mmgnn_dist.models.backbones.schnet",
    "mmgnn_dist.train.report.plots",
)


def import_anew(path: list[str]) -> None:
    """Have the package imported again, from another PYTHONPATH and with the plugins that are there."""
    sys.path[:0] = path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mmgnn_dist"]:
        del sys.modules[name]


def child(request: dict[str, Any]) -> None:
    """Be the asked process: never returns."""
    code = 1
    try:
        os.setsid()
        for stream, name in enumerate(request["out"], 1):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT, 0o644), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(request["folder"])
        own_path = os.environ.get("PYTHONPATH")
        os.environ.clear()
        os.environ.update(request["environment"])
        tempfile.tempdir = None  # it is that of the environment
        white_pictures()
        if (path := os.environ.get("PYTHONPATH", own_path)) != own_path:
            import_anew(path.split(os.pathsep))
        if NEW_INTERPRETERS not in os.environ:
            fork_what_it_starts()
        module = importlib.import_module(request["module"])
        sys.argv = ["mmgnn", *request["words"]]
        code = module.main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        exit_now(code)


def serve() -> None:
    """Answer requests until the tests end."""
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork() or child(request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    import torch

    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    answers = os.dup(1)
    os.dup2(2, 1)  # what libraries print while they are imported is no answer
    for name in LIBRARIES:
        importlib.import_module(name)
    os.dup2(answers, 1)
    serve()
