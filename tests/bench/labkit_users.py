"""Test users for the benchmarks of the HSS: as many as wanted, the same in every process."""

from __future__ import annotations

from labkit.peers.hss.subscribers import Subscriber, subscriber_from_fields

REALM = "ims.mnc001.mcc001.3gppnetwork.org"


def make_users(count: int) -> tuple[Subscriber, ...]:
    """Make AKA users numbered from 1."""
    return tuple(
        subscriber_from_fields(
            {
                "name": f"user{n}",
                "impi": f"00101{n:010d}",
                "impus": [f"sip:00101{n:010d}", f"sip:user{n}", f"tel:+1555{n:06d}"],
                "k": f"{n:032x}",
                "opc": f"{n + (1 << 100):032x}",
            },
            REALM,
            "bench",
        )
        for n in range(1, count + 1)
    )


def write_users(path: str, count: int) -> None:
    """Write the same users as a subscribers' file."""
    lines = [f'realm = "{REALM}"']
    for user in make_users(count):
        impus = ", ".join(f'"{impu}"' for impu in user.impus)
        lines += [
            "[[subscriber]]",
            f'name = "{user.name}"',
            f'impi = "{user.impi}"',
            f"impus = [{impus}]",
            f'k = "{user.k.hex()}"',
            f'opc = "{user.opc.hex()}"',
        ]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
