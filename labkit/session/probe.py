"""A SIP endpoint that does what a cell says: it plays one message at the proxy and tells all that came of it.

Theory. What a proxy does with a message is over when three things are: it has worked on it, it has sent what it sends,
and who was asked has answered. The proxy's one worker takes messages in their order, so a question of the lab's own (an
OPTIONS that never reaches the learner's blocks) that is answered says that everything before it was worked on; the
same question marks where in its log that was. No time is waited for that is not somebody's timer.
"""

from __future__ import annotations

import re
import secrets
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.errors import LessonError, StackError
from labkit.lab.learner.log import LogLine
from labkit.lab.learner.proxy import LearnersProxy
from labkit.lab.probes import question
from labkit.peers.dialog_state import caller_dialog
from labkit.wire.sip import SipMessage, parse_message

if TYPE_CHECKING:
    from labkit.capture.messages import Messages

_ANSWER_S = 5.0
"""A proxy that has not answered the lab's own question for so long does not live."""
_VALUE = re.compile(r"^\s*([^\s=]+)\s*=\s?(.*)$", re.DOTALL)


_OFFER = (
    "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
    "m=audio 49152 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)


@dataclass(frozen=True, slots=True)
class Passed:
    """A message that left the proxy."""

    to: str
    """The node, phone or server that it went to."""
    message: SipMessage

    def __str__(self) -> str:
        message = self.message
        what = message.method if message.is_request else f"{message.status} {message.reason}"
        return f"{what} to {self.to}"


@dataclass(frozen=True, slots=True)
class Played:
    """What came of one message."""

    sent: SipMessage
    """The message as it went to the proxy."""
    replies: tuple[SipMessage, ...]
    """What came back to the probe, in order."""
    sent_on: tuple[Passed, ...]
    """What the proxy sent to others because of it."""
    log: tuple[LogLine, ...] = field(default=())
    """What the proxy logged meanwhile."""

    @property
    def reply(self) -> SipMessage | None:
        """The last that came back: the final response, where there was one."""
        return self.replies[-1] if self.replies else None

    @property
    def values(self) -> dict[str, str]:
        """The lines of the log that say "name=value", as a dictionary; the last one of a name counts."""
        found = (_VALUE.match(line.text) for line in self.log if line.block)
        return {match[1]: match[2] for match in found if match}

    def __repr__(self) -> str:
        def told(message: SipMessage) -> str:
            return message.method if message.is_request else f"{message.status} {message.reason}"

        rows = [("sent", told(self.sent))]
        rows += [("sent on", str(passed)) for passed in self.sent_on] or [("sent on", "nothing")]
        rows += [("came back", told(reply)) for reply in self.replies] or [("came back", "nothing")]
        rows += [("log", str(line)) for line in self.log]
        return "\n".join(f"{what:10} {text}" for what, text in rows)


class Probe:
    """One UDP port from which messages are played at the proxy."""

    def __init__(
        self,
        proxy: LearnersProxy,
        target: tuple[str, int],
        address: tuple[str, int],
        watch: Callable[[], Any],
        read: Callable[[Any, int, int], Messages],
    ) -> None:
        """Take the port.

        Args:
            target: where the proxy takes SIP.
            address: the probe's own address and port.
            watch: gives the sniffer of the lesson, started.
            read: reads what that saw between two marks.
        """
        self._proxy, self._target, self._watch, self._read = proxy, target, watch, read
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._dialog: Any = None
        self._host = f"{address[0]}:{self._socket.getsockname()[1]}"

    @property
    def uri(self) -> str:
        """Where the probe itself can be reached."""
        return f"sip:probe@{self._host}"

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()

    async def stop(self) -> None:
        """Give the port back; as phones and servers are stopped."""
        self.close()

    def send(
        self, message: str | bytes | SipMessage, *, times: int = 1, acknowledge: bool = True, wait_s: float = 2.0
    ) -> Played:
        """Play a message at the proxy and tell what came of it.

        Args:
            message: a text is completed with the headers that every request needs and does not have; bytes and messages
                go as they are.
            times: how often the very same bytes are sent.
            acknowledge: send the ACK that a final response to an INVITE needs (RFC 3261 sections 13.2.2.4, 17.1.1.3).
            wait_s: how long to wait for a final response, where the proxy has asked somebody or said that it tries; and
                for a block that takes longer than the usual 5 s.
        Returns:
            The replies, what the proxy sent on, and what it logged.
        Raises:
            LessonError: the text is no SIP message.
            StackError: the proxy does not live.
        """
        raw, sent = self._ready(message)
        sniffer = self._watch()
        first, begin = self._ask(), sniffer.mark()
        self._seen(sniffer, begin)  # what it imports the first time must not delay an ACK later
        self._drain()
        for _ in range(times):
            self._socket.sendto(raw, self._target)
        self._ask(wait_s)
        final = self._await_final(sent, wait_s, lambda: self._seen(sniffer, begin))
        if final is not None and sent.method == "INVITE" and acknowledge:
            self._socket.sendto(self._ack(sent, final).to_bytes(), self._target)
        last = self._ask(wait_s)
        seen = self._seen(sniffer, begin)
        replies = tuple(passed.message for passed in seen if passed.to == "probe")
        log = tuple(self._proxy.log_between(first, last))
        return Played(sent, replies, tuple(passed for passed in seen if passed.to != "probe"), log)

    def hang_up(self) -> Played:
        """End the call that the last INVITE has made: a BYE along its recorded route (RFC 3261 section 12.2.1.1).

        Raises:
            LessonError: there is none.
        """
        if self._dialog is None:
            raise LessonError("No call was set up by this probe: an INVITE has to be answered with 200 first.")
        dialog, self._dialog = self._dialog.next_request(), None
        return self.send(self._in_dialog("BYE", dialog, dialog.local_cseq))

    # ---- messages ---------------------------------------------------------------------------------------------------
    def _ready(self, message: str | bytes | SipMessage) -> tuple[bytes, SipMessage]:
        if isinstance(message, bytes):
            try:
                return message, parse_message(message)
            except Exception:
                return message, SipMessage.request("?", "?", ())
        if isinstance(message, SipMessage):
            return message.to_bytes(), message
        sent = completed(message, self._host)
        return sent.to_bytes(), sent

    def _ack(self, invite: SipMessage, final: SipMessage) -> SipMessage:
        if final.status < 300:
            self._dialog = caller_dialog(invite, final)
            return self._in_dialog("ACK", self._dialog, invite.cseq or 1)
        kept = [
            header for header in invite.headers if header[0].lower() in ("max-forwards", "from", "call-id", "route")
        ]
        via = [("Via", (invite.lines("via") or ("",))[0])]
        last = [("To", final.header("to") or ""), ("CSeq", f"{invite.cseq} ACK")]
        return SipMessage.request("ACK", invite.request_uri, [*via, *kept, *last])

    def _in_dialog(self, method: str, dialog: Any, cseq: int) -> SipMessage:
        uri, routes = dialog.request_line
        headers = [("Via", _via(self._host)), ("Max-Forwards", "70"), *(("Route", route) for route in routes)]
        headers += [("From", dialog.local), ("To", dialog.remote), ("Call-ID", dialog.call_id)]
        return SipMessage.request(method, uri, [*headers, ("CSeq", f"{cseq} {method}")])

    # ---- waiting ----------------------------------------------------------------------------------------------------
    def _ask(self, wait_s: float = 0.0) -> str:
        """Ask the proxy whether it lives; return the Call-ID of the question that it has answered."""
        patience_s, token = max(wait_s, _ANSWER_S), secrets.token_hex(8)
        deadline = time.monotonic() + patience_s
        uri = f"sip:{self._target[0]}:{self._target[1]}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.bind((self._host.rpartition(":")[0], 0))
            asking.connect(self._target)
            here, port = asking.getsockname()
            while time.monotonic() < deadline:
                try:
                    asking.send(question("OPTIONS", uri, here, port, token))  # again: a datagram may get lost
                    if select.select([asking], [], [], 1.0)[0] and token.encode() in asking.recv(65535):
                        return f"ready-{token}"
                except ConnectionRefusedError:
                    raise StackError(
                        "The proxy does not run: its last start was refused. Start a block that works, or the plain "
                        "proxy with lab.proxy.restore()."
                    ) from None
        raise StackError(
            f"The proxy has not answered the lab's own question for {patience_s:.0f} s: its block is still at work. "
            "Start another block, or wait longer (wait_s)."
        )

    def _await_final(self, sent: SipMessage, wait_s: float, seen: Callable[[], list[Passed]]) -> SipMessage | None:
        """Wait for the final response; not at all where none can come, because the proxy did nothing."""
        if not sent.is_request or sent.method in ("ACK", "?"):
            return None
        deadline = time.monotonic() + wait_s
        looked = False
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], 0.0 if not looked else left)[0]:
                if not looked and not seen():
                    return None
                looked = True
                continue
            message = parse_message(self._socket.recv(65535))
            if message.status >= 200 and message.branch == sent.branch:
                return message
        return None

    def _drain(self) -> None:
        while select.select([self._socket], [], [], 0)[0]:
            self._socket.recv(65535)

    def _seen(self, sniffer: Any, begin: int) -> list[Passed]:
        """What has left the proxy since `begin`."""
        messages = self._read(sniffer, begin, sniffer.mark())
        table = messages.table
        found = []
        for row in table.index[(table["protocol"] == "sip") & (table["src_node"] == "proxy")]:
            found.append(Passed(str(table.at[row, "dst_node"]), parse_message(messages.raw[int(row)])))
        return found


def completed(text: str, host: str) -> SipMessage:
    """A SIP message from what somebody typed: what every request needs and this has not is added.

    The first Via is always the probe's own: the answer has to come back (RFC 3261 section 18.2.2).
    An INVITE without a body gets an offer, as a phone's has one (RFC 3264): without, its ACK would need the answer.

    Args:
        host: address and port for Via, From and Contact.
    Raises:
        LessonError: it does not begin with a request line, or a header has no colon.
    """
    head, _, body = text.strip("\n").replace("\r\n", "\n").partition("\n\n")
    first, *lines = [line.strip() for line in head.strip().splitlines()] or [""]
    words = first.split()
    if len(words) == 2:
        words.append("SIP/2.0")
    if len(words) != 3 or words[2] != "SIP/2.0" or ":" not in words[1]:
        raise LessonError(f"{first!r} is no request line; write for example 'OPTIONS sip:bob@example.org SIP/2.0'.")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or " " in name.strip():
            raise LessonError(f"{line!r} is no header; write NAME: VALUE.")
        headers.append((name.strip(), value.strip()))
    method, uri = words[0], words[1]
    given = SipMessage(method, uri, 0, "", tuple(headers), b"")
    needed = [
        ("Via", _via(host)),
        ("Max-Forwards", "70"),
        ("From", f"<sip:probe@{host}>;tag={secrets.token_hex(4)}"),
        ("To", f"<{uri}>"),
        ("Call-ID", f"probe-{secrets.token_hex(8)}"),
        ("CSeq", f"1 {method}"),
        *((("Contact", f"<sip:probe@{host}>"),) if method in ("INVITE", "SUBSCRIBE") else ()),
    ]
    content = body.replace("\n", "\r\n").encode("utf-8", "surrogateescape")
    if method == "INVITE" and not content:
        content = _OFFER.format(address=host.rpartition(":")[0]).encode()
        needed.append(("Content-Type", "application/sdp"))
    added = [(name, value) for name, value in needed if name == "Via" or given.header(name) is None]
    if given.header("content-length") is not None:
        return SipMessage(method, uri, 0, "", (*added, *headers), content)
    return SipMessage.request(method, uri, [*added, *headers], content)


def _via(host: str) -> str:
    return f"SIP/2.0/UDP {host};branch=z9hG4bK{secrets.token_hex(8)};rport"
