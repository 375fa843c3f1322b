"""HTTP/1.1 to model servers: what a stream of tokens needs, and nothing else.

Written for the stream path because a general client costs a short request twice as much as all that is around
it (``benchmarks/stream.py --ttft``), and because aiohttp throws away what it has already received when a
connection breaks. The parsing is that of llhttp, by ``httptools``. There are no redirects, cookies or
compression.

Nothing here knows connections, keys or errors of ours: see :mod:`lmbridge.http`.
"""

from lmbridge.transport.faults import Broken, CannotConnect, ConnectTimedOut, Garbled
from lmbridge.transport.opening import Proxy, Route
from lmbridge.transport.pool import Pool
from lmbridge.transport.response import Response

__all__ = ["Broken", "CannotConnect", "ConnectTimedOut", "Garbled", "Pool", "Proxy", "Response", "Route"]
