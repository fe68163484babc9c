"""A hub of one model on this machine, as `huggingface_hub` asks it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from make_encoder import make_encoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/tiny"


class Hub(BaseHTTPRequestHandler):
    """The two kinds of address that a download asks for: what there is, and each file."""

    folder: Path

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        files = sorted(file.name for file in self.folder.iterdir())
        kind, content = "application/json", b""
        if path in (f"/api/models/{NAME}/revision/{rev}" for rev in (COMMIT, "main")):
            siblings = [{"rfilename": name} for name in [*files, "weights.bin"]]
            content = json.dumps({"id": NAME, "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith(f"/api/models/{NAME}/tree/"):
            found = [
                {"type": "file", "path": n, "oid": n, "size": (self.folder / n).stat().st_size} for n in files
            ]
            content = json.dumps(found).encode()
        elif path.startswith(f"/{NAME}/resolve/") and path.rsplit("/", 1)[1] in files:
            kind, content = "text/plain", (self.folder / path.rsplit("/", 1)[1]).read_bytes()
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound" if "/api/" in path else "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[dict[str, str]]:
    """Serve a tiny encoder made in a folder; gives an environment with this hub and an empty cache."""
    handler = type("Handler", (Hub,), {"folder": make_encoder(folder / "model", "bert")})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    dropped = ("HF_HUB_OFFLINE", "HF_HUB_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    try:
        yield environment | {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
            "HF_HOME": str(folder / "cache"),
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }
    finally:
        server.shutdown()
        server.server_close()


def call(environment: dict[str, str], *words: object) -> subprocess.CompletedProcess[str]:
    """A command line in a process of its own, since the cache's place is read once."""
    command = [sys.executable, "-m", "mmgnn_dist.cli", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=300)
