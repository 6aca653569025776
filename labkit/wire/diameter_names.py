"""The dictionary: what Diameter's numbers are called, and how each AVP's payload is to be read.

One line an AVP: code, name, type, and `M` where its sender must set the mandatory flag. Sources: RFC 6733 section
4.5, RFC 8506 section 8 (credit control), TS 29.229 section 6.3 (Cx), TS 29.329 section 6.3 (Sh), TS 32.299 section 7.2
(charging of IMS). TS 29.229 leaves some Cx AVPs without `M`; they are the ones that were added after Release 5.
"""

from __future__ import annotations

from typing import Final, NamedTuple

TGPP_VENDOR: Final = 10415
"""Vendor-Id of 3GPP (TS 29.229 section 7)."""


class AvpEntry(NamedTuple):
    """One line of the dictionary."""

    code: int
    """AVP code."""
    vendor: int
    """Vendor-Id, 0 for the base protocol."""
    name: str
    """Name as in the specification."""
    kind: str
    """Type of the payload, for example "Unsigned32" or "Grouped" (RFC 6733 sections 4.2 and 4.3)."""
    mandatory: bool
    """True where the sender sets the M flag."""


_BASE = """
1 User-Name UTF8String M
25 Class OctetString M
27 Session-Timeout Unsigned32 M
33 Proxy-State OctetString M
44 Acct-Session-Id OctetString M
50 Acct-Multi-Session-Id UTF8String M
55 Event-Timestamp Time M
85 Acct-Interim-Interval Unsigned32 M
103 Digest-Response UTF8String M
104 Digest-Realm UTF8String M
105 Digest-Nonce UTF8String M
106 Digest-Response-Auth UTF8String M
107 Digest-Nextnonce UTF8String M
108 Digest-Method UTF8String M
109 Digest-URI UTF8String M
110 Digest-Qop UTF8String M
111 Digest-Algorithm UTF8String M
112 Digest-Entity-Body-Hash UTF8String M
113 Digest-CNonce UTF8String M
114 Digest-Nonce-Count UTF8String M
115 Digest-Username UTF8String M
116 Digest-Opaque UTF8String M
117 Digest-Auth-Param UTF8String M
118 Digest-AKA-Auts UTF8String M
119 Digest-Domain UTF8String M
120 Digest-Stale UTF8String M
121 Digest-HA1 UTF8String M
257 Host-IP-Address Address M
258 Auth-Application-Id Unsigned32 M
259 Acct-Application-Id Unsigned32 M
260 Vendor-Specific-Application-Id Grouped M
261 Redirect-Host-Usage Enumerated M
262 Redirect-Max-Cache-Time Unsigned32 M
263 Session-Id UTF8String M
264 Origin-Host DiameterIdentity M
265 Supported-Vendor-Id Unsigned32 M
266 Vendor-Id Unsigned32 M
267 Firmware-Revision Unsigned32 -
268 Result-Code Unsigned32 M
269 Product-Name UTF8String -
270 Session-Binding Unsigned32 M
271 Session-Server-Failover Enumerated M
272 Multi-Round-Time-Out Unsigned32 M
273 Disconnect-Cause Enumerated M
274 Auth-Request-Type Enumerated M
276 Auth-Grace-Period Unsigned32 M
277 Auth-Session-State Enumerated M
278 Origin-State-Id Unsigned32 M
279 Failed-AVP Grouped M
280 Proxy-Host DiameterIdentity M
281 Error-Message UTF8String -
282 Route-Record DiameterIdentity M
283 Destination-Realm DiameterIdentity M
284 Proxy-Info Grouped M
285 Re-Auth-Request-Type Enumerated M
287 Accounting-Sub-Session-Id Unsigned64 M
291 Authorization-Lifetime Unsigned32 M
292 Redirect-Host DiameterURI M
293 Destination-Host DiameterIdentity M
294 Error-Reporting-Host DiameterIdentity -
295 Termination-Cause Enumerated M
296 Origin-Realm DiameterIdentity M
297 Experimental-Result Grouped M
298 Experimental-Result-Code Unsigned32 M
299 Inband-Security-Id Unsigned32 M
411 CC-Correlation-Id OctetString -
412 CC-Input-Octets Unsigned64 M
413 CC-Money Grouped M
414 CC-Output-Octets Unsigned64 M
415 CC-Request-Number Unsigned32 M
416 CC-Request-Type Enumerated M
417 CC-Service-Specific-Units Unsigned64 M
418 CC-Session-Failover Enumerated M
419 CC-Sub-Session-Id Unsigned64 M
420 CC-Time Unsigned32 M
421 CC-Total-Octets Unsigned64 M
422 Check-Balance-Result Enumerated M
423 Cost-Information Grouped M
424 Cost-Unit UTF8String M
425 Currency-Code Unsigned32 M
426 Credit-Control Enumerated M
427 Credit-Control-Failure-Handling Enumerated M
428 Direct-Debiting-Failure-Handling Enumerated M
429 Exponent Integer32 M
430 Final-Unit-Indication Grouped M
431 Granted-Service-Unit Grouped M
432 Rating-Group Unsigned32 M
433 Redirect-Address-Type Enumerated M
434 Redirect-Server Grouped M
435 Redirect-Server-Address UTF8String M
436 Requested-Action Enumerated M
437 Requested-Service-Unit Grouped M
438 Restriction-Filter-Rule IPFilterRule M
439 Service-Identifier Unsigned32 M
440 Service-Parameter-Info Grouped -
441 Service-Parameter-Type Unsigned32 -
442 Service-Parameter-Value OctetString -
443 Subscription-Id Grouped M
444 Subscription-Id-Data UTF8String M
445 Unit-Value Grouped M
446 Used-Service-Unit Grouped M
447 Value-Digits Integer64 M
448 Validity-Time Unsigned32 M
449 Final-Unit-Action Enumerated M
450 Subscription-Id-Type Enumerated M
451 Tariff-Time-Change Time M
452 Tariff-Change-Usage Enumerated M
453 G-S-U-Pool-Identifier Unsigned32 M
454 CC-Unit-Type Enumerated M
455 Multiple-Services-Indicator Enumerated M
456 Multiple-Services-Credit-Control Grouped M
457 G-S-U-Pool-Reference Grouped M
458 User-Equipment-Info Grouped -
459 User-Equipment-Info-Type Enumerated -
460 User-Equipment-Info-Value OctetString -
461 Service-Context-Id UTF8String M
480 Accounting-Record-Type Enumerated M
483 Accounting-Realtime-Required Enumerated M
485 Accounting-Record-Number Unsigned32 M
"""

_TGPP = """
831 Calling-Party-Address UTF8String M
832 Called-Party-Address UTF8String M
873 Service-Information Grouped M
876 IMS-Information Grouped M
600 Visited-Network-Identifier OctetString M
601 Public-Identity UTF8String M
602 Server-Name UTF8String M
603 Server-Capabilities Grouped M
604 Mandatory-Capability Unsigned32 M
605 Optional-Capability Unsigned32 M
606 User-Data OctetString M
607 SIP-Number-Auth-Items Unsigned32 M
608 SIP-Authentication-Scheme UTF8String M
609 SIP-Authenticate OctetString M
610 SIP-Authorization OctetString M
611 SIP-Authentication-Context OctetString M
612 SIP-Auth-Data-Item Grouped M
613 SIP-Item-Number Unsigned32 M
614 Server-Assignment-Type Enumerated M
615 Deregistration-Reason Grouped M
616 Reason-Code Enumerated M
617 Reason-Info UTF8String M
618 Charging-Information Grouped M
619 Primary-Event-Charging-Function-Name DiameterURI M
620 Secondary-Event-Charging-Function-Name DiameterURI M
621 Primary-Charging-Collection-Function-Name DiameterURI M
622 Secondary-Charging-Collection-Function-Name DiameterURI M
623 User-Authorization-Type Enumerated M
624 User-Data-Already-Available Enumerated M
625 Confidentiality-Key OctetString M
626 Integrity-Key OctetString M
628 Supported-Features Grouped -
629 Feature-List-ID Unsigned32 -
630 Feature-List Unsigned32 -
631 Supported-Applications Grouped -
632 Associated-Identities Grouped -
633 Originating-Request Enumerated M
634 Wildcarded-Public-Identity UTF8String -
635 SIP-Digest-Authenticate Grouped -
636 Wildcarded-IMPU UTF8String -
637 UAR-Flags Unsigned32 -
638 Loose-Route-Indication Enumerated -
639 SCSCF-Restoration-Info Grouped -
640 Path OctetString -
641 Contact OctetString -
642 Subscription-Info Grouped -
643 Call-ID-SIP-Header OctetString -
644 From-SIP-Header OctetString -
645 To-SIP-Header OctetString -
646 Record-Route OctetString -
647 Associated-Registered-Groups Grouped -
648 Multiple-Registration-Indication Enumerated -
649 Restoration-Info Grouped -
650 Session-Priority Enumerated -
651 Identity-with-Emergency-Registration Grouped -
652 Priviledged-Sender-Indication Enumerated -
653 LIA-Flags Unsigned32 -
654 Initial-CSeq-Sequence-Number Unsigned32 -
655 SAR-Flags Unsigned32 -
700 User-Identity Grouped M
701 MSISDN OctetString M
702 User-Data OctetString M
703 Data-Reference Enumerated M
704 Service-Indication OctetString M
705 Subs-Req-Type Enumerated M
706 Requested-Domain Enumerated M
707 Current-Location Enumerated M
708 Identity-Set Enumerated -
709 Expiry-Time Time -
710 Send-Data-Indication Enumerated -
711 DSAI-Tag OctetString M
"""


def _read_table(text: str, vendor: int) -> list[AvpEntry]:
    entries = []
    for line in text.strip().splitlines():
        code, name, kind, flag = line.split()
        entries.append(AvpEntry(int(code), vendor, name, kind, flag == "M"))
    return entries


_ENTRIES = _read_table(_BASE, 0) + _read_table(_TGPP, TGPP_VENDOR)

AVPS: Final[dict[tuple[int, int], AvpEntry]] = {(entry.code, entry.vendor): entry for entry in _ENTRIES}
"""Dictionary entry of each (code, vendor)."""

# Some names stand twice (Cx and Sh both say User-Data); the first line of the table keeps the name.
AVPS_BY_NAME: Final[dict[str, AvpEntry]] = {entry.name: entry for entry in reversed(_ENTRIES)}
"""Dictionary entry of each name."""

COMMANDS: Final[dict[int, str]] = {
    257: "CE",
    258: "RA",
    271: "AC",
    272: "CC",
    274: "AS",
    275: "ST",
    280: "DW",
    282: "DP",
    300: "UA",
    301: "SA",
    302: "LI",
    303: "MA",
    304: "RT",
    305: "PP",
    306: "UD",
    307: "PU",
    308: "SN",
    309: "PN",
}
"""The two letters before R or A of each command code: 300 is "UA", so UAR and UAA."""

APPLICATIONS: Final[dict[int, str]] = {
    0: "Diameter common messages",
    3: "Diameter base accounting",
    4: "Diameter credit control",
    16777216: "3GPP Cx",
    16777217: "3GPP Sh",
    4294967295: "Relay",
}
"""Names of Application-Ids (RFC 6733 section 2.4, TS 29.229 section 6)."""

RESULTS: Final[dict[int, str]] = {
    1001: "DIAMETER_MULTI_ROUND_AUTH",
    2001: "DIAMETER_SUCCESS",
    2002: "DIAMETER_LIMITED_SUCCESS",
    3001: "DIAMETER_COMMAND_UNSUPPORTED",
    3002: "DIAMETER_UNABLE_TO_DELIVER",
    3003: "DIAMETER_REALM_NOT_SERVED",
    3004: "DIAMETER_TOO_BUSY",
    3005: "DIAMETER_LOOP_DETECTED",
    3006: "DIAMETER_REDIRECT_INDICATION",
    3007: "DIAMETER_APPLICATION_UNSUPPORTED",
    3008: "DIAMETER_INVALID_HDR_BITS",
    3009: "DIAMETER_INVALID_AVP_BITS",
    3010: "DIAMETER_UNKNOWN_PEER",
    4001: "DIAMETER_AUTHENTICATION_REJECTED",
    4002: "DIAMETER_OUT_OF_SPACE",
    4003: "ELECTION_LOST",
    4010: "DIAMETER_END_USER_SERVICE_DENIED",
    4011: "DIAMETER_CREDIT_CONTROL_NOT_APPLICABLE",
    4012: "DIAMETER_CREDIT_LIMIT_REACHED",
    5001: "DIAMETER_AVP_UNSUPPORTED",
    5002: "DIAMETER_UNKNOWN_SESSION_ID",
    5003: "DIAMETER_AUTHORIZATION_REJECTED",
    5004: "DIAMETER_INVALID_AVP_VALUE",
    5005: "DIAMETER_MISSING_AVP",
    5006: "DIAMETER_RESOURCES_EXCEEDED",
    5007: "DIAMETER_CONTRADICTING_AVPS",
    5008: "DIAMETER_AVP_NOT_ALLOWED",
    5009: "DIAMETER_AVP_OCCURS_TOO_MANY_TIMES",
    5010: "DIAMETER_NO_COMMON_APPLICATION",
    5011: "DIAMETER_UNSUPPORTED_VERSION",
    5012: "DIAMETER_UNABLE_TO_COMPLY",
    5013: "DIAMETER_INVALID_BIT_IN_HEADER",
    5014: "DIAMETER_INVALID_AVP_LENGTH",
    5015: "DIAMETER_INVALID_MESSAGE_LENGTH",
    5016: "DIAMETER_INVALID_AVP_BIT_COMBO",
    5017: "DIAMETER_NO_COMMON_SECURITY",
    5030: "DIAMETER_USER_UNKNOWN",
    5031: "DIAMETER_RATING_FAILED",
}
"""Names of Result-Code values (RFC 6733 section 7.1, RFC 8506 section 9)."""

TGPP_RESULTS: Final[dict[int, str]] = {
    2001: "DIAMETER_FIRST_REGISTRATION",
    2002: "DIAMETER_SUBSEQUENT_REGISTRATION",
    2003: "DIAMETER_UNREGISTERED_SERVICE",
    2004: "DIAMETER_SUCCESS_SERVER_NAME_NOT_STORED",
    2005: "DIAMETER_SERVER_SELECTION",
    5001: "DIAMETER_ERROR_USER_UNKNOWN",
    5002: "DIAMETER_ERROR_IDENTITIES_DONT_MATCH",
    5003: "DIAMETER_ERROR_IDENTITY_NOT_REGISTERED",
    5004: "DIAMETER_ERROR_ROAMING_NOT_ALLOWED",
    5005: "DIAMETER_ERROR_IDENTITY_ALREADY_REGISTERED",
    5006: "DIAMETER_ERROR_AUTH_SCHEME_NOT_SUPPORTED",
    5007: "DIAMETER_ERROR_IN_ASSIGNMENT_TYPE",
    5008: "DIAMETER_ERROR_TOO_MUCH_DATA",
    5009: "DIAMETER_ERROR_NOT_SUPPORTED_USER_DATA",
    5011: "DIAMETER_ERROR_FEATURE_UNSUPPORTED",
    5012: "DIAMETER_ERROR_SERVING_NODE_FEATURE_UNSUPPORTED",
}
"""Names of Experimental-Result-Code values of vendor 3GPP (TS 29.229 section 6.2)."""


def command_name(code: int, request: bool) -> str:
    """Name a command: 300 is "UAR" or "UAA"; an unknown code is "999-Request" or "999-Answer"."""
    letters = COMMANDS.get(code)
    if letters is None:
        return f"{code}-Request" if request else f"{code}-Answer"
    return letters + ("R" if request else "A")


def avp_name(code: int, vendor: int = 0) -> str:
    """Name an AVP, "AVP 999" or "AVP 999 of vendor 9" where the dictionary has none."""
    entry = AVPS.get((code, vendor))
    if entry is not None:
        return entry.name
    return f"AVP {code} of vendor {vendor}" if vendor else f"AVP {code}"


def result_name(code: int, experimental: bool = False, vendor: int = TGPP_VENDOR) -> str:
    """Name a result: 2001 is DIAMETER_SUCCESS, but DIAMETER_FIRST_REGISTRATION as Experimental-Result-Code of 3GPP.

    Args:
        code: the value of Result-Code or Experimental-Result-Code.
        experimental: True for a value of Experimental-Result-Code.
        vendor: whose experimental code it is.
    Returns:
        The name, else the number as text.
    """
    if not experimental:
        return RESULTS.get(code, str(code))
    return TGPP_RESULTS.get(code, str(code)) if vendor == TGPP_VENDOR else str(code)
