"""The client of PUG REST: pubchempy builds the requests, the client sends them one by one at the right pace.

pubchempy opens addresses without a time-out, keeps the service's address as a constant of its module, and
raises on every status but 200, losing the headers. Each client therefore makes a private instance of that
module, with its own address and its own function for opening it. Nothing of pubchempy is copied, and other
users of it in the same process are not affected.
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

from mmgnn_dist.errors import TryAgain, UserError, need
from mmgnn_dist.pubchem.answers import Kind, Verdict, classify_answer
from mmgnn_dist.pubchem.limits import Limits
from mmgnn_dist.pubchem.redirects import HOPS, redirect_target
from mmgnn_dist.pubchem.throttle import Throttle, retry_after
from mmgnn_dist.version import __version__

LARGEST = 64 << 20  # most bytes of one answer; a real one of 100 compounds has a few hundred kilobytes
OVERTAXED = (500, 504)  # statuses that a too long list may cause


class ServiceDown(TryAgain):
    """The circuit breaker is open: the service failed too often in a row. The message is one line."""


class Refused(Exception):
    """The service refuses this request; asking again is useless."""


class TooBroad(Exception):
    """The service keeps failing on this list: ask for fewer identifiers at a time."""


class Client:
    """The client of one service; it keeps to the limits.

    Args:
        base_url: address of PUG REST or of a mirror of it.
        limits: pace and patience.
        note: called with a few words when the client waits, and with '' when it goes on.
    """

    def __init__(self, base_url: str, limits: Limits, note: Callable[[str], None] = lambda text: None):
        self.base_url = check_url(base_url)
        self.limits, self.note = limits, note
        self.requests = 0  # sent by this client
        self._throttle = Throttle(limits)
        self._failures = 0  # in a row
        self._answered = False  # whether the service ever gave an answer of its own
        self._pubchempy = _private_pubchempy(self.base_url, limits.timeout, self._redirected)

    def ask(self, namespace: str, identifiers: list[str], operation: str) -> tuple[Kind, bytes]:
        """Repeat a request until there is an answer.

        Args:
            namespace: what the identifiers are: `inchikey` or `cid`.
            identifiers: sent as one list.
            operation: the data to ask for, such as `property/InChIKey`.

        Returns:
            FOUND or NONE, and the raw JSON.

        Raises:
            Refused: the request is wrong.
            TooBroad: the list is too long to be answered in time.
            ServiceDown: too many failures in a row, or the service asks for a longer wait than the limit.
        """
        list_key, deadline, overtaxed, key_lost = "", 0.0, 0, False
        while True:
            request = ("listkey", [list_key]) if list_key else (namespace, identifiers)
            status, headers, body, verdict = self._once(*request, operation)
            restart = False
            if verdict.kind is Kind.WAITING:
                now = time.monotonic()
                deadline = deadline if list_key else now + self.limits.longest
                list_key = verdict.list_key
                if now < deadline:
                    self._throttle.hold(self.limits.poll)
                    continue
                restart, verdict = True, Verdict(Kind.FAULT, why="the result of a list key never came")
            elif list_key and (verdict.kind is Kind.REFUSED or (verdict.key_lost and not key_lost)):
                # the list key may be what was not found: start again once, then accept the answer
                key_lost = restart = True
                verdict = Verdict(Kind.FAULT, why="a list key was lost")
            if verdict.kind is Kind.FAULT:
                list_key = "" if restart else list_key
                overtaxed += status in OVERTAXED
                if overtaxed >= self.limits.failures // 2 and len(identifiers) > 1:
                    raise TooBroad(verdict.why)
                self._failed(verdict.why, retry_after(headers))
                continue
            self._failures, self._answered = 0, True
            if verdict.kind is Kind.REFUSED:
                raise Refused(verdict.why)
            return verdict.kind, body

    def _once(
        self, namespace: str, identifiers: list[str], operation: str
    ) -> tuple[int, Message, bytes, Verdict]:
        """Send one request: (status, headers, body, verdict); the status is 0 without a complete answer."""
        self._throttle.wait()
        self.note("")
        self.requests += 1
        headers, body = Message(), b""
        try:
            with closing(self._pubchempy.request(identifiers, namespace, operation=operation)) as response:
                headers = response.headers
                body = _read(response, self.limits.longest)
            status = response.status
            if 300 <= status < 400:
                verdict = self._unfollowed(headers.get("Location", "nowhere"))
            else:
                verdict = classify_answer(status, body)
        except (OSError, HTTPException) as error:
            status, verdict = 0, Verdict(Kind.FAULT, why=_reason(error))
        self._throttle.done(headers)
        return status, headers, body, verdict

    def _redirected(self, headers: Message) -> None:
        """Count the request that a redirect answered, and keep the pace before the next one."""
        self._throttle.done(headers)
        self._throttle.wait()
        self.requests += 1

    def _unfollowed(self, location: str) -> Verdict:
        """Judge a redirect that is not followed: a fault that may pass, or a wrong address from the start.

        Raises:
            UserError: the service never answered before.
        """
        if not self._answered:
            raise UserError(
                f"{self.base_url} redirects to {location[:200]}: give the address that answers itself with "
                "--base-url, or log in to the network first if that is its login page"
            )
        return Verdict(Kind.FAULT, why=f"a redirect to {location[:200]}, which is not followed")

    def _failed(self, why: str, retry_seconds: float | None) -> None:
        """Count a failure and set the pause after it."""
        self._failures += 1
        if self._failures >= self.limits.failures:
            raise ServiceDown(
                f"{self.base_url} failed {self._failures} times in a row, the last time by: {why}"
            )
        pause = min(self.limits.backoff * 2 ** (self._failures - 1), self.limits.backoff_most)
        pause *= random.uniform(0.5, 1.0)  # so that clients that failed together do not return together
        if retry_seconds is not None:
            if retry_seconds > self.limits.longest:
                raise ServiceDown(
                    f"{self.base_url} asks to come back in {retry_seconds / 60:.0f} minutes ({why})"
                )
            pause = max(pause, retry_seconds)
        self._throttle.hold(pause)
        self.note(f"waiting {pause:.1f} s after {why}")


def check_url(base_url: str) -> str:
    """Return the address without a slash at its end.

    Raises:
        UserError: it is not the address of a web service.
    """
    base_url = base_url.strip()
    parts = urlsplit(base_url)
    try:
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:  # the port
        valid = False
    if not valid or parts.query or parts.fragment or len(base_url.split()) != 1:
        raise UserError(f"'{base_url}' is no address of a web service: give https://HOST/rest/pug")
    return base_url.rstrip("/")


class _Unjudged(HTTPErrorProcessor):
    """Returns every answer, whatever its status: faults have bodies and headers too."""

    def http_response(self, request: object, response: HTTPResponse) -> HTTPResponse:
        return response

    https_response = http_response


def _private_pubchempy(base_url: str, timeout: float, redirected: Callable[[Message], None]) -> ModuleType:
    """Make an instance of the module pubchempy that asks `base_url` and waits at most `timeout` seconds.

    `redirected` is called with the headers of a redirect before it is followed.
    """
    spec = importlib.util.find_spec("pubchempy")
    if spec is None or spec.loader is None:
        raise need("pubchempy", "pubchem")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    @functools.cache
    def opener(context: ssl.SSLContext) -> OpenerDirector:
        director = build_opener(HTTPSHandler(context=context), _Unjudged())
        director.addheaders = [("User-Agent", f"mmgnn_dist/{__version__} pubchempy/{module.__version__}")]
        return director

    def urlopen(url: str, data: bytes | None, context: ssl.SSLContext) -> HTTPResponse:
        for _ in range(HOPS):
            response = opener(context).open(url, data, timeout=timeout)
            target = redirect_target(url, response.status, response.headers.get("Location"))
            if target is None:
                return response
            with closing(response):
                redirected(response.headers)
            url = target
        raise HTTPException(f"more than {HOPS} redirects in a row, the last to {url[:200]}")

    # pubchempy reads all certificates for each request, and this takes longer than the request itself
    cached_context = functools.cache(ssl.create_default_context)
    vars(module).update(
        API_BASE=base_url, urlopen=urlopen, ssl=SimpleNamespace(create_default_context=cached_context)
    )
    return module


def _read(response: HTTPResponse, longest: float) -> bytes:
    """Read the whole body; with a socket time-out alone, a slow server could send for ever."""
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
    """Describe in a few words what broke a request."""
    cause = getattr(error, "reason", None) or error
    return " ".join(f"{cause}".split()) or type(cause).__name__
