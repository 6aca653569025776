"""A capture as a notebook holds it: single messages, parsed, and the profile in a SAA."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.errors import CaptureError, DiameterError, LessonError, SipError
from labkit.session.capture import Capture

RECORDING = Path(__file__).parent / "data" / "ims" / "01_first_registration.pcap"
NAMES = {"172.30.0.1": "alice", "172.30.0.13": "pcscf", "172.30.0.11": "icscf", "172.30.0.12": "scscf"}


@pytest.fixture(scope="module")
def first() -> Capture:
    """A recorded first registration."""
    capture = Capture("first", "99")
    capture.close(RECORDING.read_bytes(), NAMES | {"172.30.0.10": "hss"}, "wire")
    return capture


def number_of(capture: Capture, message: str) -> int:
    """Number of the first message that begins so."""
    return int(capture.steps.index[capture.steps.message.str.startswith(message)][0])


def test_messages_come_parsed(first: Capture) -> None:
    """SIP and Diameter, each by its own reader, from the bytes of that very message."""
    assert first.sip(1).method == "REGISTER"
    assert first.sip(1).to_bytes() == first.raw(1)
    mar = number_of(first, "MAR")
    assert first.diameter(mar).name == "MAR"
    assert first.diameter(mar).find("Public-Identity") is not None


def test_a_message_of_the_other_protocol_is_an_error(first: Capture) -> None:
    """Asking for SIP in Diameter, or the other way round."""
    with pytest.raises(SipError):
        first.sip(number_of(first, "MAR"))
    with pytest.raises(DiameterError):
        first.diameter(1)


def test_a_saa_has_the_profile(first: Capture) -> None:
    """And a message without one says so."""
    view = first.profile(number_of(first, "SAA"))
    assert view.profile.impi
    assert view.profile.service_profiles[0].identities
    with pytest.raises(LessonError, match="carries no User-Data"):
        first.profile(number_of(first, "MAR"))


def test_an_open_capture_has_no_messages() -> None:
    """Inside its `with` block nothing can be asked."""
    with pytest.raises(CaptureError, match="still open"):
        Capture("open", "99").sip(1)


def test_what_a_ussd_body_says() -> None:
    """The texts of a recorded dialogue; a message without such a body says so; URIs are named by where they lead."""
    capture = Capture("ussd", "99")
    recording = RECORDING.with_name("11_ussd_kamailio_gateway.pcap")
    capture.close(recording.read_bytes(), NAMES | {"172.30.0.14": "ussd", "172.30.0.1:6001": "phone"}, "wire")
    texts = [capture.ussd(number_of(capture, message)).text for message in ("INVITE", "INFO", "BYE")]
    assert texts == ["*100#", "Welcome. 1 balance, 2 number", "Balance 42"]
    with pytest.raises(LessonError, match=r"carries no application/vnd\.3gpp\.ussd\+xml"):
        capture.ussd(number_of(capture, "ACK"))
    info = capture.sip(number_of(capture, "INFO"))
    assert [capture.name_of(route) for route in info.all("Route")] == ["scscf", "pcscf"]
    assert capture.name_of(info.request_uri) == "phone"
    assert capture.name_of("<sip:alice@example.org>") == "example.org"
