"""User-Data: the profile that the HSS hands to the S-CSCF, as XML (TS 29.228 annexes B and E)."""

from __future__ import annotations

from html import escape

from labkit.peers.hss.criteria import FilterCriterion, ServicePointTrigger
from labkit.peers.hss.subscribers import Subscriber


def user_data_xml(subscriber: Subscriber) -> bytes:
    """Write the profile of a subscriber.

    All public identities of the implicit set stand in it, the IMSI's own first: an S-CSCF registers exactly the
    identities that it finds here.

    Returns:
        UTF-8 bytes of one IMSSubscription document.
    Spec:
        TS 29.228 annex E
    """
    identities = "".join(_identity(subscriber, impu) for impu in subscriber.impus)
    criteria = "".join(_criterion(ifc) for ifc in sorted(subscriber.ifcs, key=lambda ifc: ifc.priority))
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<IMSSubscription><PrivateID>{_text(subscriber.impi)}</PrivateID>"
        f"<ServiceProfile>{identities}{criteria}</ServiceProfile></IMSSubscription>"
    )
    return text.encode()


def _identity(subscriber: Subscriber, impu: str) -> str:
    barred = int(subscriber.barred or impu in subscriber.barred_impus)
    return (
        f"<PublicIdentity><BarringIndication>{barred}</BarringIndication>"
        f"<Identity>{_text(impu)}</Identity></PublicIdentity>"
    )


def _criterion(ifc: FilterCriterion) -> str:
    trigger = ""
    if ifc.triggers:
        spts = "".join(_trigger(spt) for spt in ifc.triggers)
        trigger = f"<TriggerPoint><ConditionTypeCNF>{int(ifc.cnf)}</ConditionTypeCNF>{spts}</TriggerPoint>"
    service = f"<ServiceInfo>{_text(ifc.service_info)}</ServiceInfo>" if ifc.service_info else ""
    part = "" if ifc.profile_part is None else f"<ProfilePartIndicator>{ifc.profile_part}</ProfilePartIndicator>"
    return (
        f"<InitialFilterCriteria><Priority>{ifc.priority}</Priority>{trigger}"
        f"<ApplicationServer><ServerName>{_text(ifc.server)}</ServerName>"
        f"<DefaultHandling>{ifc.default_handling}</DefaultHandling>{service}</ApplicationServer>"
        f"{part}</InitialFilterCriteria>"
    )


def _trigger(spt: ServicePointTrigger) -> str:
    # The order of the elements is the schema's: negated, groups, the test itself, its extension.
    groups = "".join(f"<Group>{group}</Group>" for group in spt.groups)
    negated = f"<ConditionNegated>{int(spt.negated)}</ConditionNegated>"
    types = "".join(f"<RegistrationType>{number}</RegistrationType>" for number in spt.registration_types)
    extension = f"<Extension>{types}</Extension>" if types else ""
    return f"<SPT>{negated}{groups}{_test(spt)}{extension}</SPT>"


def _test(spt: ServicePointTrigger) -> str:
    if spt.method:
        return f"<Method>{_text(spt.method)}</Method>"
    if spt.request_uri:
        return f"<RequestURI>{_text(spt.request_uri)}</RequestURI>"
    if spt.session_case is not None:
        return f"<SessionCase>{spt.session_case}</SessionCase>"
    if spt.header:
        content = f"<Content>{_text(spt.header_content)}</Content>" if spt.header_content else ""
        return f"<SIPHeader><Header>{_text(spt.header)}</Header>{content}</SIPHeader>"
    content = f"<Content>{_text(spt.sdp_content)}</Content>" if spt.sdp_content else ""
    return f"<SessionDescription><Line>{_text(spt.sdp_line)}</Line>{content}</SessionDescription>"


def _text(value: str) -> str:
    return escape(value, quote=False)
