"""`mmgnn fetch-model`: from a hub on this machine into the cache, and from the cache without one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from command_line import command
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


@pytest.fixture
def hub(tmp_path) -> Iterator[dict[str, str]]:
    """Environment with a hub of one model and an empty cache."""
    handler = type("Handler", (Hub,), {"folder": make_encoder(tmp_path / "model", "bert")})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    dropped = ("HF_HUB_OFFLINE", "HF_HUB_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    yield environment | {
        "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    server.shutdown()


def call(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), check=False, capture_output=True, text=True, env=environment, timeout=120
    )


def test_fetched_once_used_without_network(hub, tmp_path):
    offline = hub | {"HF_HUB_OFFLINE": "1"}
    missing = call(offline, "fetch-model", f"{NAME}@{COMMIT}")
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1
    assert (
        f"mmgnn fetch-model {NAME}@{COMMIT}" in missing.stderr and str(tmp_path / "cache") in missing.stderr
    )
    done = call(hub, "fetch-model", f"{NAME}@{COMMIT}", "--json")
    assert done.returncode == 0, done.stderr
    folder = Path(json.loads(done.stdout)["folder"])
    assert folder.name == COMMIT and (folder / "model.safetensors").is_file()
    assert not (folder / "weights.bin").exists()
    again = call(offline | {"HF_ENDPOINT": "http://127.0.0.1:9"}, "fetch-model", f"{NAME}@{COMMIT}", "--json")
    assert again.returncode == 0 and json.loads(again.stdout)["folder"] == str(folder)


def test_without_a_revision_the_commit_is_told(hub):
    done = call(hub, "fetch-model", NAME)
    assert done.returncode == 0, done.stderr
    assert f"text.revision={COMMIT}" in done.stdout


def test_an_unknown_model_is_one_line(hub):
    done = call(hub, "fetch-model", "someone/else@main")
    assert done.returncode == 2 and "someone/else@main" in done.stderr and done.stderr.count("\n") == 1
