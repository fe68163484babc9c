"""A server on the loopback interface that answers like PUG REST, and misbehaves on demand.

It answers lists of InChIKeys and CIDs from real records of PubChem, or from made ones, and keeps account of
its client: when each request came, whether it came during a pause that was asked for, and whether it asked
for something that had been answered before. All its times are divided by `scale`, as the client's are.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pyarrow.parquet as pq

GREEN = "Request Count status: Green (0%), Request Time status: Green (0%), Service status: Green (13%)"
FAULTS = (
    "busy",
    "yellow",
    "red",
    "black",
    "429",
    "504",
    "500",
    "fault in 200",
    "truncated",
    "short",
    "html",
    "wrong type",
    "slow",
    "dropped",
    "reset",
    "list key",
    "not json",
    "moved",
)
OLD_NAMES = {"SMILES": "IsomericSMILES", "ConnectivitySMILES": "CanonicalSMILES"}
NUMBERS = {
    "xlogp": "XLogP",
    "h_bond_donor_count": "HBondDonorCount",
    "h_bond_acceptor_count": "HBondAcceptorCount",
    "rotatable_bond_count": "RotatableBondCount",
    "tpsa": "TPSA",
}


@dataclass
class Records:
    """What a server has: properties and synonyms by CID, CIDs by InChIKey."""

    properties: dict[int, dict[str, Any]] = field(default_factory=dict)
    synonyms: dict[int, list[str]] = field(default_factory=dict)
    cids: dict[str, list[int]] = field(default_factory=dict)

    def add(self, cid: int, key: str, synonyms: list[str] | None = None, **properties: Any) -> None:
        """Add what is known, without replacing what is there."""
        held = self.properties.setdefault(cid, {"InChIKey": key})
        for name, value in properties.items():
            if value is not None and value == value and value != "":
                held.setdefault(name, value)
        if synonyms:
            self.synonyms.setdefault(cid, synonyms)
        cids = self.cids.setdefault(held["InChIKey"], [])
        if cid not in cids:
            cids.append(cid)


def made_key(number: int) -> str:
    """An InChIKey of our making, different for every number."""
    letters = "".join(chr(65 + int(d)) for d in np.base_repr(number + 5**14, 10).zfill(14)[-14:])
    return f"{letters}-UHFFFAOYSA-N"


def made_records(n: int) -> Records:
    """n compounds: every third without a name, every fifth key with a second, lower, nameless CID."""
    records = Records()
    for number in range(n):
        named = number % 3 != 0
        records.add(
            1000 + 10 * number,
            made_key(number),
            [f"syn {number}", f"other {number}"] if named else None,
            Title=f"title {number}" if named else None,
            IUPACName=f"name-{number}" if named else None,
            MolecularFormula=f"C{number + 1}H4",
            MolecularWeight=f"{12.011 * number + 4:.2f}",
            XLogP=-0.5 if number % 2 else None,
            HBondDonorCount=0,
            TPSA=17.1,
            SMILES="C" * (number % 9 + 1),
        )
        if number % 5 == 0:
            records.add(1000 + 10 * number - 5, made_key(number), MolecularFormula=f"C{number + 1}H4")
    return records


def shared_records(folder: Path) -> Records:
    """The real records, under the InChIKeys that go with their SMILES."""
    records = Records()

    def rows(name: str) -> list[dict[str, Any]]:
        table = pq.read_table(folder / f"pubchem_{name}.parquet").to_pylist()
        return [row for row in table if row["inchikey_rdkit"] and row["cid"] and row["cid"] > 0]

    for row in rows("flavordb_full"):
        numbers = {NUMBERS[name]: row[name] for name in NUMBERS}
        records.add(row["cid"], row["inchikey_rdkit"], IUPACName=row["iupac_name"], **numbers)
    for row in rows("chemicals_small"):
        records.add(
            row["cid"],
            row["inchikey_rdkit"],
            json.loads(row["synonyms"]),
            Title=row["title"],
            IUPACName=row["iupac_name"],
            MolecularFormula=row["molecular_formula"],
        )
    for row in rows("pyrfume"):
        records.add(row["cid"], row["inchikey_rdkit"], IUPACName=row["iupac_name"])
    for row in rows("guesswho_cid1_49900"):
        records.add(
            row["cid"],
            row["inchikey_rdkit"],
            Title=row["title"],
            MolecularFormula=row["molecular_formula"],
            MolecularWeight=str(row["molecular_weight"]),
            SMILES=row["smiles"],
        )
    return records


class PubChemServer:
    """A server of `records`; use it as a context manager.

    Args:
        records: what it has.
        scale: its seconds are so many times shorter.
        rate: share of requests that meet a random fault of `faults`.
        script: faults of the first requests, '' for none; before any random one.
        old: knows the names of properties of before 2025 only.
    """

    def __init__(
        self,
        records: Records,
        scale: float = 20,
        rate: float = 0,
        faults: tuple[str, ...] = FAULTS,
        script: tuple[str, ...] = (),
        old: bool = False,
        seed: int = 0,
    ):
        self.records, self.scale, self.rate, self.faults, self.old = records, scale, rate, faults, old
        self.script = list(script)
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.stamps: list[float] = []
        self.met: Counter[str] = Counter()
        self.answered: set[tuple[str, str]] = set()
        self.again: list[tuple[str, str]] = []  # asked for although it had been answered
        self.early: list[float] = []  # requests during a pause that was asked for, by how much
        self.longest = 0  # identifiers in one list
        self.not_before = 0.0
        self.list_keys: dict[str, tuple[str, list[str], str, int]] = {}
        self.url = ""

    def __enter__(self) -> PubChemServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                ((name, values),) = parse_qs(body).items()
                outer.answer(self, name, values[0].split(","))

            def do_GET(self) -> None:
                outer.answer(self, "", [])

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # the client went away

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/rest/pug"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def assert_polite(self) -> str:
        """Fail if more than 5 requests came in any second, or 400 in any minute, or one in a pause.

        Returns:
            The most that came in any second and in any minute.
        """
        stamps, peaks = np.array(self.stamps), []
        for window in (1 / self.scale, 60 / self.scale):
            peaks.append(int(np.max(np.searchsorted(stamps, stamps + window) - np.arange(len(stamps)))))
        pace = f"at most {peaks[0]} in a second and {peaks[1]} in a minute"
        assert peaks[0] <= 5 and peaks[1] <= 400, pace
        assert not self.early, f"{len(self.early)} requests while a pause was asked for: {self.early[:5]}"
        assert self.longest <= 100
        return pace

    def answer(self, handler: BaseHTTPRequestHandler, namespace: str, names: list[str]) -> None:
        """Answer one request."""
        now = time.monotonic()
        parts = [unquote(part) for part in urlsplit(handler.path).path.split("/")][3:]
        with self.lock:
            self.stamps.append(now)
            if now < self.not_before:
                self.early.append(self.not_before - now)
            self.longest = max(self.longest, len(names))
            fault = ""
            if self.script:
                fault = self.script.pop(0)
            elif self.random.random() < self.rate:
                fault = self.random.choice(self.faults)
            self.met[fault] += 1
            if parts[1] == "listkey":
                namespace, names, operation, polls = self.list_keys[parts[2]]
                self.list_keys[parts[2]] = (namespace, names, operation, polls - 1)
                if polls and not fault:
                    return self._send(handler, 202, {"Waiting": {"ListKey": parts[2]}})
            else:
                operation = "/".join(parts[2:-1])
            asked = _asked(namespace, names, operation)
            self.again += [question for question in asked if question in self.answered]
        status, value = self._look_up(namespace, names, operation)
        if self._misbehave(handler, fault, value, (namespace, names, operation)):
            colour = fault.title() if fault in ("yellow", "red") else "Green"
            kind = "text/plain" if fault == "wrong type" else "application/json"
            headers = {"X-Throttling-Control": GREEN.replace("Green", colour, 1)}
            self._send(handler, status, value, headers, kind)
            if status != 400:
                with self.lock:
                    self.answered |= set(asked)

    def _look_up(self, namespace: str, names: list[str], operation: str) -> tuple[int, dict[str, Any]]:
        """(status, body) of an honest answer."""
        records = self.records
        if namespace == "inchikey":
            cids = [cid for name in names for cid in records.cids.get(name, [])]
        else:
            cids = [int(name) for name in names]
        known = [cid for cid in cids if cid in records.properties]
        if operation == "synonyms":
            if not known:
                return 404, _fault("NotFound", "No records found for the given CID(s)")
            information = [
                {"CID": cid} | ({"Synonym": records.synonyms[cid]} if cid in records.synonyms else {})
                for cid in known
            ]
            return 200, {"InformationList": {"Information": information}}
        asked = operation.removeprefix("property/").split(",")
        if self.old and "SMILES" in asked:
            return 400, _fault("BadRequest", "Invalid property")
        if not known:
            with self.lock:
                shape = self.random.randrange(3)
            if shape == 0:
                return 200, {"IdentifierList": {"CID": [0]}}
            if shape == 1:
                return 200, {"PropertyTable": {"Properties": [{"CID": 0}]}}
            return 404, _fault("NotFound", "No CID found")
        table = [
            {"CID": cid}
            | {name: held[new] for name in asked if (new := _new(name)) in (held := records.properties[cid])}
            for cid in known
        ]
        return 200, {"PropertyTable": {"Properties": table}}

    def _misbehave(
        self, handler: BaseHTTPRequestHandler, fault: str, value: dict[str, Any], asked: Any
    ) -> bool:
        """Do what the fault says; True if the honest answer is still to be sent."""
        body = json.dumps(value).encode()
        if fault in ("", "yellow", "red", "wrong type"):
            return True
        if fault in ("busy", "black"):
            colour = GREEN.replace("Green", "Black", 1) if fault == "black" else GREEN
            pause = (60 if fault == "black" else 30) / self.scale
            with self.lock:
                self.not_before = max(self.not_before, time.monotonic() + pause)
            headers = {"X-Throttling-Control": colour}
            if fault == "busy":
                headers["Retry-After"] = f"{pause}"
            self._send(handler, 503, _fault("ServerBusy", "Too many requests or server too busy"), headers)
        elif fault in ("429", "html"):
            page = b"<!doctype html><title>429</title>429 Too Many Requests"
            self._raw(handler, 429 if fault == "429" else 200, page, "text/html")
        elif fault == "504":
            self._send(handler, 504, _fault("Timeout", "The request timed out"))
        elif fault == "500":
            self._send(handler, 500, _fault("ServerError", "Database error"))
        elif fault == "fault in 200":
            self._send(handler, 200, {"Fault": {"Code": "PUGREST.ServerBusy"}})
        elif fault == "truncated":
            self._raw(handler, 200, body[: len(body) // 2], "application/json")
        elif fault == "not json":
            self._raw(handler, 200, b"\xff\xfe" + body, "application/json")
        elif fault in ("moved", "portal"):
            here = f"{self.url.removesuffix('/rest/pug')}{handler.path}?moved"
            to = here if fault == "moved" else "http://login.example/"
            self._raw(handler, 307 if fault == "moved" else 302, b"", "text/html", headers={"Location": to})
        elif fault in ("short", "reset"):
            self._raw(handler, 200, body[: len(body) // 2], "application/json", len(body))
            if fault == "reset":
                with contextlib.suppress(OSError):
                    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif fault == "lost key":
            self._send(handler, 404, _fault("NotFound", "The list key is not known"))
        elif fault == "expired key":
            self._send(handler, 400, _fault("BadRequest", "The list key has expired"))
        elif fault == "slow":
            time.sleep(40 / self.scale)
        elif fault == "list key":
            with self.lock:
                key = str(10**15 + len(self.list_keys))
                self.list_keys[key] = (*asked, 2)
            self._send(handler, 202, {"Waiting": {"ListKey": key, "Message": "Your request is running"}})
        elif fault == "dropped":
            with contextlib.suppress(OSError):
                handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return False

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        value: dict[str, Any],
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        self._raw(handler, status, json.dumps(value).encode(), kind, headers=headers)

    def _raw(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        kind: str,
        length: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(length or len(body)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


def _fault(code: str, message: str) -> dict[str, Any]:
    return {"Fault": {"Code": f"PUGREST.{code}", "Message": message}}


def _asked(namespace: str, names: list[str], operation: str) -> list[tuple[str, str]]:
    """(what is asked, of what) for each identifier of a request."""
    kind = "synonyms" if operation == "synonyms" else f"properties by {namespace}"
    return [(kind, name) for name in names]


def _new(name: str) -> str:
    return {old: new for new, old in OLD_NAMES.items()}.get(name, name)
