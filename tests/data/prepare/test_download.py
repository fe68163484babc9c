"""The download against a real server on this machine that drops connections and answers Range."""

import dataclasses
import gzip
import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from mmgnn_dist.cli.main import main
from mmgnn_dist.data.prepare import download as module
from mmgnn_dist.data.prepare.download import QM9, Remote, fetch
from mmgnn_dist.errors import UserError

CONTENT = np.random.default_rng(5).bytes(3_000_000)
FILE = Remote("some.tar.bz2", len(CONTENT), hashlib.md5(CONTENT).hexdigest(), ())


class Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.asked = CONTENT, []
        self.contents = {}  # by path; else `content`
        self.drop_after = None  # bytes of each answer before the connection is cut
        self.ranges, self.status, self.chunked = True, None, False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if server.status:
            self.send_error(server.status)
            return
        span = self.headers.get("Range") if server.ranges else None
        start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        content = server.contents.get(self.path, server.content)
        if start >= len(content):
            self.send_error(416)
            return
        body = content[start:]
        self.send_response(206 if span else 200)
        if span:
            total = len(content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.close_connection = True
        self.wfile.write(body[: server.drop_after])

    def log_message(self, *words):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "BACKOFF", 0.001)
    monkeypatch.setattr(module, "PATIENCE", 5)
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def get(to, *urls):
    seen = []
    paths = fetch((FILE,), to, list(urls), lambda done, total, note: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    return paths[0]


def test_a_download_continues_where_it_broke_off(server, tmp_path):
    server.drop_after = 700_000
    path = get(tmp_path / "new" / "folder", server.url)
    assert path.read_bytes() == CONTENT and [child.name for child in path.parent.iterdir()] == [FILE.name]
    assert [span for _, span in server.asked] == [None, *(f"bytes={k * 700_000}-" for k in range(1, 5))]
    asked = len(server.asked)
    get(path.parent, server.url)
    assert len(server.asked) == asked  # it is there, and nothing is asked


def test_a_broken_part_is_continued_by_the_next_command(server, tmp_path):
    (tmp_path / f"{FILE.name}.part").write_bytes(CONTENT[:1_234_567])
    assert get(tmp_path, server.url).read_bytes() == CONTENT
    assert server.asked == [(f"/{FILE.name}", "bytes=1234567-")]


def test_a_server_without_range_is_read_anew(server, tmp_path):
    server.ranges = False
    (tmp_path / f"{FILE.name}.part").write_bytes(b"x" * 1000)
    assert get(tmp_path, server.url).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 503])
def test_the_next_source_is_asked_when_one_refuses(server, tmp_path, status):
    other = Server()
    other.status = status
    threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    assert get(tmp_path, other.url, server.url).read_bytes() == CONTENT
    assert len(other.asked) == (1 if status == 404 else module.ATTEMPTS)
    other.shutdown()
    other.server_close()


def test_a_dead_server_tells_how_to_place_the_file(server, tmp_path, monkeypatch, capsys):
    server.drop_after = 0
    with pytest.raises(UserError, match="cannot download some.tar.bz2"):
        get(tmp_path, server.url)
    server.shutdown()
    server.server_close()
    assert main(["data", "fetch", "qm9", "--to", str(tmp_path / "qm9"), "--url", server.url]) == 2
    said = capsys.readouterr().err
    assert "\n" not in said.strip().splitlines()[-1]
    for words in ("dsgdb9nsd.xyz.tar.bz2", "86144227 bytes", "doi.org", str(tmp_path / "qm9"), "refused"):
        assert words in said


@pytest.mark.parametrize("damage", ["flip", "short", "long"])
def test_what_is_not_the_published_file_is_never_taken_for_it(server, tmp_path, damage):
    server.content = {
        "flip": CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]),
        "short": CONTENT[:-5],
        "long": CONTENT + b"more",
    }[damage]
    with pytest.raises(UserError, match="MD5 is not|bytes instead of"):
        get(tmp_path, server.url)
    assert not (tmp_path / FILE.name).exists()
    server.content = CONTENT
    get(tmp_path, server.url)


def test_a_wrong_file_in_its_place_is_kept_and_named(server, tmp_path):
    (tmp_path / FILE.name).write_bytes(b"mine")
    with pytest.raises(UserError, match="it has 4 bytes instead of 3000000: remove it"):
        get(tmp_path, server.url)
    assert (tmp_path / FILE.name).read_bytes() == b"mine" and not server.asked


def test_a_part_of_another_file_is_found(server, tmp_path):
    (tmp_path / f"{FILE.name}.part").write_bytes(b"x" * 5000)
    with pytest.raises(UserError, match="MD5"):
        get(tmp_path, server.url)
    assert get(tmp_path, server.url).read_bytes() == CONTENT


def test_the_command_fetches_both_files(server, tmp_path, monkeypatch, capsys):
    small = tuple(Remote(file.name, FILE.size, FILE.md5, ()) for file in QM9)
    monkeypatch.setattr(module, "QM9", small)
    assert main(["data", "fetch", "qm9", "--to", str(tmp_path), "--url", server.url]) == 0
    assert "data prepare" in capsys.readouterr().out
    assert sorted(child.name for child in tmp_path.iterdir()) == sorted(file.name for file in QM9)
    assert [path for path, _ in server.asked] == [f"/{file.name}" for file in QM9]


def test_pcqm4mv2_is_fetched_and_its_labels_are_unpacked(server, tmp_path, monkeypatch, capsys):
    """Its record gives no sizes: the server does; of the zip archive one file stays."""
    labels = gzip.compress(b"idx,smiles,homolumogap\n0,O,5.5\n")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("pcqm4m-v2/raw/data.csv.gz", labels)
        archive.writestr("pcqm4m-v2/split_dict.pt", b"never opened")
    sdf, table = module.PCQM4MV2
    sdf = dataclasses.replace(sdf, md5=FILE.md5)
    monkeypatch.setattr(module, "PCQM4MV2", (sdf, table))
    server.contents = {f"/{sdf.name}": CONTENT, f"/{table.name}": packed.getvalue()}
    server.drop_after = 1_700_000
    assert main(["data", "fetch", "pcqm4mv2", "--to", str(tmp_path), "--url", server.url]) == 0
    assert f"data prepare {tmp_path / sdf.name}" in capsys.readouterr().out
    assert sorted(child.name for child in tmp_path.iterdir()) == ["data.csv.gz", sdf.name]
    assert (tmp_path / "data.csv.gz").read_bytes() == labels and (tmp_path / sdf.name).read_bytes() == CONTENT
    asked = len(server.asked)
    assert main(["data", "fetch", "pcqm4mv2", "--to", str(tmp_path), "--url", server.url]) == 0
    assert len(server.asked) == asked
