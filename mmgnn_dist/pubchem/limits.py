"""PubChem's limits on requests, and the patience of the client.

PubChem allows at most 5 requests a second and 400 a minute, and fewer when `X-Throttling-Control` says so.
All times can be divided by one factor, so that tests run the same client faster than real time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Limits:
    """Rates, pauses and patience.

    Attributes:
        per_second, per_minute: most requests in any `second` and in any `minute`.
        second, minute: length of these periods, s.
        yellow, red: least time between requests while the service reports this load, s.
        black: pause when the service blocks requests, s.
        timeout: longest wait for a connection or for the next bytes of an answer, s.
        longest: longest accepted wait for a whole answer, a list key or a `Retry-After`, s.
        poll: time between two requests for the same list key, s.
        backoff, backoff_most: first and longest pause after a failure, s; it doubles in between.
        failures: number of failures in a row that opens the circuit breaker.
    """

    per_second: int = 5
    per_minute: int = 400
    second: float = 1.0
    minute: float = 60.0
    yellow: float = 1.0
    red: float = 5.0
    black: float = 60.0
    timeout: float = 30.0
    longest: float = 600.0
    poll: float = 2.0
    backoff: float = 1.0
    backoff_most: float = 60.0
    failures: int = 8

    def faster(self, factor: float) -> Limits:
        """Return the same limits with every time divided by `factor`."""
        counts = ("per_second", "per_minute", "failures")
        times = {name: value / factor for name, value in asdict(self).items() if name not in counts}
        return replace(self, **times)

    def least_time(self, requests: int) -> float:
        """Return the least time for a number of requests, s."""
        return max(requests / self.per_second * self.second, requests / self.per_minute * self.minute)
