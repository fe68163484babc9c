"""The pace of requests: never faster than the limits, slower when the service says so.

A request counts from the arrival of its answer, not from its sending. The next request that the limit delays
then also *arrives* a full second after the earlier one, whatever the network does in between. A new throttle
behaves as if the limit had just been used up, since an interrupted run may have used it up.
"""

from __future__ import annotations

import re
import time
from collections import deque
from email.message import Message
from email.utils import parsedate_to_datetime

from mmgnn_dist.pubchem.limits import Limits

COLOURS = ("green", "yellow", "red", "black")
_STATUS = re.compile(r"status:\s*(green|yellow|red|black)\b", re.IGNORECASE)


class Throttle:
    """Sets the pace of requests: call `wait` before a request and `done` after it."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.colour = COLOURS[0]
        now = time.monotonic()
        self._ends = deque([now] * limits.per_second, maxlen=limits.per_minute)
        self._not_before = now

    def wait(self) -> None:
        """Sleep until the next request may be sent."""
        limits, ends = self.limits, self._ends
        due = max(self._not_before, ends[-limits.per_second] + limits.second)
        if len(ends) == limits.per_minute:
            due = max(due, ends[0] + limits.minute)
        gap = {"green": 0.0, "yellow": limits.yellow}.get(self.colour, limits.red)
        due = max(due, ends[-1] + gap)
        while (left := due - time.monotonic()) > 0:
            time.sleep(left)

    def done(self, headers: Message) -> None:
        """Count a finished request, and follow the load that its answer reports."""
        self._ends.append(time.monotonic())
        colours = _STATUS.findall(headers.get("X-Throttling-Control", ""))
        if colours:  # without this header, the last reported load stays valid
            self.colour = max((colour.lower() for colour in colours), key=COLOURS.index)
            if self.colour == "black":
                self.hold(self.limits.black)

    def hold(self, seconds: float) -> None:
        """Send nothing for this many seconds."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)


def retry_after(headers: Message) -> float | None:
    """Return the seconds that an answer asks to wait, or None if it does not say.

    A date is compared with the answer's own `Date`, since our clock may be wrong.
    """
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        now = parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except ValueError:
        now = time.time()
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None
