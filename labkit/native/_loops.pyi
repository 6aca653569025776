"""What the loops in C take and give. Buffers are bytes, memoryviews or arrays; arrays of numbers have 64 bits each."""

from typing_extensions import Buffer

VERSION: int

def pcap_records(raw: Buffer, position: int, size: int, big_endian: bool, /) -> tuple[bytes, int, int]:
    """Walk over the records of a pcap from a position on, up to `size` bytes.

    Returns:
        The offset of each record whose head is there, 64 bits each; the position behind the last, which may lie behind
        `size`; the captured length that the last one claims.
    Raises:
        ValueError: position or size lie outside raw.
    """

def packet_blocks(raw: Buffer, position: int, size: int, big_endian: bool, interfaces: int, /) -> tuple[bytes, int]:
    """Walk over the Enhanced Packet Blocks of a pcapng that stand at a position, as far as they are whole and sound.

    Args:
        raw: the bytes in which they lie.
        position: where to begin.
        size: bytes of the capture in raw.
        big_endian: byte order of the section.
        interfaces: how many the section has described.
    Returns:
        The offset of each block, 64 bits each; the position behind the last.
    Raises:
        ValueError: position or size lie outside raw.
    """

def ring_frames(raw: Buffer, first: int, count: int, columns: Buffer, /) -> bool:
    """Read what the kernel wrote before each frame of a TPACKET_V3 block.

    Args:
        raw: the block.
        first: offset of what stands before the first frame.
        count: n, the number of frames.
        columns: filled with 4 columns of n numbers: nanoseconds since 1970, offset, bytes captured, bytes on the wire.
    Returns:
        False, and no more than that is to be relied on, where the kernel has taken a VLAN tag out of a frame.
    Raises:
        ValueError: the arrays do not fit each other, or a frame does not lie inside raw.
    """

def plain_media(raw: Buffer, starts: Buffer, captured: Buffer, which: Buffer, media: Buffer, /) -> tuple[int, bool]:
    """Find the packets that may be RTP among n Ethernet frames, see `capture.decode.plain`.

    Args:
        raw: the bytes in which they lie.
        starts: n offsets.
        captured: n sizes.
        which: n numbers, filled with the index of the frame of each packet found.
        media: n records of 40 bytes, filled with what stands in each packet found.
    Returns:
        How many were found, and whether all of them are of one stream and one size.
    Raises:
        ValueError: the arrays do not fit each other, or a frame does not lie inside raw.
    """

def sip_heads(raw: Buffer, starts: Buffer, ends: Buffer, columns: Buffer, odd: Buffer, /) -> None:
    """Find what is wanted in the heads of n SIP messages, see `capture.decode.sip_heads`.

    Args:
        raw: the bytes in which they lie.
        starts: n offsets of start lines.
        ends: n offsets behind the messages.
        columns: filled with 14 columns of n offsets and sizes.
        odd: n bytes, filled with 1 where a message must be read one by one, else 0.
    Raises:
        ValueError: the arrays do not fit each other, or a message does not lie inside raw.
    """

def sip_head_lines(raw: bytes, /) -> tuple[str, tuple[tuple[str, str], ...], int, int] | None:
    """Cut the head of one SIP message into its lines and these into names and values.

    Returns:
        The start line; (name, value) of each header; what Content-Length says, -1 where there is none; where the body
        begins. None where a line is not written as usual (folded, a blank before the colon, no header at all), where
        Content-Length is no number or comes twice, or where no empty line ends the head.
    """

def distinct(raw: Buffer, starts: Buffer, sizes: Buffer, numbers: Buffer, /) -> list[bytes]:
    """Number n texts by their values.

    Args:
        raw: the bytes in which they lie.
        starts: n offsets.
        sizes: n sizes.
        numbers: n numbers of 32 bits, filled with the number of each text's value.
    Returns:
        The values, by their numbers: in the order in which they come first.
    Raises:
        ValueError: the arrays do not fit each other, or a text does not lie inside raw.
    """
