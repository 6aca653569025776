"""Every exception that labkit raises on purpose, in one tree.

    LabkitError
    |-- ProtocolError           bytes that break a specification; says offset, field, spec
    |   |-- SipError
    |   |-- DiameterError
    |   |-- SdpError
    |   `-- AkaError
    |-- CallFailed              a peer said no: carries status, reason, Warning and the message
    |-- StackError              something of the lab does not run as it should
    |   |-- DockerNotRunning
    |   |-- EngineMissing       an engine that was asked for is not to be had here
    |   |-- NodeNotReady        what was awaited, how long, the node's state, its last log lines, a hint
    |   |-- PortBusy
    |   `-- TopologyError       docker/lab.toml says something that cannot be
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


class CaptureError(LabkitError):
    """Packets cannot be had, or a file is no capture."""


class ReplayError(LabkitError):
    """The cassette does not hold what was asked of it."""


class LessonError(LabkitError):
    """A lesson was asked something that it cannot know, or was called wrongly."""
