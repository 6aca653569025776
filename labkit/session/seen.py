"""Which address a phone's packets carry when they go straight to another phone of this host."""

from __future__ import annotations

import secrets
import socket
from functools import lru_cache

from labkit.capture.frame_log import MARKER

_WAIT_S = 0.5


@lru_cache(maxsize=64)
def seen_as(address: str) -> str:
    """The source address that another program at `address` sees: mostly the same.

    Phones beside the docker engine share the host's address on the lab's bridge. What they send to each other does not
    leave by that bridge, so Docker's rule for everything that leaves by another way (MASQUERADE) gives it the address
    of the host's first interface. The datagram that finds this out looks like a capture's mark: captures leave it out.
    """
    if address.startswith("127."):
        return address
    word = MARKER + secrets.token_bytes(16)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving,
    ):
        try:
            for each in (sending, receiving):
                each.bind((address, 0))
            receiving.settimeout(_WAIT_S)
            sending.sendto(word, receiving.getsockname())
            said, source = receiving.recvfrom(64)
        except OSError:
            return address
        return str(source[0]) if said == word else address
