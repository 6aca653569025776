"""How phones of the made-up network call each other, and what becomes of their voices."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.practice.cable import Said
from labkit.practice.core import APP_SERVER, ICSCF, MEDIA, MEDIA_V6, MS, Core, Place, server_name
from labkit.practice.registering import Phone
from labkit.practice.truth import End, Media
from labkit.practice.words import REALM, Exchange, audio, phone_headers, routes
from labkit.wire import cx

_SILENCE = b"\xd5" * 160
"""20 ms of G.711 A-law without a sound."""
_PACKET_MS = 20
_PCMA = 8


@dataclass(frozen=True, slots=True)
class Voice:
    """What a call's media are like."""

    seconds: float
    """From the answer to the BYE."""
    caller_port: int
    """Where the caller wants its audio; the media gateway's ports are this plus 20000 and 20002."""
    called_port: int
    """Where the called phone wants its audio."""
    fate: str = ""
    """Empty, or "one_way" (nothing comes from the called phone), "held" (the caller puts the call on hold halfway),
    "lossy" (the called phone's packets get lost on the way to the gateway)."""


class _Leg:
    """One Call-ID: who speaks in it, and along which nodes."""

    def __init__(self, core: Core, caller: Phone, called: Phone, icid: str) -> None:
        self.core = core
        self.caller, self.called, self.icid = caller, called, icid
        self.call_id, self.from_tag, self.to_tag = core.token(18), core.token(6), core.token(6)
        self.cseq = 0

    def exchange(self, method: str, uri: str, *, headers: str = "", body: str = "", new: bool = True) -> Exchange:
        """The next request of the caller; ACK has the number of its INVITE."""
        self.cseq += new
        tag = self.to_tag if method != "INVITE" or self.cseq > 1 else ""
        return Exchange(
            *(method, uri, self.call_id, self.cseq, self.caller.user, self.called.user, self.from_tag, tag),
            headers=headers,
            body=body,
        )

    def reversed_exchange(self, method: str, uri: str) -> Exchange:
        """A request of the called side, with a count of its own."""
        names = (self.called.user, self.caller.user, self.to_tag, self.from_tag)
        return Exchange(method, uri, self.call_id, 1, *names)


class Call:
    """A call from one phone to another, with an application server in its way where `served` says so."""

    def __init__(self, core: Core, caller: Phone, called: Phone, voice: Voice, *, served: bool = False) -> None:
        self._core, self._caller, self._called, self._voice = core, caller, called, voice
        icid = core.token(16)
        self._first = _Leg(core, caller, called, icid)
        self._last = _Leg(core, caller, called, icid) if served else self._first
        self._served = served
        self.call_id = self._first.call_id
        """Call-ID as the caller knows it."""

    def run(self, time_ns: int, *, busy: bool = False) -> int:
        """Let it happen; gives the time at which it is over."""
        time_ns = self._invite(time_ns, busy)
        if busy:
            return time_ns
        time_ns = self._in_dialog(time_ns, "ACK", new=False)
        voice, end_ns = self._voice, time_ns + int(self._voice.seconds * 1000) * MS
        hold_ns = (time_ns + end_ns) // 2 if voice.fate == "held" else end_ns
        self._talk(time_ns, end_ns, hold_ns)
        if voice.fate == "held":
            self._hold(hold_ns)
        return self._bye(end_ns + 5 * MS)

    # ------------------------------------------------------------ signalling

    def _paths(self) -> tuple[list[Place], list[Place]]:
        """From the caller to where its leg ends, and from where the last leg begins to the I-CSCF."""
        to_scscf = [self._caller.place, self._caller.sbc, self._caller.scscf]
        if self._served:
            return [*to_scscf, APP_SERVER], [APP_SERVER, self._caller.scscf, ICSCF]
        return [*to_scscf, ICSCF], []

    def _inwards(self) -> list[Place]:
        return [ICSCF, self._called.scscf, self._called.sbc, self._called.place]

    def _invite(self, time_ns: int, busy: bool) -> int:
        core, voice = self._core, self._voice
        first_path, second_path = self._paths()
        offer = audio(self._caller.place.access.address, voice.caller_port, 1)
        first = self._first.exchange("INVITE", self._called.public, headers=self._from_phone(), body=offer)
        time_ns = core.forward(time_ns, first_path[:2], first)
        core.answer_here(time_ns - 200_000, first_path[1], first_path[0], first, 100)
        first.headers += self._charging() + routes("Record-Route", [f"sbc.{REALM}"])
        first.body = audio(MEDIA, voice.caller_port + 20002, 1)
        time_ns = core.forward(time_ns, first_path[1:], first)
        last, last_path = first, [*first_path, *self._inwards()[1:]]
        if self._served:
            last = self._last.exchange("INVITE", self._called.public, headers=first.headers, body=first.body)
            time_ns = core.forward(time_ns, second_path, last)
            last_path = [*second_path, *self._inwards()[1:]]
        time_ns = self._located(time_ns)
        inwards = self._inwards()
        time_ns = core.forward(time_ns, inwards[:3], last)
        last.body = audio(self._gateway(self._called), voice.caller_port + 20002, 1)
        time_ns = core.forward(time_ns, inwards[2:], last)
        return self._answer(time_ns, (first, first_path), (last, last_path), busy)

    def _answer(
        self, time_ns: int, first: tuple[Exchange, list[Place]], last: tuple[Exchange, list[Place]], busy: bool
    ) -> int:
        core, voice = self._core, self._voice
        ringing = [self._copy(first[0]), self._copy(last[0])] if self._served else [self._copy(last[0])]
        if busy:
            time_ns = self._back(time_ns + core.delay_ns(30, 90), 486, first, last, "", "")
            return self._not_taken(time_ns)
        there = [(ringing[0], first[1]), (ringing[-1], last[1])]
        time_ns = self._back(time_ns + core.delay_ns(30, 90), 180, there[0], there[1], "", "")
        time_ns += core.delay_ns(300, 900)
        answer = audio(self._called.place.access.address, voice.called_port, 1)
        return self._back(time_ns, 200, first, last, answer, audio(MEDIA, voice.caller_port + 20000, 1))

    def _back(
        self,
        time_ns: int,
        status: int,
        first: tuple[Exchange, list[Place]],
        last: tuple[Exchange, list[Place]],
        answer: str,
        gateway_answer: str,
    ) -> int:
        """Send a response all the way back; the SBC at the called side puts the gateway into the SDP."""
        core, contact = self._core, f"Contact: <sip:{self._called.contact}>\r\n"
        exchange, path = last
        tag = self._last.to_tag
        time_ns = core.respond(time_ns, path[-2:], exchange, status, tag, headers=contact, body=answer)
        if self._served:
            time_ns = core.respond(time_ns, path[:-1], exchange, status, tag, headers=contact, body=gateway_answer)
            exchange, path = first
            tag = self._first.to_tag
            time_ns = core.respond(time_ns, path[1:], exchange, status, tag, headers=contact, body=gateway_answer)
        else:
            time_ns = core.respond(time_ns, path[1:-1], exchange, status, tag, headers=contact, body=gateway_answer)
        body = gateway_answer.replace(f"IP4 {MEDIA}", self._family(self._caller)) if gateway_answer else ""
        return core.respond(time_ns, path[:2], exchange, status, tag, headers=contact, body=body)

    def _not_taken(self, time_ns: int) -> int:
        """ACK of a refusal goes hop by hop (RFC 3261 section 17.1.1.3); here only the phone's is seen."""
        exchange = self._first.exchange("ACK", self._called.public, new=False)
        exchange.to_tag = self._first.to_tag
        return self._core.forward(time_ns, [self._caller.place, self._caller.sbc], exchange)

    def _in_dialog(self, time_ns: int, method: str, *, new: bool = True, body: str = "", answer: str = "") -> int:
        """A request of the caller inside the call, on each leg; answered where it is no ACK."""
        for leg, path in self._dialog_paths():
            exchange = leg.exchange(method, f"sip:{self._called.contact}", new=new, body=body)
            exchange.to_tag = leg.to_tag
            time_ns = self._core.forward(time_ns, path, exchange)
            if method != "ACK":
                time_ns = self._core.respond(time_ns, path, exchange, 200, body=answer)
        return time_ns

    def _dialog_paths(self) -> list[tuple[_Leg, list[Place]]]:
        outwards = [self._caller.place, self._caller.sbc, self._caller.scscf]
        inwards = [self._called.scscf, self._called.sbc, self._called.place]
        if not self._served:
            return [(self._first, _without_repeats([*outwards, *inwards]))]
        return [
            (self._first, [*outwards, APP_SERVER]),
            (self._last, _without_repeats([APP_SERVER, self._caller.scscf, *inwards])),
        ]

    def _bye(self, time_ns: int) -> int:
        if self._served or self._caller.number % 3:
            return self._in_dialog(time_ns, "BYE")
        [(leg, path)] = self._dialog_paths()
        exchange = leg.reversed_exchange("BYE", f"sip:{self._caller.contact}")
        time_ns = self._core.forward(time_ns, path[::-1], exchange)
        return self._core.respond(time_ns, path[::-1], exchange, 200)

    def _hold(self, time_ns: int) -> None:
        port = self._voice.caller_port
        offer = audio(self._caller.place.access.address, port, 2, "sendonly")
        answer = audio(MEDIA, port + 20000, 2, "recvonly")
        time_ns = self._in_dialog(time_ns, "INVITE", body=offer, answer=answer)
        self._in_dialog(time_ns, "ACK", new=False)

    def _located(self, time_ns: int) -> int:
        hss = self._called.hss
        request = cx.lir(self._core.envelope(ICSCF, hss), public_identity=self._called.public)
        host = request.find("Destination-Host")
        name = server_name(self._called.scscf)
        answer = cx.lia(request, str(host.value) if host else "", REALM, cx.SUCCESS, server_name=name)
        return self._core.ask(time_ns, ICSCF, hss, request, answer, self._core.delay_ns(1.5, 4))

    def _from_phone(self) -> str:
        return phone_headers(self._caller.contact, self._caller.number) + "Session-Expires: 1800\r\n"

    def _charging(self) -> str:
        return f"P-Charging-Vector: icid-value={self._first.icid};icid-generated-at=192.0.2.5\r\n"

    @staticmethod
    def _copy(exchange: Exchange) -> Exchange:
        """The same request with Vias of its own, for a response takes them off."""
        fields = (exchange.method, exchange.uri, exchange.call_id, exchange.cseq, exchange.caller, exchange.called)
        copy = Exchange(*fields, exchange.from_tag)
        copy.branches, copy.vias = list(exchange.branches), list(exchange.vias)
        return copy

    # ------------------------------------------------------------ media

    def _gateway(self, phone: Phone) -> str:
        return MEDIA_V6 if ":" in phone.place.access.address else MEDIA

    def _family(self, phone: Phone) -> str:
        gateway = self._gateway(phone)
        return f"IP6 {gateway}" if ":" in gateway else f"IP4 {gateway}"

    def _talk(self, begin_ns: int, end_ns: int, hold_ns: int) -> None:
        """Four streams: from each phone to the gateway, and on to the other phone."""
        voice = self._voice
        caller = End(self._caller.place.access.address, voice.caller_port)
        called = End(self._called.place.access.address, voice.called_port)
        near = End(self._gateway(self._caller), voice.caller_port + 20000)
        far = End(self._gateway(self._called), voice.caller_port + 20002)
        count = max(1, (end_ns - begin_ns) // (_PACKET_MS * MS))
        self._relayed(begin_ns, (caller, near), (far, called), count, 0.0)
        heard = max(1, (hold_ns - begin_ns) // (_PACKET_MS * MS))
        if voice.fate != "one_way":
            lost = 0.08 if voice.fate == "lossy" else 0.0
            self._relayed(begin_ns + 7 * MS, (called, far), (near, caller), heard, lost)

    def _relayed(self, begin_ns: int, to: tuple[End, End], on: tuple[End, End], count: int, lost: float) -> None:
        """A stream to the gateway and on; what is lost before the gateway is seen nowhere."""
        chance, said = self._core.chance, self._core.said
        ssrc, sequence, clock = chance.getrandbits(32), chance.getrandbits(16), chance.getrandbits(32)
        for at in range(count):
            if lost and chance.random() < lost:
                continue
            place = ((sequence + at) & 0xFFFF, (clock + 160 * at) & 0xFFFFFFFF)
            raw = struct.pack(">BBHII", 0x80, _PCMA | (at == 0) << 7, *place, ssrc) + _SILENCE
            meaning = Media(_PCMA, *place, ssrc, at == 0)
            time_ns = begin_ns + at * _PACKET_MS * MS + int(chance.random() * 1.5 * MS)
            said.append(Said(time_ns, *to, "udp", raw, meaning))
            said.append(Said(time_ns + 250_000, *on, "udp", raw, meaning))


def _without_repeats(path: Sequence[Place]) -> list[Place]:
    """A path on which no node sends to itself."""
    return [place for at, place in enumerate(path) if not at or place is not path[at - 1]]
