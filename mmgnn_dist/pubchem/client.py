"""The client of PUG REST: pubchempy forms the requests, this sends them in order and at the right pace.

pubchempy opens its addresses without a time-out, keeps the service's address as a constant of its module and
raises on every status but 200, losing headers on the way. A private instance of that module is therefore
made for each client, with its own address and its own way of opening: nothing of pubchempy is copied, and
other users of it in the same process see nothing. One request is under way at a time.
"""

from __future__ import annotations

import functools
import importlib.util
import random
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from email.message import Message
from http.client import HTTPException, HTTPResponse
from types import ModuleType, SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import HTTPErrorProcessor, HTTPSHandler, OpenerDirector, build_opener

from mmgnn_dist import __version__
from mmgnn_dist.errors import UserError, need
from mmgnn_dist.pubchem.answers import Kind, Verdict, classify_answer
from mmgnn_dist.pubchem.limits import Limits
from mmgnn_dist.pubchem.throttle import Throttle, retry_after

LARGEST = 64 << 20  # bytes of one answer; a real one of 100 compounds has some hundred kilobytes
OVERTAXED = (500, 504)  # what a list that is too long may lead to


class ServiceDown(Exception):
    """The circuit breaker is open: the service failed too often in a row. The message is one line."""


class Refused(Exception):
    """The service will not answer this request, however often it is asked."""


class TooBroad(Exception):
    """The service fails at this list again and again: ask for less at a time."""


class Client:
    """Asks one service, politely.

    Args:
        base_url: address of PUG REST or of a mirror of it.
        limits: pace and patience.
        note: told in a few words when the client waits, and '' when it goes on.
    """

    def __init__(self, base_url: str, limits: Limits, note: Callable[[str], None] = lambda text: None):
        self.base_url = check_url(base_url)
        self.limits, self.note = limits, note
        self.requests = 0  # sent by this client
        self._throttle = Throttle(limits)
        self._failures = 0  # in a row
        self._pubchempy = _private_pubchempy(self.base_url, limits.timeout)

    def ask(self, namespace: str, identifiers: list[str], operation: str) -> tuple[Kind, bytes]:
        """Ask until there is an answer.

        Args:
            namespace: what the identifiers are: `inchikey` or `cid`.
            identifiers: sent as one list.
            operation: what is asked of them, such as `property/InChIKey`.

        Returns:
            FOUND or NONE, and the raw JSON.

        Raises:
            Refused: the request is wrong.
            TooBroad: the list is too long to be answered in time.
            ServiceDown: too many failures in a row, or a longer wait asked for than is accepted.
        """
        list_key, deadline, broad, lost = "", 0.0, 0, False
        while True:
            sent = ("listkey", [list_key]) if list_key else (namespace, identifiers)
            status, headers, body, verdict = self._once(*sent, operation)
            restart = False
            if verdict.kind is Kind.WAITING:
                now = time.monotonic()
                deadline = deadline if list_key else now + self.limits.longest
                list_key = verdict.list_key
                if now < deadline:
                    self._throttle.hold(self.limits.poll)
                    continue
                restart, verdict = True, Verdict(Kind.FAULT, why="the result of a list key never came")
            elif list_key and (verdict.kind is Kind.REFUSED or (verdict.key_lost and not lost)):
                # the key itself may be what was not found: ask from the start, and believe it then
                lost = restart = True
                verdict = Verdict(Kind.FAULT, why="a list key was lost")
            if verdict.kind is Kind.FAULT:
                list_key = "" if restart else list_key
                broad += status in OVERTAXED
                if broad >= self.limits.failures // 2 and len(identifiers) > 1:
                    raise TooBroad(verdict.why)
                self._failed(verdict.why, retry_after(headers))
                continue
            self._failures = 0
            if verdict.kind is Kind.REFUSED:
                raise Refused(verdict.why)
            return verdict.kind, body

    def _once(
        self, namespace: str, identifiers: list[str], operation: str
    ) -> tuple[int, Message, bytes, Verdict]:
        """One request: (status, headers, body, what they mean); status 0 where no whole answer came."""
        self._throttle.wait()
        self.note("")
        self.requests += 1
        headers, body = Message(), b""
        try:
            with closing(self._pubchempy.request(identifiers, namespace, operation=operation)) as response:
                headers = response.headers
                if 300 <= response.status < 400:
                    raise UserError(
                        f"{self.base_url} redirects to {headers.get('Location', 'nowhere')}: "
                        "give the address that answers itself with --base-url"
                    )
                body = _read(response, self.limits.longest)
            status = response.status
            verdict = classify_answer(status, body)
        except (OSError, HTTPException) as error:
            status, verdict = 0, Verdict(Kind.FAULT, why=_reason(error))
        self._throttle.done(headers)
        return status, headers, body, verdict

    def _failed(self, why: str, asked: float | None) -> None:
        """Note a failure and set the pause after it."""
        self._failures += 1
        if self._failures >= self.limits.failures:
            raise ServiceDown(
                f"{self.base_url} failed {self._failures} times in a row, the last time by: {why}"
            )
        pause = min(self.limits.backoff * 2 ** (self._failures - 1), self.limits.backoff_most)
        pause *= random.uniform(0.5, 1.0)  # so that many who failed together do not come back together
        if asked is not None:
            if asked > self.limits.longest:
                raise ServiceDown(f"{self.base_url} asks to come back in {asked / 60:.0f} minutes ({why})")
            pause = max(pause, asked)
        self._throttle.hold(pause)
        self.note(f"waiting {pause:.1f} s after {why}")


def check_url(base_url: str) -> str:
    """The address without a slash at its end.

    Raises:
        UserError: not an address of a web service.
    """
    base_url = base_url.strip()
    parts = urlsplit(base_url)
    try:
        sound = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:  # the port
        sound = False
    if not sound or parts.query or parts.fragment or len(base_url.split()) != 1:
        raise UserError(f"'{base_url}' is no address of a web service: give https://HOST/rest/pug")
    return base_url.rstrip("/")


class _Unjudged(HTTPErrorProcessor):
    """Hands every answer back, whatever its status: faults have bodies and headers too."""

    def http_response(self, request: object, response: HTTPResponse) -> HTTPResponse:
        return response

    https_response = http_response


def _private_pubchempy(base_url: str, timeout: float) -> ModuleType:
    """An instance of the module pubchempy that asks `base_url` and waits at most `timeout` seconds."""
    spec = importlib.util.find_spec("pubchempy")
    if spec is None or spec.loader is None:
        raise need("pubchempy", "pubchem")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    @functools.cache
    def opener(context: ssl.SSLContext) -> OpenerDirector:
        made = build_opener(HTTPSHandler(context=context), _Unjudged())
        made.addheaders = [("User-Agent", f"mmgnn_dist/{__version__} pubchempy/{module.__version__}")]
        return made

    def urlopen(url: str, data: bytes | None, context: ssl.SSLContext) -> HTTPResponse:
        return opener(context).open(url, data, timeout=timeout)

    # pubchempy reads all certificates anew for each request, which takes longer than the request
    once = functools.cache(ssl.create_default_context)
    vars(module).update(API_BASE=base_url, urlopen=urlopen, ssl=SimpleNamespace(create_default_context=once))
    return module


def _read(response: HTTPResponse, longest: float) -> bytes:
    """The whole body; a time-out of the socket alone would let a server drip for ever."""
    deadline, parts, size = time.monotonic() + longest, [], 0
    while part := response.read1(1 << 20):
        parts.append(part)
        size += len(part)
        if size > LARGEST:
            raise HTTPException(f"an answer of more than {LARGEST >> 20} MB")
        if time.monotonic() > deadline:
            raise TimeoutError("the answer took too long")
    if response.length:
        raise HTTPException(f"the answer ended {response.length} bytes early")
    return b"".join(parts)


def _reason(error: Exception) -> str:
    """What broke a request, in a few words."""
    inner = getattr(error, "reason", None) or error
    return " ".join(f"{inner}".split()) or type(inner).__name__
