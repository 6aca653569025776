"""Programs of classic BPF by which the kernel chooses what a packet socket gets (`tcpdump -d` shows such programs).

Linux: include/uapi/linux/filter.h, Documentation/networking/filter.rst. Only the standard library is needed.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

_LOAD, _LOAD_HALF, _AND, _EQUALS, _RETURN = 0x20, 0x28, 0x54, 0x15, 0x06
_FRAME_TYPE, _INTERFACE = 0xFFFFF000 + 4, 0xFFFFF000 + 8  # SKF_AD_OFF + SKF_AD_PKTTYPE, SKF_AD_IFINDEX
_OUTGOING = 4
BIGGEST_FRAME = 262144
"""No frame has more bytes."""
_IPV4, _TYPE_AT, _SOURCE_AT, _DESTINATION_AT = 0x0800, 12, 26, 30


class Choice(NamedTuple):
    """What to take of one interface."""

    interface: int
    """Its index (if_nametoindex)."""
    net: str | None
    """Only IPv4 packets from or to this network; None for all frames."""
    only_outgoing: bool
    """Of each frame of the loopback, which shows it twice, the copy that goes out."""


_Step = tuple[int, int, int, int]
"""Operation, jump if true, jump if not, number; jumps count the steps to skip."""


def filter_program(choices: list[Choice]) -> list[bytes]:
    """Give the program that accepts what one of the choices takes, each step as a struct sock_filter."""
    steps: list[_Step] = []
    for choice in choices:
        steps += _take(choice)
    steps.append((_RETURN, 0, 0, 0))
    return [struct.pack("@HBBI", *step) for step in steps]


def _take(choice: Choice) -> list[_Step]:
    """Steps that return the whole frame if it is the choice's, and fall out at the end if not."""
    steps: list[_Step] = [(_RETURN, 0, 0, BIGGEST_FRAME)]
    if choice.net is not None:
        steps = _of_network(ipaddress.IPv4Network(choice.net)) + steps
    if choice.only_outgoing:
        steps = [(_LOAD, 0, 0, _FRAME_TYPE), (_EQUALS, 0, len(steps), _OUTGOING), *steps]
    return [(_LOAD, 0, 0, _INTERFACE), (_EQUALS, 0, len(steps), choice.interface), *steps]


def _of_network(network: ipaddress.IPv4Network) -> list[_Step]:
    """Steps before a last one, which they reach if the frame is from or to the network, and skip if not."""
    address, mask = int(network.network_address), int(network.netmask)
    return [
        (_LOAD_HALF, 0, 0, _TYPE_AT),
        (_EQUALS, 0, 7, _IPV4),
        (_LOAD, 0, 0, _SOURCE_AT),
        (_AND, 0, 0, mask),
        (_EQUALS, 3, 0, address),
        (_LOAD, 0, 0, _DESTINATION_AT),
        (_AND, 0, 0, mask),
        (_EQUALS, 0, 1, address),
    ]
