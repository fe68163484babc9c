"""Redirects of a web service: which are followed, and what is said of the others.

A service may move within its own host, or from http to https; such a redirect is followed, with the same
method and the same body. Another host is not: it may be the login page of a network, and it would get the
user's identifiers. A 303 is not followed either, since it asks for a request without the identifiers.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urljoin, urlsplit

FOLLOWED = (301, 302, 307, 308)
HOPS = 5  # most redirects of one request
PORTS = {"http": 80, "https": 443}


def redirect_target(url: str, status: int, location: str | None) -> str | None:
    """Return the address to ask next, or None where the redirect is not to be followed.

    Args:
        url: the address that answered.
        status: status of its answer.
        location: its header `Location`, None without one.
    """
    if status not in FOLLOWED or not location:
        return None
    target = urljoin(url, location)
    try:
        before, after = _place(urlsplit(url)), _place(urlsplit(target))
    except ValueError:  # a port that is no number
        return None
    host = before[1]
    upgraded = before == ("http", host, PORTS["http"]) and after == ("https", host, PORTS["https"])
    return target if after == before or upgraded else None


def _place(parts: SplitResult) -> tuple[str, str | None, int | None]:
    """(scheme, host, port) of an address."""
    return parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)
