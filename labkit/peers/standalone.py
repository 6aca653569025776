"""A phone's requests outside of every dialog, and the way that they take (RFC 3261 section 8.1, TS 24.229 5.1.2A)."""

from __future__ import annotations

import secrets

from labkit.errors import AkaError
from labkit.peers.agent import Agent
from labkit.peers.credentials import Credentials
from labkit.peers.failure import refused
from labkit.peers.registration import Registration
from labkit.peers.transport import Endpoint
from labkit.wire.sip import SipMessage, parse_message


class Standalone:
    """Sends requests that begin something, or stand for themselves; proves who the phone is if asked to."""

    def __init__(self, agent: Agent, credentials: Credentials, registration: Registration) -> None:
        self._agent = agent
        self._credentials = credentials
        self._registration = registration

    def routes(self) -> tuple[str, ...]:
        """Route of a request outside of dialogs: the P-CSCF, then the Service-Route (TS 24.229 section 5.1.2A.1.1)."""
        proxy = self._agent.proxy
        if proxy is None or not self._registration.active:
            return ()
        kind = "" if self._agent.transport_name == "UDP" else ";transport=tcp"
        return (f"<sip:{hostport(proxy)}{kind};lr>", *self._registration.granted.service_route)

    def first_hop(self, uri: str, routes: tuple[str, ...]) -> Endpoint:
        """Where such a request goes: to the P-CSCF, or for a phone without one where its Route or URI says."""
        return self._agent.proxy or self._agent.next_hop(uri, routes)

    async def ask(
        self,
        method: str,
        uri: str,
        identity: str,
        headers: tuple[str, ...] = (),
        content_type: str = "",
        body: bytes = b"",
        *,
        direct: bool = False,
        call_id: str = "",
        tag: str = "",
    ) -> tuple[SipMessage, SipMessage]:
        """Send a request, once more with a proof if it is challenged, and return it with its 2xx.

        Args:
            identity: public identity for From.
            headers: whole header lines beyond those that every request has.
            direct: leave out the Route, for a request to the P-CSCF itself.
            call_id: Call-ID, by default a new one.
            tag: tag of From, by default a new one.
        Raises:
            CallFailed: it was refused, or got no answer.
        """
        routes = () if direct else self.routes()
        lines = (*(f"Route: {route}" for route in routes), *headers)
        call_id, tag = call_id or secrets.token_hex(10), tag or secrets.token_hex(4)
        where = self.first_hop(uri, routes)
        for cseq in (1, 2):
            branch = self._agent.new_branch()
            raw = self._agent.compose(
                method,
                uri,
                from_=f"<{identity}>;tag={tag}",
                to=f"<{uri}>",
                call_id=call_id,
                cseq=cseq,
                branch=branch,
                headers=lines,
                content_type=content_type,
                body=body,
            )
            response = await self._agent.request(raw, branch, method, where)
            if response.status < 300:
                return parse_message(raw), response
            proof = self._proof(response, method, uri) if cseq == 1 else None
            if proof is None:
                break
            lines = (*lines, proof)
        raise refused(parse_message(raw), response)

    def _proof(self, response: SipMessage, method: str, uri: str) -> str | None:
        """The header line that answers a 401 or 407, None when that is not possible."""
        ours, theirs = ("Authorization", "WWW-Authenticate")
        if response.status == 407:
            ours, theirs = ("Proxy-Authorization", "Proxy-Authenticate")
        challenge = response.header(theirs) if response.status in (401, 407) else None
        if challenge is None:
            return None
        try:
            return f"{ours}: {self._credentials.reply(challenge, method, uri).header}"
        except AkaError:
            return None


def hostport(endpoint: Endpoint) -> str:
    """An endpoint as it stands in a URI."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
