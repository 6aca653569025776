"""A whole message as names and values: the same as reading it AVP by AVP, whatever it looks like."""

from __future__ import annotations

import random

import pytest
from ims_bytes import all_messages, one_of_each

from labkit.errors import DiameterError
from labkit.wire import diameter_avp
from labkit.wire.diameter import Avp, Message, parse_avps, parse_message, read_tree, scan_avps

ONE_OF_EACH = one_of_each()


def by_avp(avps: tuple[Avp, ...]) -> list:
    """Read every value AVP by AVP, the slow way."""
    return [(avp.name, by_avp(avp.value) if avp.kind == "Grouped" else avp.value) for avp in avps]


def test_every_recorded_message() -> None:
    """Names and values of every recorded message are those of its AVPs, when it is seen first and again."""
    for _ in range(2):
        for raw in all_messages():
            assert read_tree(raw) == by_avp(parse_avps(raw, 20))


def test_it_is_for_people() -> None:
    """A UAA reads as the specification writes it."""
    tree = parse_message(ONE_OF_EACH["300A"]).tree()
    assert ("Experimental-Result", [("Vendor-Id", 10415), ("Experimental-Result-Code", 2001)]) in tree
    assert tree[0][0] == "Session-Id"


def test_damaged_messages() -> None:
    """Of 4000 damaged messages each gives the same tree as AVP by AVP, or the same refusal."""
    rng = random.Random(29229)
    messages = list(ONE_OF_EACH.values())
    refused = 0
    for _ in range(4000):
        raw = bytearray(rng.choice(messages))
        for _ in range(rng.randint(1, 3)):
            raw[rng.randrange(20, len(raw))] = rng.choice((0, 1, 0x40, 0x80, 0xC0, 0xFF, rng.randrange(256)))
        raw = bytes(raw)
        try:
            wanted = by_avp(parse_avps(raw, 20))
        except DiameterError:
            refused += 1
            with pytest.raises(DiameterError):
                read_tree(raw)
        else:
            assert read_tree(raw) == wanted
    assert 500 < refused < 3500


@pytest.mark.parametrize("name", ["300A", "303A"])
def test_every_truncation(name) -> None:
    """A message that ends too early is refused, or ends between two AVPs."""
    raw = ONE_OF_EACH[name]
    for size in range(20):
        with pytest.raises(DiameterError, match="header"):
            read_tree(raw[:size])
    for size in range(20, len(raw)):
        try:
            wanted = by_avp(parse_avps(raw[:size], 20))
        except DiameterError:
            with pytest.raises(DiameterError):
                read_tree(raw[:size])
        else:
            assert read_tree(raw[:size]) == wanted


def test_same_size_other_shape() -> None:
    """Messages of one command and size that hold other AVPs are told apart."""
    one = Message(300, 1, 0x80, 1, 1, (Avp(1, b"abcd", 0, 0x40), Avp.of("Origin-State-Id", 7)))
    other = Message(300, 1, 0x80, 1, 1, (Avp.of("Origin-State-Id", 7), Avp(1, b"abcd", 0, 0x40)))
    group = Message(300, 1, 0x80, 1, 1, (Avp.of("Failed-AVP", [Avp.of("Origin-State-Id", 7)]), Avp(9999, b"")))
    assert len(one.to_bytes()) == len(other.to_bytes())
    for _ in range(2):
        assert one.tree() == [("User-Name", "abcd"), ("Origin-State-Id", 7)]
        assert other.tree() == [("Origin-State-Id", 7), ("User-Name", "abcd")]
        assert group.tree() == [("Failed-AVP", [("Origin-State-Id", 7)]), ("AVP 9999", b"")]


def test_groups_in_groups() -> None:
    """Empty groups, groups in groups and several of them keep their order."""
    inner = Avp.of("Failed-AVP", [])
    middle = Avp.of("Failed-AVP", [inner, Avp.of("Vendor-Id", 1), inner])
    message = Message(300, 1, 0, 1, 1, (inner, Avp.of("Failed-AVP", [middle, middle]), Avp.of("Vendor-Id", 2), inner))
    assert message.tree() == by_avp(message.avps)


def test_endless_groups() -> None:
    """Groups that stand in each other without end are refused, not followed."""
    avp = Avp.of("Failed-AVP", [])
    for _ in range(2000):
        avp = Avp.of("Failed-AVP", [avp])
    with pytest.raises(DiameterError, match="deep"):
        Message(300, 1, 0, 1, 1, (avp,)).tree()


def test_headers_do_not_pile_up() -> None:
    """However many headers come, a bounded number is remembered."""
    for size in range(5000):
        assert Message(300, 1, 0, 1, 1, (Avp(9999, bytes(size)),)).tree() == [("AVP 9999", bytes(size))]
    assert len(diameter_avp.HEADS) <= diameter_avp._MAX_HEADS


def test_vendors_are_told_apart() -> None:
    """AVPs whose first eight bytes are the same and whose vendors differ are not taken for each other."""
    ours, others = Avp.of("Server-Assignment-Type", 1), Avp(614, b"\0\0\0\1", 9, 0xC0)
    assert ours.to_bytes()[:8] == others.to_bytes()[:8]
    message = Message(301, 1, 0, 1, 1, (ours, others, ours))
    raw = message.to_bytes()
    assert message.tree() == [
        ("Server-Assignment-Type", 1),
        ("AVP 614 of vendor 9", b"\0\0\0\1"),
        ("Server-Assignment-Type", 1),
    ]
    assert parse_message(raw) == message
    found, count, _ = scan_avps(raw)
    assert (set(found), count) == ({614 | 10415 << 32, 614 | 9 << 32}, 3)


def test_what_a_value_that_does_not_fit_says() -> None:
    """A text that is no UTF-8 and a number of a wrong size are refused in the words of `Avp.value`."""
    for avp in (Avp(1, b"\xff", 0, 0x40), Avp(268, b"\0\0\0", 0, 0x40), Avp(257, b"\0\1abc", 0, 0x40)):
        with pytest.raises(DiameterError) as wanted:
            avp.value  # noqa: B018
        with pytest.raises(DiameterError) as found:
            Message(300, 1, 0, 1, 1, (Avp.of("Vendor-Id", 1), avp)).tree()
        assert str(found.value) == str(wanted.value)
        assert found.value.failed_avp == wanted.value.failed_avp
