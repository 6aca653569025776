"""What a phone checks of every request first, and what it says about itself (RFC 3261 sections 8.2 and 11)."""

from __future__ import annotations

from typing import Final, Protocol

from labkit.errors import SipError
from labkit.peers.transaction import ServerTransaction
from labkit.wire.sip import VERSION, parse_uri, problems

ALLOW: Final = "INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE, UPDATE, INFO, NOTIFY, PRACK"
"""Methods that a phone serves; it says so in Allow."""
SUPPORTED: Final = ("path",)
"""Extensions that every phone understands when somebody requires them."""
EVENTS: Final = ("reg",)
"""Event packages that a phone subscribes to (RFC 6665)."""
_OTHER_METHODS = frozenset({"REGISTER", "SUBSCRIBE", "PUBLISH", "REFER"})


class Capabilities(Protocol):
    """What an agent says about itself."""

    allow: str
    """Methods that it serves."""
    body_types: tuple[str, ...]
    """Media types that it takes."""
    info_packages: tuple[str, ...]
    """Info packages that it takes."""
    extensions: tuple[str, ...]
    """Option tags of the extensions that it uses where the other side does, too."""


def is_acceptable(transaction: ServerTransaction, agent: Capabilities) -> bool:
    """Whether a request passes the checks of RFC 3261 section 8.2; if not, it has been refused."""
    request = transaction.request
    wrong = problems(request)
    required = tuple(tag for tag in request.all("require") if tag.lower() not in (*SUPPORTED, *agent.extensions))
    encoding = request.all("content-encoding")
    if request.version.upper() != VERSION:
        transaction.respond(505)
    elif wrong:
        transaction.respond(400, reason=phrase(wrong[0]))
    elif request.method not in agent.allow.split(", "):
        transaction.respond(405 if request.method in _OTHER_METHODS else 501, ("Allow", agent.allow))
    elif not _is_readable_uri(request.request_uri):
        transaction.respond(400, reason="Unreadable Request-URI")
    elif parse_uri(request.request_uri).scheme not in ("sip", "sips", "tel"):
        transaction.respond(416)
    elif required:
        transaction.respond(420, ("Unsupported", ", ".join(required)))
    elif request.body and encoding and any(one.lower() != "identity" for one in encoding):
        transaction.respond(415, ("Accept-Encoding", "identity"))
    else:
        return True
    return False


def answer_options(transaction: ServerTransaction, agent: Capabilities) -> None:
    """Tell what the phone can do (RFC 3261 section 11.2)."""
    packages = (("Recv-Info", ", ".join(agent.info_packages)),) if agent.info_packages else ()
    transaction.respond(
        200,
        ("Allow", agent.allow),
        ("Accept", ", ".join(agent.body_types)),
        ("Supported", ", ".join((*SUPPORTED, *agent.extensions))),
        ("Allow-Events", ", ".join(EVENTS)),
        *packages,
    )


def _is_readable_uri(uri: str) -> bool:
    try:
        parse_uri(uri)
    except SipError:
        return False
    return True


def phrase(text: str) -> str:
    """A reason phrase of one line."""
    return "".join(character if character.isprintable() else "?" for character in text)[:120]
