"""Every exception that labkit raises on purpose, in one tree.

    LabkitError
    |-- ProtocolError           bytes that break a specification; says offset, field, spec
    |   |-- SipError
    |   |-- DiameterError
    |   |-- SdpError
    |   |-- AkaError
    |   |-- SmsError
    |   |-- RpcError
    |   `-- XmlError
    |-- CallFailed              a peer said no: carries status, reason, Warning and the message
    |-- StackError              something of the lab does not run as it should
    |   |-- DockerNotRunning
    |   |-- EngineMissing       an engine that was asked for is not to be had here
    |   |-- NodeNotReady        what was awaited, how long, the node's state, its last log lines, a hint
    |   |-- PortBusy
    |   |-- TopologyError       docker/lab.toml says something that cannot be
    |   |-- BlockRefused        a learner's routing block does not start; says line and column of the learner's text
    |   |-- ChargingEngineGone  CGrateS closed the connection or does not answer
    |   `-- DatabaseGone        PostgreSQL does not take or keep a connection
    |-- ChargingError           CGrateS said no: carries its own words and the call
    |   |-- ChargingNotFound    what was asked for is not there
    |   |-- NoCharger           no charger profile fits: nothing is rated
    |   |-- AccountNotFound
    |   |-- AccountDisabled
    |   |-- NoPrice             no price for the destination at that time
    |   |-- NoRatingPlan        no rating profile for category and subject
    |   |-- ChargingStoreGone   the engine does not reach its database
    |   |-- DuplicateCdr        this call has been charged already
    |   `-- BadChargingRequest  a parameter is missing or wrong; some never reach the engine
    |-- DatabaseError           PostgreSQL said no to a query: carries its code
    |-- CaptureError            packets cannot be had, or a file is no capture
    |-- ReplayError             the cassette does not hold what was asked
    `-- LessonError             a lesson was asked something that it cannot know

A message says what happened, where, and what to do. Nothing public raises a bare ValueError.
"""

from __future__ import annotations


class LabkitError(Exception):
    """The root: `except LabkitError` catches everything labkit says no to."""


class ProtocolError(LabkitError):
    """Bytes that break a specification."""

    def __init__(self, message: str, *, offset: int | None = None, field: str = "", spec: str = "") -> None:
        where = "" if offset is None else f" at byte {offset}"
        source = f" ({spec})" if spec else ""
        super().__init__(f"{message}{where}{source}")
        self.offset = offset
        """Where in the message, in bytes from its start; None when not at one place."""
        self.field = field
        """Name of the header, AVP or line."""
        self.spec = spec
        """The rule that was broken, for example 'RFC 6733 section 4.1'."""


class SipError(ProtocolError):
    """A SIP message that RFC 3261 does not allow."""


class DiameterError(ProtocolError):
    """A Diameter message that RFC 6733 does not allow."""

    def __init__(
        self,
        message: str,
        *,
        offset: int | None = None,
        field: str = "",
        spec: str = "",
        result_code: int = 5004,
        failed_avp: bytes = b"",
    ) -> None:
        super().__init__(message, offset=offset, field=field, spec=spec)
        self.result_code = result_code
        """The Result-Code that an answer to such a message carries (RFC 6733 section 7.1)."""
        self.failed_avp = failed_avp
        """The offending AVP as it belongs into Failed-AVP, header and all; empty when there is none to name."""


class SdpError(ProtocolError):
    """A session description that RFC 8866 does not allow."""


class AkaError(ProtocolError):
    """Authentication data that TS 33.102, TS 33.203 or RFC 3310 does not allow."""


class SmsError(ProtocolError):
    """A short message that TS 24.011, TS 23.040 or TS 23.038 does not allow."""


class RpcError(ProtocolError):
    """JSON-RPC or evapi that is neither a question nor an answer."""


class XmlError(ProtocolError):
    """XML that is not well formed, not safe to read, or not what its media type promises."""


class CallFailed(LabkitError):
    """A SIP request got no success: what was asked, what SIP said, and why as far as it told."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "", warning: str = "", raw: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        """SIP status code; 0 when no final response came at all."""
        self.reason = reason
        """Reason phrase of the status line."""
        self.warning = warning
        """Text of the Warning header, empty when there was none."""
        self.raw = raw
        """The whole response, empty when none came."""


class StackError(LabkitError):
    """Something of the lab does not run as it should."""


class DockerNotRunning(StackError):
    """No Docker daemon answers, or this user may not talk to it."""


class EngineMissing(StackError):
    """An engine that was asked for is not to be had on this machine."""


class NodeNotReady(StackError):
    """A node did not reach its named condition in time."""

    def __init__(
        self,
        node: str,
        *,
        awaited: str,
        waited_s: float,
        status: str = "unknown",
        last_logs: str = "",
        hint: str = "",
    ) -> None:
        text = f"{node} is not ready: waited {waited_s:.1f} s for {awaited}; its state is {status}."
        if last_logs:
            text += "\nIts last log lines:\n" + "\n".join("    " + line for line in last_logs.splitlines()[-12:])
        if hint:
            text += f"\nHint: {hint}"
        super().__init__(text)
        self.node, self.awaited, self.waited_s = node, awaited, waited_s
        self.status, self.last_logs, self.hint = status, last_logs, hint


class PortBusy(StackError):
    """Another program holds a port that a node needs."""


class TopologyError(StackError):
    """docker/lab.toml says something that cannot be."""


class BlockRefused(StackError):
    """A learner's routing block cannot be started. Shown to a learner without a traceback."""

    def __init__(
        self,
        what: str,
        *,
        text: str = "",
        line: int = 0,
        column: int = 0,
        length: int = 1,
        hint: str = "",
        said: str = "",
    ) -> None:
        lines = text.splitlines()
        place, shown = "", ""
        if line:
            place = f"Line {line}, column {column}: " if column else f"Line {line}: "
        if 0 < line <= len(lines):
            number = f"{line:4} | "
            shown = f"\n{number}{lines[line - 1]}"
            if column:
                before = "".join("\t" if char == "\t" else " " for char in lines[line - 1][: column - 1])
                shown += f"\n{' ' * (len(number) - 2)}| {before}{'^' * max(1, length)}"
        super().__init__(f"{place}{what}.{shown}" + (f"\nHint: {hint}." if hint else ""))
        self.what = what
        """What is wrong, in one sentence."""
        self.line, self.column = line, column
        """Where in the learner's text, both counted from 1; 0 where it is no one place."""
        self.hint = hint
        """A next step; empty where there is none to give."""
        self.said = said
        """What Kamailio itself said; it differs between versions."""

    def _render_traceback_(self) -> list[str]:
        """Tell IPython to show the sentence alone."""
        return [f"The block does not start. {self}"]


class CaptureError(LabkitError):
    """Packets cannot be had, or a file is no capture."""


class ReplayError(LabkitError):
    """The cassette does not hold what was asked of it."""


class LessonError(LabkitError):
    """A lesson was asked something that it cannot know, or was called wrongly."""


class ChargingEngineGone(StackError):
    """CGrateS closed the connection, refuses it, or does not answer in time."""


class DatabaseGone(StackError):
    """PostgreSQL does not take a connection, or has closed it."""


class DatabaseError(LabkitError):
    """PostgreSQL said no to a query."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code
        """The SQLSTATE, for example "42703" for a column that is not there."""


class ChargingError(LabkitError):
    """CGrateS said no to a call."""

    def __init__(self, message: str, *, code: str = "", method: str = "") -> None:
        super().__init__(message)
        self.code = code
        """The engine's own words, for example "RALS_ERROR:ACCOUNT_NOT_FOUND"."""
        self.method = method
        """The API method that was called."""


class ChargingNotFound(ChargingError):
    """What was asked for is not in the engine."""


class ChargingStoreGone(ChargingError):
    """The engine does not reach its database: nothing was stored, and nothing stored can be read."""


class NoCharger(ChargingError):
    """No charger profile fits the event, so nothing is rated and nothing is stored."""


class AccountNotFound(ChargingError):
    """The event is to be charged to an account that the engine does not have."""


class AccountDisabled(ChargingError):
    """The account is there and switched off."""


class NoPrice(ChargingError):
    """The rating plan has no price for this destination at this time."""


class NoRatingPlan(ChargingError):
    """No rating profile fits tenant, category and subject."""


class DuplicateCdr(ChargingError):
    """The same OriginID, OriginHost and run has been charged already."""


class BadChargingRequest(ChargingError):
    """A parameter is missing or of the wrong kind."""
