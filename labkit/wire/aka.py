"""How a SIM proves who it is: Milenage, AUTN, AUTS, and the SIP digest that carries them.

Theory in four steps:

1. Network and SIM share a secret key K. From K, an operator constant OPc and a random RAND both sides
   compute the same five values with Milenage (TS 35.206): MAC, RES, CK, IK, AK.
2. The network sends RAND and AUTN = (SQN xor AK) || AMF || MAC. The SIM checks the MAC, so it knows that the
   network knows K; it checks that SQN is fresh, so that nobody replays an old challenge (TS 33.102, 6.3).
3. When SQN is not fresh, the SIM answers AUTS = (SQN_MS xor AK*) || MAC-S, and the network counts on from
   SQN_MS.
4. In IMS the challenge travels as a SIP digest nonce, base64(RAND || AUTN), and RES is the password
   (RFC 3310).

Sizes: K, OP, OPc, RAND, CK, IK, AUTN 16 bytes; RES 8; SQN and AK 6; AMF 2; MAC 8; AUTS 14.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from labkit.errors import AkaError
from labkit.wire.digest import AuthParams, digest_ha1, digest_response, parse_auth

__all__ = [
    "AUTS_AMF",
    "IND_BITS",
    "SQN_DELTA",
    "SQN_LIMIT",
    "AuthParams",
    "AuthVector",
    "Milenage",
    "UsimAnswer",
    "answer_challenge",
    "build_auts",
    "build_nonce",
    "digest_ha1",
    "digest_response",
    "next_sqn",
    "opc_from_op",
    "open_autn",
    "open_auts",
    "parse_auth",
    "split_nonce",
]

SQN_LIMIT = 1 << 48
"""SQN is a 48 bit counter."""

IND_BITS = 5
"""The lowest bits of SQN are an index, the rest is the sequence number SEQ (TS 33.102 annex C.1.1.1)."""

SQN_DELTA = 1 << 33
"""How far SQN may jump before a SIM takes it for an attack: 2^28 steps of SEQ (TS 33.102 annex C.2.1)."""

AUTS_AMF = b"\x00\x00"
"""AMF that goes into MAC-S, whatever the AMF of the challenge was (TS 33.102 section 6.3.3)."""

_LOW128 = (1 << 128) - 1
_C2_C3_C4 = 1 << 256 | 2 << 128 | 4
"""The constants of OUT2, OUT3 and OUT4 side by side (TS 35.206 section 4.1)."""


def _need(value: bytes, size_bytes: int, name: str) -> bytes:
    if len(value) != size_bytes:
        raise AkaError(f"{name} has {len(value)} bytes and needs {size_bytes}", field=name, spec="TS 33.102")
    return value


def _rotate_left(block: int, bits: int) -> int:
    return ((block << bits) | (block >> (128 - bits))) & _LOW128


def opc_from_op(k: bytes, op: bytes) -> bytes:
    """Derive a subscriber's OPc from the operator's OP.

    Args:
        k: 16 bytes, the subscriber's secret key.
        op: 16 bytes, the operator's constant.
    Returns:
        16 bytes OPc = E_K(OP) xor OP.
    Raises:
        AkaError: a value has the wrong size.
    Spec:
        TS 35.206 section 4.1
    """
    block = _need(op, 16, "OP")
    cipher = Cipher(algorithms.AES(_need(k, 16, "K")), modes.ECB()).encryptor()
    return (int.from_bytes(cipher.update(block), "big") ^ int.from_bytes(block, "big")).to_bytes(16, "big")


class AuthVector(NamedTuple):
    """What an HSS hands out for one authentication (TS 33.102 section 6.3.2)."""

    rand: bytes
    """16 bytes, the challenge."""
    xres: bytes
    """8 bytes, the answer that the SIM should give."""
    ck: bytes
    """16 bytes, the cipher key."""
    ik: bytes
    """16 bytes, the integrity key."""
    autn: bytes
    """16 bytes, the network's own proof."""


class Milenage:
    """The seven functions of TS 35.206 for one subscriber; holds the AES key schedule, so keep it.

    Example:
        >>> k = bytes.fromhex("465b5ce8b199b49faa5f0a2ee238a6bc")
        >>> opc = bytes.fromhex("cd63cb71954a9f4e48a5994e37a02baf")
        >>> Milenage(k, opc).f2345(bytes.fromhex("23553cbe9637a89d218ae64dae47bf35"))[0].hex()
        'a54211d5e3ba50bf'
    """

    __slots__ = ("_cipher", "_opc", "_opc_four_times", "_opc_rotated", "_vector_constants")

    def __init__(self, k: bytes, opc: bytes) -> None:
        self._opc = int.from_bytes(_need(opc, 16, "OPc"), "big")
        self._opc_rotated = _rotate_left(self._opc, 64)
        self._opc_four_times = int.from_bytes(opc * 4, "big")
        # What `vector` XORs in: OPc off and OPc turned by r1 = 64 on for OUT1, then c2, c3 and c4.
        self._vector_constants = (self._opc ^ self._opc_rotated) << 384 | _C2_C3_C4
        # AES in ECB keeps no state between whole blocks, so one encryptor serves for ever.
        self._cipher = Cipher(algorithms.AES(_need(k, 16, "K")), modes.ECB()).encryptor()

    @classmethod
    def from_op(cls, k: bytes, op: bytes) -> Milenage:
        """Build from the operator's OP instead of OPc."""
        return cls(k, opc_from_op(k, op))

    def _temp(self, rand: bytes) -> int:
        block = int.from_bytes(_need(rand, 16, "RAND"), "big") ^ self._opc
        return int.from_bytes(self._cipher.update(block.to_bytes(16, "big")), "big")

    def _in1(self, temp: int, sqn: int, amf: bytes) -> int:
        """Compute the input block of OUT1 (rotation r1 = 64, constant c1 = 0)."""
        half = sqn << 16 | int.from_bytes(amf, "big")
        # IN1 is the same half twice, so turning it by half its size changes nothing: only OPc is turned.
        return temp ^ (half << 64 | half) ^ self._opc_rotated

    def _out(self, *inputs: int) -> list[int]:
        """Encrypt several input blocks with one AES call, and take OPc off each."""
        joined = b"".join([block.to_bytes(16, "big") for block in inputs])
        raw = self._cipher.update(joined)
        opc = self._opc
        return [int.from_bytes(raw[at : at + 16], "big") ^ opc for at in range(0, len(raw), 16)]

    def _out1(self, rand: bytes, sqn: int, amf: bytes) -> int:
        if not 0 <= sqn < SQN_LIMIT:
            raise AkaError(f"SQN {sqn} does not fit 48 bits", field="SQN", spec="TS 33.102 section 6.3.2")
        return self._out(self._in1(self._temp(rand), sqn, _need(amf, 2, "AMF")))[0]

    def f1(self, rand: bytes, sqn: int, amf: bytes) -> bytes:
        """Compute MAC-A, the network's proof: 8 bytes."""
        return self._out1(rand, sqn, amf).to_bytes(16, "big")[:8]

    def f1_star(self, rand: bytes, sqn: int, amf: bytes = AUTS_AMF) -> bytes:
        """Compute MAC-S, the SIM's proof inside AUTS: 8 bytes."""
        return self._out1(rand, sqn, amf).to_bytes(16, "big")[8:]

    def f2345(self, rand: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        """Compute RES (8 bytes), CK (16), IK (16) and AK (6) of one challenge."""
        masked = self._temp(rand) ^ self._opc
        out2, out3, out4 = self._out(masked ^ 1, _rotate_left(masked, 32) ^ 2, _rotate_left(masked, 64) ^ 4)
        block = out2.to_bytes(16, "big")
        return block[8:], out3.to_bytes(16, "big"), out4.to_bytes(16, "big"), block[:6]

    def open(self, rand: bytes, autn: bytes) -> tuple[int, bytes, bytes, bytes, bytes]:
        """Do the SIM's whole work on a challenge: SQN, the MAC that AUTN should hold, RES, CK and IK."""
        opc, encrypt = self._opc, self._cipher.update
        block = (int.from_bytes(_need(rand, 16, "RAND"), "big") ^ opc).to_bytes(16, "big")
        temp = int.from_bytes(encrypt(block), "big")
        # Blocks 2 to 4 as in `vector`; the first one needs SQN, which AK, out of the second one, hides.
        turned = (temp ^ opc).to_bytes(16, "big")
        turned = b"".join((turned, turned[4:], turned[:4], turned[8:], turned[:8]))
        blocks = int.from_bytes(turned, "big") ^ _C2_C3_C4
        encrypted = int.from_bytes(encrypt(blocks.to_bytes(48, "big")), "big")
        raw = (encrypted ^ (self._opc_four_times >> 128)).to_bytes(48, "big")
        sqn = int.from_bytes(autn[:6], "big") ^ int.from_bytes(raw[:6], "big")
        out1 = int.from_bytes(encrypt(self._in1(temp, sqn, autn[6:8]).to_bytes(16, "big")), "big") ^ opc
        return sqn, out1.to_bytes(16, "big")[:8], raw[8:16], raw[16:32], raw[32:]

    def f5_star(self, rand: bytes) -> bytes:
        """Compute AK*, which hides SQN_MS inside AUTS: 6 bytes."""
        masked = self._temp(rand) ^ self._opc
        return self._out(_rotate_left(masked, 96) ^ 8)[0].to_bytes(16, "big")[:6]

    def vector(self, rand: bytes, sqn: int, amf: bytes) -> AuthVector:
        """Build the authentication vector of one challenge, the HSS's work.

        Args:
            rand: 16 random bytes.
            sqn: the sequence number, 48 bits.
            amf: 2 bytes.
        Raises:
            AkaError: a value has the wrong size.
        Spec:
            TS 33.102 section 6.3.2
        """
        if not 0 <= sqn < SQN_LIMIT:
            raise AkaError(f"SQN {sqn} does not fit 48 bits", field="SQN", spec="TS 33.102 section 6.3.2")
        opc, encrypt = self._opc, self._cipher.update
        block = (int.from_bytes(_need(rand, 16, "RAND"), "big") ^ opc).to_bytes(16, "big")
        # TEMP XOR OPc, turned left by r2 = 0, r3 = 32 and r4 = 64 bits for OUT2, OUT3 and OUT4.
        turned = (int.from_bytes(encrypt(block), "big") ^ opc).to_bytes(16, "big")
        turned = b"".join((turned, turned, turned[4:], turned[:4], turned[8:], turned[:8]))
        half = sqn << 16 | int.from_bytes(_need(amf, 2, "AMF"), "big")
        # One AES call for four blocks, and one XOR with OPc for all: many times as fast as block by block.
        blocks = int.from_bytes(turned, "big") ^ self._vector_constants ^ (half << 448 | half << 384)
        encrypted = int.from_bytes(encrypt(blocks.to_bytes(64, "big")), "big")
        # AK are the first 6 bytes of OUT2, and nothing but SQN XOR AK is wanted of it.
        raw = (encrypted ^ self._opc_four_times ^ sqn << 336).to_bytes(64, "big")
        autn = b"".join((raw[16:22], amf, raw[:8]))
        return AuthVector(rand, raw[24:32], raw[32:48], raw[48:], autn)


class UsimAnswer(NamedTuple):
    """What a SIM says to a challenge whose MAC is right (TS 33.102 section 6.3.3)."""

    res: bytes
    """8 bytes, the password of the SIP digest; empty when `auts` is set."""
    ck: bytes
    """16 bytes; empty when `auts` is set."""
    ik: bytes
    """16 bytes; empty when `auts` is set."""
    sqn: int
    """The SQN found in AUTN; keep it as the new SQN_MS when `auts` is empty."""
    auts: bytes
    """14 bytes when the SQN was not fresh, else empty."""


def open_autn(milenage: Milenage, rand: bytes, autn: bytes) -> tuple[int, bytes]:
    """Check the network's proof and read what AUTN hides.

    Args:
        rand: 16 bytes of the challenge.
        autn: 16 bytes of the challenge.
    Returns:
        SQN as a number and AMF, 2 bytes.
    Raises:
        AkaError: the MAC is wrong: the other side does not know K, or RAND or AUTN was changed on the way.
    Spec:
        TS 33.102 section 6.3.3
    """
    return _open_autn(milenage, rand, autn)[0], autn[6:8]


def _open_autn(milenage: Milenage, rand: bytes, autn: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Check AUTN and return SQN, RES, CK and IK: the SIM computes all of them from one RAND anyway."""
    sqn, mac, res, ck, ik = milenage.open(rand, _need(autn, 16, "AUTN"))
    if not hmac.compare_digest(mac, autn[8:]):
        raise AkaError("the MAC in AUTN is wrong: K or OPc differ", field="AUTN", spec="TS 33.102 section 6.3.3")
    return sqn, res, ck, ik


def answer_challenge(milenage: Milenage, rand: bytes, autn: bytes, sqn_ms: int) -> UsimAnswer:
    """Play the SIM: check AUTN, then give RES, CK and IK, or AUTS when SQN is not fresh.

    Args:
        rand: 16 bytes of the challenge.
        autn: 16 bytes of the challenge.
        sqn_ms: the highest SQN that this SIM has accepted so far.
    Raises:
        AkaError: the MAC in AUTN is wrong (a SIM answers "authentication failure").
    Spec:
        TS 33.102 section 6.3.3 and annex C.2
    """
    sqn, res, ck, ik = _open_autn(milenage, rand, autn)
    if not sqn_ms < sqn <= sqn_ms + SQN_DELTA:
        return UsimAnswer(b"", b"", b"", sqn, build_auts(milenage, rand, sqn_ms))
    return UsimAnswer(res, ck, ik, sqn, b"")


def build_auts(milenage: Milenage, rand: bytes, sqn_ms: int) -> bytes:
    """Build the 14 bytes AUTS by which a SIM tells the network its own SQN (TS 33.102 section 6.3.3)."""
    hidden = sqn_ms ^ int.from_bytes(milenage.f5_star(rand), "big")
    return hidden.to_bytes(6, "big") + milenage.f1_star(rand, sqn_ms)


def open_auts(milenage: Milenage, rand: bytes, auts: bytes) -> int:
    """Check AUTS and return SQN_MS, the network's side of a resynchronisation.

    Args:
        rand: 16 bytes of the challenge that the SIM refused.
        auts: 14 bytes from the SIM.
    Raises:
        AkaError: the MAC in AUTS is wrong.
    Spec:
        TS 33.102 section 6.3.5
    """
    _need(auts, 14, "AUTS")
    sqn_ms = int.from_bytes(auts[:6], "big") ^ int.from_bytes(milenage.f5_star(rand), "big")
    if not hmac.compare_digest(milenage.f1_star(rand, sqn_ms), auts[6:]):
        raise AkaError("the MAC in AUTS is wrong", field="AUTS", spec="TS 33.102 section 6.3.5")
    return sqn_ms


def next_sqn(sqn: int) -> int:
    """Count SQN on by one step: SEQ and IND both grow by one (TS 33.102 annex C.1.1.3)."""
    seq = (sqn >> IND_BITS) + 1
    ind = (sqn + 1) & ((1 << IND_BITS) - 1)
    return ((seq << IND_BITS) | ind) % SQN_LIMIT


# --- The challenge as a SIP digest carries it ---


def build_nonce(rand: bytes, autn: bytes, server_bytes: bytes = b"") -> str:
    """Build the digest nonce of AKA, base64(RAND || AUTN || server bytes) (RFC 3310 section 3.2)."""
    return base64.b64encode(_need(rand, 16, "RAND") + _need(autn, 16, "AUTN") + server_bytes).decode("ascii")


def split_nonce(nonce: str) -> tuple[bytes, bytes]:
    """Take RAND and AUTN out of an AKA nonce.

    Returns:
        RAND, 16 bytes, and AUTN, 16 bytes.
    Raises:
        AkaError: the nonce is not base64, or too short.
    Spec:
        RFC 3310 section 3.2
    """
    try:
        raw = base64.b64decode(nonce, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AkaError("the nonce is not base64", field="nonce", spec="RFC 3310 section 3.2") from error
    if len(raw) < 32:
        raise AkaError(
            f"the nonce holds {len(raw)} bytes; RAND and AUTN need 32",
            field="nonce",
            spec="RFC 3310 section 3.2",
        )
    return raw[:16], raw[16:32]
