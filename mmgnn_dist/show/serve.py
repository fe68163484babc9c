"""A folder of runs in the browser, on this machine alone, with curves that grow while a run trains."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

from mmgnn_dist.errors import UserError
from mmgnn_dist.html_style import html_page
from mmgnn_dist.run_dir import RunDir
from mmgnn_dist.show import elements
from mmgnn_dist.show.read_run import read_run
from mmgnn_dist.show.run_page import run_page

LOOPBACK = "127.0.0.1"
REFRESH = 10  # seconds after which the page of an unfinished run is read again
DEPTH = ("*", "*/*", "*/*/*")  # folders in which runs are looked for


def run_folders(folder: Path) -> list[Path]:
    """Return the run directories in a folder, or the folder itself if it is one."""
    if RunDir(folder).journal.is_file():
        return [folder]
    return sorted(path.parent for depth in DEPTH for path in folder.glob(f"{depth}/journal.jsonl"))


def make_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Make a server of the runs in a folder; the caller lets it serve.

    Only this machine can reach it, only names of runs of the folder are answered, and no file is sent.

    Args:
        folder: folder of runs, or one run directory.
        port: port on loopback; 0: any free one.

    Raises:
        UserError: there is no run, or the port is taken.
    """
    if not run_folders(folder):
        raise UserError(f"{folder} holds no run directory: name a folder such as runs")

    class Handler(BaseHTTPRequestHandler):
        """Answers for the list of runs and for each of them."""

        def do_GET(self) -> None:
            """Send the list, or the page of a run."""
            runs = {_label(folder, run): run for run in run_folders(folder)}
            asked = unquote(self.path.partition("?")[0]).strip("/")
            if not asked:
                self._send(200, _list_page(folder, list(runs)))
            elif asked in runs:
                self._send(*_answer(lambda: _live_page(runs[asked])))
            else:
                self._send(404, html_page("Not found", "", "<h1>No such run</h1>"))

        def _send(self, code: int, page: str) -> None:
            body = page.encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing: the terminal belongs to the user."""

    try:
        return ThreadingHTTPServer((LOOPBACK, port), Handler)
    except OSError as error:
        raise UserError(
            f"--port {port} cannot be used ({error.strerror}): give another, or 0 for any"
        ) from None


def _label(folder: Path, run: Path) -> str:
    return run.relative_to(folder).as_posix() if run != folder else (folder.resolve().name)


def _answer(make: Callable[[], str]) -> tuple[int, str]:
    try:
        return 200, make()
    except UserError as error:
        return 500, html_page("Fault", "", f"<h1>This run cannot be shown</h1><p>{escape(str(error))}</p>")


def _live_page(run: Path) -> str:
    shown = read_run(run)
    return run_page(shown, 0 if shown.metrics else REFRESH)


def _list_page(folder: Path, names: list[str]) -> str:
    items = "".join(f'<li><a href="/{quote(name)}">{escape(name)}</a></li>' for name in names)
    title = f"Runs in {folder}"
    return html_page(title, elements.STYLE, f"<h1>{escape(title)}</h1><ul>{items}</ul>")
