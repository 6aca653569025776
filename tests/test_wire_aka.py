"""Milenage against TS 35.208 and recorded vectors, the digest against the RFCs and recorded REGISTERs."""

from __future__ import annotations

import base64
import re

import pytest
from ims_bytes import IMS, diameter_messages, recordings

from labkit.errors import AkaError
from labkit.wire.aka import (
    AuthParams,
    Milenage,
    answer_challenge,
    build_auts,
    build_nonce,
    digest_ha1,
    digest_response,
    next_sqn,
    opc_from_op,
    open_autn,
    open_auts,
    parse_auth,
    split_nonce,
)
from labkit.wire.diameter import parse_message

# TS 35.208 section 4.3: K, RAND, SQN, AMF, OP, OPc, f1, f1*, f2, f5, f3, f4, f5*
SETS = [
    """465b5ce8b199b49faa5f0a2ee238a6bc 23553cbe9637a89d218ae64dae47bf35 ff9bb4d0b607 b9b9
    cdc202d5123e20f62b6d676ac72cb318 cd63cb71954a9f4e48a5994e37a02baf 4a9ffac354dfafb3 01cfaf9ec4e871e9
    a54211d5e3ba50bf aa689c648370 b40ba9a3c58b2a05bbf0d987b21bf8cb f769bcd751044604127672711c6d3441 451e8beca43b""",
    """0396eb317b6d1c36f19c1c84cd6ffd16 c00d603103dcee52c4478119494202e8 fd8eef40df7d af17
    ff53bade17df5d4e793073ce9d7579fa 53c15671c60a4b731c55b4a441c0bde2 5df5b31807e258b0 a8c016e51ef4a343
    d3a628ed988620f0 c47783995f72 58c433ff7a7082acd424220f2b67c556 21a8c1f929702adb3e738488b9f5c5da 30f1197061c1""",
    """fec86ba6eb707ed08905757b1bb44b8f 9f7c8d021accf4db213ccff0c7f71a6a 9d0277595ffc 725c
    dbc59adcb6f9a0ef735477b7fadf8374 1006020f0a478bf6b699f15c062e42b3 9cabc3e99baf7281 95814ba2b3044324
    8011c48c0c214ed2 33484dc2136b 5dbdbb2954e8f3cde665b046179a5098 59a92d3b476a0443487055cf88b2307b deacdd848cc6""",
    """9e5944aea94b81165c82fbf9f32db751 ce83dbc54ac0274a157c17f80d017bd6 0b604a81eca8 9e09
    223014c5806694c007ca1eeef57f004f a64a507ae1a2a98bb88eb4210135dc87 74a58220cba84c49 ac2cc74a96871837
    f365cd683cd92e96 f0b9c08ad02e e203edb3971574f5a94b0d61b816345d 0c4524adeac041c4dd830d20854fc46b 6085a86c6f63""",
    """4ab1deb05ca6ceb051fc98e77d026a84 74b0cd6031a1c8339b2b6ce2b8c4a186 e880a1b580b6 9f07
    2d16c5cd1fdf6b22383584e3bef2a8d8 dcf07cbd51855290b92a07a9891e523e 49e785dd12626ef2 9e85790336bb3fa2
    5860fc1bce351e7e 31e11a609118 7657766b373d1c2138f307e3de9242f9 1c42e960d89b8fa99f2744e0708ccb53 fe2555e54aa9""",
    """6c38a116ac280c454f59332ee35c8c4f ee6466bc96202c5a557abbeff8babf63 414b98222181 4464
    1ba00a1a7c6700ac8c3ff3e96ad08725 3803ef5363b947c6aaa225e58fae3934 078adfb488241a57 80246b8d0186bcf1
    16c8233f05a0ac28 45b0f69ab06c 3f8c7587fe8e4b233af676aede30ba3b a7466cc1e6b2a1337d49d3b66e95d7b4 1f53cd2b1113""",
]

# K and OPc of the subscriber in the recordings: those of TS 35.208 test set 1.
RECORDED = Milenage(
    bytes.fromhex("465b5ce8b199b49faa5f0a2ee238a6bc"), bytes.fromhex("cd63cb71954a9f4e48a5994e37a02baf")
)


def _values(text: str) -> list[bytes]:
    return [bytes.fromhex(word) for word in text.split()]


def _recorded_items() -> list[tuple[str, dict[int, bytes]]]:
    """Return the AKA items of all recorded MAAs, by AVP code."""
    items = []
    for name in recordings():
        for _, raw in diameter_messages(name):
            message = parse_message(raw)
            item = message.find("SIP-Auth-Data-Item") if message.name == "MAA" else None
            if item is not None and item.find("Confidentiality-Key") is not None:
                items.append((name, {avp.code: avp.raw for avp in item.children}))
    return items


def _authorization(name: str) -> list[str]:
    """Return the distinct Authorization headers with a nonce of a recording."""
    found = re.findall(rb"\r\nAuthorization: ([^\r]*nonce=\"[^\"]+\"[^\r]*)", (IMS / name).read_bytes())
    return [text.decode() for text in dict.fromkeys(found)]


@pytest.mark.parametrize("text", SETS)
def test_milenage(text):
    """All seven functions and OPc give the values of TS 35.208, test sets 1 to 6."""
    k, rand, sqn, amf, op, opc, f1, f1_star, f2, f5, f3, f4, f5_star = _values(text)
    number = int.from_bytes(sqn, "big")
    assert opc_from_op(k, op) == opc
    for milenage in (Milenage(k, opc), Milenage.from_op(k, op)):
        assert milenage.f1(rand, number, amf) == f1
        assert milenage.f1_star(rand, number, amf) == f1_star
        assert milenage.f2345(rand) == (f2, f3, f4, f5)
        assert milenage.f5_star(rand) == f5_star
    vector = Milenage(k, opc).vector(rand, number, amf)
    assert (vector.rand, vector.xres, vector.ck, vector.ik) == (rand, f2, f3, f4)
    hidden = (number ^ int.from_bytes(f5, "big")).to_bytes(6, "big")
    assert vector.autn == hidden + amf + f1


def test_recorded_vectors():
    """Vectors of two other HSSs in the recordings are what we compute, down to the MAC."""
    items = _recorded_items()
    assert len(items) > 15
    assert any(name.startswith("30_pyhss") for name, _ in items)
    for _, item in items:
        rand, autn = item[609][:16], item[609][16:]
        sqn, amf = open_autn(RECORDED, rand, autn)
        vector = RECORDED.vector(rand, sqn, amf)
        assert (vector.autn, vector.xres, vector.ck, vector.ik) == (autn, item[610], item[625], item[626])


def test_recorded_challenge_and_response():
    """The nonce of a recorded 401 holds RAND and AUTN of the MAA, and the phone's response is what we compute."""
    ((_, item),) = [entry for entry in _recorded_items() if entry[0].startswith("01_")]
    (text,) = _authorization("01_first_registration.pcap")
    sent = parse_auth(text)
    assert split_nonce(sent.get("nonce")) == (item[609][:16], item[609][16:])
    assert build_nonce(item[609][:16], item[609][16:]) == sent.get("nonce")
    response = digest_response(
        username=sent.get("username"),
        realm=sent.get("realm"),
        password=item[610],
        method="REGISTER",
        uri=sent.get("uri"),
        nonce=sent.get("nonce"),
        qop=sent.get("qop"),
        nc=sent.get("nc"),
        cnonce=sent.get("cnonce"),
        algorithm=sent.get("algorithm"),
    )
    assert response == sent.get("response")


def test_recorded_resynchronisation():
    """The AUTS of the recorded resynchronisation opens, and its SQN is the one the next vector counts on from."""
    items = [item for name, item in _recorded_items() if name.startswith("07_")]
    auts = next(parse_auth(text).get("auts") for text in _authorization("07_auth_resync.pcap") if "auts" in text)
    sqn_ms = open_auts(RECORDED, items[0][609][:16], base64.b64decode(auts))
    assert sqn_ms == 10_000_000
    assert open_autn(RECORDED, items[1][609][:16], items[1][609][16:])[0] > sqn_ms
    assert build_auts(RECORDED, items[0][609][:16], sqn_ms) == base64.b64decode(auts)


def test_sim_accepts_a_fresh_challenge():
    """A SIM gives RES, CK and IK for a fresh SQN, and notes it."""
    vector = RECORDED.vector(bytes(range(16)), 96, b"\x80\x00")
    answer = answer_challenge(RECORDED, vector.rand, vector.autn, 64)
    assert (answer.res, answer.ck, answer.ik) == (vector.xres, vector.ck, vector.ik)
    assert (answer.sqn, answer.auts) == (96, b"")


@pytest.mark.parametrize("sqn_ms", [96, 97, 1 << 47])
def test_sim_refuses_a_stale_challenge(sqn_ms):
    """An SQN that was seen gives AUTS with the SIM's own SQN and no RES."""
    vector = RECORDED.vector(bytes(range(16)), 96, b"\x80\x00")
    answer = answer_challenge(RECORDED, vector.rand, vector.autn, sqn_ms)
    assert answer.res == b""
    assert open_auts(RECORDED, vector.rand, answer.auts) == sqn_ms


def test_sim_refuses_a_jump():
    """An SQN that is much too far ahead is refused as well."""
    vector = RECORDED.vector(bytes(range(16)), 1 << 40, b"\x80\x00")
    assert answer_challenge(RECORDED, vector.rand, vector.autn, 5).auts


@pytest.mark.parametrize("place", range(16))
def test_any_changed_byte_of_autn_is_noticed(place):
    """A SIM refuses a challenge when any byte of AUTN was changed."""
    vector = RECORDED.vector(bytes(16), 96, b"\x80\x00")
    autn = bytearray(vector.autn)
    autn[place] ^= 1
    with pytest.raises(AkaError):
        answer_challenge(RECORDED, vector.rand, bytes(autn), 0)


def test_changed_auts_is_noticed():
    """The HSS refuses an AUTS with a wrong MAC."""
    auts = bytearray(build_auts(RECORDED, bytes(16), 7))
    auts[13] ^= 1
    with pytest.raises(AkaError):
        open_auts(RECORDED, bytes(16), bytes(auts))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Milenage(b"short", bytes(16)),
        lambda: Milenage(bytes(16), bytes(15)),
        lambda: opc_from_op(bytes(16), b""),
        lambda: RECORDED.vector(bytes(15), 1, b"\0\0"),
        lambda: RECORDED.vector(bytes(16), 1 << 48, b"\0\0"),
        lambda: RECORDED.vector(bytes(16), -1, b"\0\0"),
        lambda: RECORDED.f1(bytes(16), 1, b"\0"),
        lambda: open_autn(RECORDED, bytes(16), bytes(15)),
        lambda: open_auts(RECORDED, bytes(16), bytes(15)),
        lambda: split_nonce("not base64!"),
        lambda: split_nonce("AAAA"),
        lambda: build_nonce(b"", b""),
        lambda: digest_ha1("u", "r", "p", "CRC32"),
        lambda: digest_response(username="u", realm="r", method="M", uri="u", nonce="n", qop="all"),
    ],
)
def test_wrong_sizes_and_names(wrong):
    """A value of the wrong size, or an unknown algorithm, is refused with a sentence."""
    with pytest.raises(AkaError):
        wrong()


def test_next_sqn_counts_both_parts():
    """SEQ and IND grow by one; after 48 bits the counter starts again."""
    assert next_sqn(0) == 33
    assert next_sqn(63) == 64
    assert next_sqn((1 << 48) - 1) == 0


def test_rfc_2617_example():
    """The example of RFC 2617 section 3.5."""
    assert digest_ha1("Mufasa", "testrealm@host.com", "Circle Of Life") == "939e7578ed9e3c518a452acee763bce9"
    common = {
        "username": "Mufasa",
        "realm": "testrealm@host.com",
        "method": "GET",
        "uri": "/dir/index.html",
        "nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093",
        "qop": "auth",
        "nc": "00000001",
        "cnonce": "0a4f113b",
    }
    expected = "6629fae49393a05397450978507c4ef1"
    assert digest_response(password="Circle Of Life", **common) == expected
    assert digest_response(ha1="939e7578ed9e3c518a452acee763bce9", **common) == expected


def test_rfc_2069_example():
    """Without qop the old form of RFC 2069 is used (its example, with the value of its erratum)."""
    response = digest_response(
        username="Mufasa",
        realm="testrealm@host.com",
        password="CircleOfLife",
        method="GET",
        uri="/dir/index.html",
        nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
    )
    assert response == "1949323746fe6a43ef61f9606e7febea"


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_rfc_7616_example(algorithm, expected):
    """The examples of RFC 7616 section 3.9.1."""
    response = digest_response(
        username="Mufasa",
        realm="http-auth@example.org",
        password="Circle of Life",
        method="GET",
        uri="/dir/index.html",
        nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        qop="auth",
        nc="00000001",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        algorithm=algorithm,
    )
    assert response == expected


def test_recorded_headers_round_trip():
    """Recorded challenges and credentials are written back as they were, but for the blanks after commas."""
    for name in ("01_first_registration.pcap", "07_auth_resync.pcap", "15_sip_digest_registration.pcap"):
        raw = (IMS / name).read_bytes()
        for _, text in re.findall(rb"\r\n(WWW-Authenticate|Authorization): ([^\r]*)", raw):
            written = str(parse_auth(text.decode()))
            assert re.sub(", *", ",", written) == re.sub(", *", ",", text.decode())


def test_quotes_and_escapes():
    """Commas and quotes inside a quoted value do not split it; names match in any case."""
    params = parse_auth('Digest Realm="a, \\"b\\"", algorithm=AKAv1-MD5,  qop="auth,auth-int"')
    assert params.get("realm") == 'a, "b"'
    assert params.get("QOP") == "auth,auth-int"
    assert params.get("nonce") is None
    assert str(AuthParams.challenge(realm='a "b"', algorithm="MD5")) == 'Digest realm="a \\"b\\"", algorithm=MD5'
    written = str(AuthParams.credentials(username="u", qop="auth", nc="00000001"))
    assert written == 'Digest username="u", qop=auth, nc=00000001'


@pytest.mark.parametrize("text", ["", "nonsense=1", 'Digest realm="open', "Digest realm", "Digest =x"])
def test_broken_headers(text):
    """A header without scheme, equals sign or closing quote is refused."""
    with pytest.raises(AkaError):
        parse_auth(text)
