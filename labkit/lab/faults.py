"""Faults: things broken on purpose, each with its cure, a time limit and the symptom to expect.

Theory. A fault is three steps on a running lab. `prepare` looks and writes down what the cure needs (the key that was,
for example) and changes nothing; `inject` breaks; `heal` mends, and may be called at any time, twice, by any process,
with what `prepare` wrote down. `labkit.lab.healing` keeps the order: on disk first, then broken, and healed at the
limit whatever becomes of whoever broke it. A later fault is one more entry of `faults`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.errors import LessonError
from labkit.lab.charging_faults import CHARGING_FAULTS
from labkit.lab.fault import MAX_LIMIT_S as MAX_LIMIT_S
from labkit.lab.fault import Fault as Fault
from labkit.lab.fault import Faults as Faults
from labkit.lab.fault import switched
from labkit.lab.hands import LabHands
from labkit.lab.prepaid_faults import PREPAID_FAULTS

PROFILE_IS_TAKEN_LATE = "The S-CSCF takes a changed profile at the next registration after de-registration."


def _nothing(lab: LabHands, options: Mapping[str, Any]) -> None:
    """What is done cannot be undone, and mends itself."""


def fault_named(name: str) -> Fault:
    """The fault; LessonError with the names there are."""
    try:
        return faults[name]
    except KeyError:
        raise LessonError(f"there is no fault {name!r}; there are {', '.join(faults)}") from None


# ---- nodes that do not run ------------------------------------------------------------------------------------------
def _node_runs(lab: LabHands, options: dict[str, Any]) -> dict[str, Any]:
    lab.require(options["node"])
    return options


def _hss_runs(lab: LabHands, options: dict[str, Any]) -> dict[str, Any]:
    return _node_runs(lab, options | {"node": "hss"})


def _stop_node(lab: LabHands, options: Mapping[str, Any]) -> None:
    lab.stop(options["node"])


def _start_node(lab: LabHands, options: Mapping[str, Any]) -> None:
    lab.start(options["node"])


def _restart_node(lab: LabHands, options: Mapping[str, Any]) -> None:
    lab.restart(options["node"])


# ---- an HSS that does something wrong -------------------------------------------------------------------------------
def _misbehaves(name: str, **wrong: Any) -> dict[str, Any]:
    """The three steps of a fault that the HSS plays by itself, under the fault's name."""

    def inject(lab: LabHands, options: Mapping[str, Any]) -> None:
        asked = {key: options[key] for key in ("delay_s", "user") if key in options} | wrong
        if "commands" in options:
            asked["commands"] = [word for word in options["commands"].replace(" ", "").split(",") if word]
        with lab.hss() as hss:
            hss.misbehave(name=name, limit_s=MAX_LIMIT_S, **asked)

    def heal(lab: LabHands, options: Mapping[str, Any]) -> None:
        if lab.runs("hss"):  # one that was started anew has forgotten how to misbehave
            with lab.hss() as hss:
                hss.behave(name)

    return {"prepare": _hss_runs, "inject": inject, "heal": heal}


# ---- a profile that is wrong ----------------------------------------------------------------------------------------
def _note_criteria(lab: LabHands, options: dict[str, Any]) -> dict[str, Any]:
    with lab.hss() as hss:
        was = hss.subscriber(options["user"]).provisioned["ifc"]
    address, port = lab.nobodys_address()
    return options | {"server": options.get("server") or f"sip:as@{address}:{port}", "was": was}


def _group_mistake(lab: LabHands, options: Mapping[str, Any]) -> None:
    """Meant: INVITE AND originating. In conjunctive normal form, one Group is an OR."""
    triggers = [{"group": 0, "method": "INVITE"}, {"group": 0, "session_case": 0}]
    _add_criterion(lab, options, {"cnf": True, "default_handling": 1, "triggers": triggers})


def _dead_server(lab: LabHands, options: Mapping[str, Any]) -> None:
    triggers = [{"group": 0, "method": "INVITE"}, {"group": 0, "method": "MESSAGE"}]
    _add_criterion(lab, options, {"default_handling": options["default_handling"], "triggers": triggers})


def _add_criterion(lab: LabHands, options: Mapping[str, Any], criterion: dict[str, Any]) -> None:
    with lab.hss() as hss:
        hss.set_profile(options["user"], [*options["was"], {"priority": 1, "server": options["server"]} | criterion])


def _criteria_back(lab: LabHands, options: Mapping[str, Any]) -> None:
    with lab.hss() as hss:
        hss.set_profile(options["user"], options["was"])


faults = Faults(
    Fault(
        "hss-down",
        title="the HSS is stopped",
        symptom="nobody can be asked who a subscriber is: every REGISTER and every call gets 504 HSS Not "
        "Connected from the I-CSCF, at once, and there is no Cx message",
        breaks="the HSS",
        prepare=_hss_runs,
        inject=_stop_node,
        heal=_start_node,
    ),
    Fault(
        "hss-slow",
        title="the HSS answers late, after 2 s",
        symptom="a registration takes four times the delay (UAA, MAA, UAA, SAA), a call to somebody one time "
        "(LIA); phones send their requests again meanwhile. From about 3 s on the CSCFs give up: 504",
        breaks="the HSS",
        options={"delay_s": 2.0, "commands": ""},
        **_misbehaves("hss-slow"),
    ),
    Fault(
        "hss-answers-3002",
        title="the HSS answers DIAMETER_UNABLE_TO_DELIVER (3002)",
        symptom="every Cx answer is a protocol error (E bit, 3002): REGISTER and calls get 403 from the I-CSCF, "
        "at once",
        breaks="the HSS",
        options={"commands": ""},
        **_misbehaves("hss-answers-3002", result=3002),
    ),
    Fault(
        "hss-answers-5012",
        title="the HSS answers DIAMETER_UNABLE_TO_COMPLY (5012)",
        symptom="every Cx answer is a permanent failure (5012): REGISTER and calls get 500 from the I-CSCF, at once",
        breaks="the HSS",
        options={"commands": ""},
        **_misbehaves("hss-answers-5012", result=5012),
    ),
    Fault(
        "wrong-key",
        title="one bit of a subscriber's K in the HSS is wrong",
        symptom="the SIM does not believe the challenge (MAC in AUTN): its second REGISTER has an empty response "
        "and no AUTS, the answer is one more 401, and the phone gives up; everybody else is fine",
        breaks="a subscriber's secret",
        options={"user": "alice"},
        **_misbehaves("wrong-key", wrong="k"),
    ),
    Fault(
        "wrong-opc",
        title="one bit of a subscriber's OPc in the HSS is wrong",
        symptom="the same as wrong-key, to the last message: from outside, K and OPc cannot be told apart",
        breaks="a subscriber's secret",
        options={"user": "alice"},
        **_misbehaves("wrong-opc", wrong="opc"),
    ),
    Fault(
        "sqn-ahead",
        title="the HSS's SQN for a subscriber has jumped far ahead",
        symptom="the SIM refuses the jump and tells its own SQN: REGISTER with auts, a second MAR, a second "
        "challenge, then 200; the next registration is as ever",
        breaks="a subscriber's SQN",
        options={"user": "alice"},
        **_misbehaves("sqn-ahead", wrong="sqn-ahead"),
    ),
    Fault(
        "sqn-behind",
        title="the HSS's SQN for a subscriber is 0 again, as after an old backup",
        symptom="a SIM that has accepted a higher SQN tells it: REGISTER with auts, a second MAR, a second "
        "challenge, then 200; the next registration is as ever",
        breaks="a subscriber's SQN",
        options={"user": "alice"},
        **_misbehaves("sqn-behind", wrong="sqn-behind"),
    ),
    Fault(
        "scscf-restarted",
        title="the S-CSCF is started anew and has forgotten every registration",
        symptom="calls of phones that were registered get 403 Caller Not Registered, calls to them 480 (SAR type "
        "3), until they register again; the HSS goes on saying 'registered'",
        breaks="the S-CSCF",
        options={"node": "scscf"},
        prepare=_node_runs,
        inject=_restart_node,
        heal=_nothing,
    ),
    Fault(
        "scscf-down",
        title="an S-CSCF is stopped",
        symptom="whom the HSS has assigned to it cannot register (504 from the I-CSCF after 9 s) or call (408 "
        "after 12 s)",
        breaks="the S-CSCF",
        options={"node": "scscf"},
        prepare=_node_runs,
        inject=_stop_node,
        heal=_start_node,
    ),
    Fault(
        "scscf-list-wrong",
        title="the I-CSCF's list of S-CSCFs names one that is not there",
        symptom="a first registration gets 504 S-CSCF Not Reachable after the UAA (2001, capabilities); who has a"
        " Server-Name in the HSS (UAA 2002) registers and is called as ever",
        **switched("icscf", "SCSCF_LIST_WRONG"),
    ),
    Fault(
        "no-path",
        title="the P-CSCF adds no Path",
        symptom="registration works, and after it nothing else: the S-CSCF knows no way to the phone, so its "
        "calls get 403 from there. Phones that were registered before get 403 from the P-CSCF, which has "
        "been started anew",
        **switched("pcscf", "NO_PATH"),
    ),
    Fault(
        "name-unresolvable",
        title="the P-CSCF looks for its I-CSCF under a name that does not resolve",
        symptom="REGISTER gets 504 from the P-CSCF, and behind it nothing is seen: no SIP, no Cx",
        **switched("pcscf", "ICSCF_NAME_WRONG"),
    ),
    Fault(
        "ussd-info-blind",
        title="the USSD gateway's INFO is no part of the dialog: the Call-ID alone is right",
        symptom="the call is answered and no text comes: the INFO has a From tag of its own and no To tag, so it "
        "is a request of its own that nobody asked for, and is refused. Needs the node ussd",
        **switched("ussd", "BLIND_INFO"),
    ),
    Fault(
        "no-direction",
        title="the P-CSCF takes a=sendonly, a=recvonly and a=inactive out of every SDP",
        symptom="hold does not arrive: the answer to an offer of sendonly is sendrecv, which RFC 3264 forbids, and "
        "whoever is held goes on sending to somebody who does not listen; c=0.0.0.0 still holds",
        **switched("pcscf", "NO_DIRECTION"),
    ),
    Fault(
        "no-update",
        title="the P-CSCF does not let UPDATE pass",
        symptom="hold by UPDATE gets 405 from the P-CSCF, and the call goes on as it was; by re-INVITE it works",
        **switched("pcscf", "NO_UPDATE"),
    ),
    Fault(
        "ifc-group",
        title="a subscriber's filter criterion has its two conditions in one Group (CNF: an OR)",
        symptom="meant for INVITEs of the subscriber alone, it takes every request of his and every INVITE to "
        "him: a MESSAGE gets 408 after 2 s from a server that was never meant to see it. " + PROFILE_IS_TAKEN_LATE,
        breaks="a subscriber's profile",
        options={"user": "alice", "server": ""},
        prepare=_note_criteria,
        inject=_group_mistake,
        heal=_criteria_back,
    ),
    Fault(
        "as-down",
        title="a subscriber's application server does not answer",
        symptom="calls and messages of and to the subscriber take 2 s longer (DefaultHandling 0) or get 408 after"
        " 2 s (1). " + PROFILE_IS_TAKEN_LATE,
        breaks="a subscriber's profile",
        options={"user": "alice", "default_handling": 0},
        prepare=_note_criteria,
        inject=_dead_server,
        heal=_criteria_back,
    ),
    *CHARGING_FAULTS,
    *PREPAID_FAULTS,
)
"""Every fault by its name."""
