"""A cursor over the octets of a short message that notes what each octet, or part of one, is.

The same reading gives the values and the explanation: a field is noted where it is taken, so what is shown beside the
hex cannot differ from what was read.
"""

from __future__ import annotations

from dataclasses import dataclass

from labkit.errors import SmsError


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message, and where it stands."""

    name: str
    """Its name in the specification, for example "TP-MTI"."""
    start: int
    """Its first octet, counted from 0."""
    size: int
    """How many octets it has; 1 also for a part of an octet."""
    mask: int
    """Which bits of a single octet it is; 0xFF for whole octets."""
    value: str
    """What stands there, in words or digits."""
    about: str
    """What it is, in a sentence."""
    spec: str
    """Where it is defined, for example "23.040 9.2.3.1"."""

    @property
    def bits(self) -> str:
        """Its place in the octet, for example "......01" with the bits of the mask; "" for whole octets."""
        return (
            "" if self.mask == 0xFF else "".join("x" if self.mask >> place & 1 else "." for place in range(7, -1, -1))
        )


class FieldReader:
    """Takes octets one field after another."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        """The whole message."""
        self.at = 0
        """Where the next field begins."""
        self.end = len(raw)
        """Where what may be read ends; narrower inside a part that says its own length."""
        self.fields: list[Field] = []
        """What has been read so far."""

    @property
    def left(self) -> int:
        """Octets that are left."""
        return self.end - self.at

    def take(self, size: int, field: str, spec: str = "") -> bytes:
        """Return the next octets.

        Raises:
            SmsError: there are not so many.
        """
        if size > self.left:
            ends = "the message ends" if self.end == len(self.raw) else "what it is a part of ends"
            raise SmsError(
                f"{field} needs {size} octet{'s' * (size != 1)}, and {ends} after {self.left}",
                offset=self.at,
                field=field,
                spec=_full(spec),
            )
        taken = self.raw[self.at : self.at + size]
        self.at += size
        return taken

    def octet(self, field: str, spec: str = "") -> int:
        """Return the next octet."""
        return self.take(1, field, spec)[0]

    def note(
        self, name: str, value: str, about: str, spec: str, *, start: int, size: int | None = None, mask: int = 0xFF
    ) -> None:
        """Say what the octets from `start` on are, by default up to here."""
        self.fields.append(
            Field(name, start, self.at - start if size is None else size, mask, value, about, _full(spec))
        )


def _full(spec: str) -> str:
    return f"TS {spec}" if spec and not spec.startswith("TS ") else spec
