"""How many requests each visitor makes."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

_REMEMBERED = 20_000  # visitors; those who came longest ago are forgotten


def visitor_of(address: str | None, forwarded_for: str | None, proxies: int) -> str:
    """
    Returns what a visitor is called: an address, of IPv6 the first 64 bits, which belong to one household.

    Args:
        address: from which the request comes.
        forwarded_for: the header X-Forwarded-For.
        proxies: how many proxies append to it; what is written before them could have been written by the visitor.
    """
    if proxies and forwarded_for:
        addresses = [part.strip() for part in forwarded_for.split(",")]
        address = addresses[max(0, len(addresses) - proxies)]
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if found.version == 6:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


class Rate:
    """
    Counts requests, and refuses those beyond a number per visitor and minute.

    Args:
        per_minute: the number, which may also come at once.
        clock: seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic):
        self.per_minute, self.clock = per_minute, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # requests that are left, and since when

    def seconds_to_wait(self, visitor: str) -> int:
        """Counts a request; returns 0, or in how many seconds the next is taken if this one is one too many."""
        now = self.clock()
        left, since = self._left.pop(visitor, (float(self.per_minute), now))
        left = min(float(self.per_minute), left + (now - since) * self.per_minute / 60)
        wait = 0 if left >= 1 else math.ceil((1 - left) * 60 / self.per_minute)
        self._left[visitor] = (left if wait else left - 1, now)
        while len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return wait
