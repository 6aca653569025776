"""How fast are SIP messages read and written? Microseconds of CPU a message, against sipmessage on the same bytes.

The messages are the recorded ones of tests/data/ims. "read" is start line, all headers and body; "five fields" adds
Call-ID, CSeq, both tags and the branch; "line by line" is the same with one folded header in each message.

    python tests/bench/bench_sip.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from sip_bytes import all_recorded
from sipmessage import Message as Other
from yardstick import ROUNDS, TARGET_US, best_us, yardstick_us

from labkit.wire.sip import SipMessage, parse_message


def five_fields(raw: bytes) -> tuple[object, ...]:
    """Read a message and what names its dialog and transaction."""
    message = parse_message(raw)
    return message.call_id, message.cseq, message.from_tag, message.to_tag, message.branch


def anew(message: SipMessage) -> SipMessage:
    """The same message as if it were made here, so that it must be written."""
    return SipMessage(
        message.method, message.request_uri, message.status, message.reason, message.headers, message.body
    )


def readable(raw: bytes) -> bool:
    """Whether the other reads it, too."""
    try:
        Other.parse(raw)
    except ValueError:
        return False
    return True


def main() -> None:
    """Print one table."""
    before = yardstick_us()
    raws = [raw for raw in all_recorded() if readable(raw)]
    made = [anew(parse_message(raw)) for raw in raws]
    folded = [raw.replace(b"\r\n", b"\r\nX-Folded: a\r\n b\r\n", 1) for raw in raws]
    size = sum(map(len, raws)) / len(raws)
    lines = sum(len(message.headers) for message in made) / len(made)
    rows = {
        "read": best_us(parse_message, raws),
        "read, five fields": best_us(five_fields, raws),
        "read line by line": best_us(parse_message, folded),
        "write": best_us(SipMessage.to_bytes, made),
        "sipmessage, read": best_us(Other.parse, raws),
        "sipmessage, write": best_us(bytes, [Other.parse(raw) for raw in raws]),
    }
    print(
        f"us a message, best of {ROUNDS} rounds over {len(raws)} recorded messages, {size:.0f} B, {lines:.1f} headers"
    )
    for name, value in rows.items():
        print(f"{name:20}{value:8.1f}")
    yardstick = (before + yardstick_us()) / 2
    print(f"yardstick {yardstick:.1f} us here, {TARGET_US} us on the machine of the targets: see yardstick.py")


if __name__ == "__main__":
    main()
