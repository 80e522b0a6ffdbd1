"""M5, W5: tokens of issuers that the settings name, and of those who attack."""

import base64
import hmac
import json
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from corral.api import PermissionLevel
from corral_gateway.identity.jwt import tokens as verifying
from corral_gateway.identity.jwt.claims import caller_of as caller_of_claims
from corral_gateway.identity.jwt.claims import name_of
from corral_gateway.identity.jwt.issuer import JwtIssuer, no_two_alike
from corral_gateway.identity.jwt.key_sources import KeySetFile
from corral_gateway.identity.jwt.tokens import JwtTokens
from corral_gateway.identity.roles import SCOPES, Role, Scope
from unit.gateway.tokens import (
    ED448,
    ISSUER,
    PRIVATE,
    RSA,
    SECRET,
    caller_of,
    claims,
    issuer,
    jwks,
    pem,
    signed,
    token,
    unsigned,
)


@pytest.mark.parametrize("algorithm", PRIVATE)
async def test_W5_a_good_token_says_who_calls(tmp_path: Path, algorithm: str) -> None:
    caller = await caller_of(JwtTokens.of([issuer(tmp_path, algorithm)]), token(algorithm))
    assert caller is not None
    assert (caller.name, caller.credential, caller.kind) == ("jwt.corp.alice", "jwt:corp:alice", "jwt")
    assert (caller.role, caller.scopes) == (Role.RUNNER, SCOPES[Role.RUNNER])
    assert caller.expires_at is not None


async def test_W5_ed448_is_eddsa_too(tmp_path: Path) -> None:
    tokens = JwtTokens.of([issuer(tmp_path, "EdDSA", ED448)])
    assert await caller_of(tokens, signed(claims(), ED448, {"alg": "EdDSA"})) is not None
    assert await caller_of(tokens, token("EdDSA")) is None


@pytest.mark.parametrize("pinned", ["HS256", "RS256", "PS256", "ES256", "EdDSA"])
async def test_W5_no_algorithm_but_the_pinned_one_opens(tmp_path: Path, pinned: str) -> None:
    tokens = JwtTokens.of([issuer(tmp_path, pinned)])
    for algorithm in PRIVATE:
        assert (await caller_of(tokens, token(algorithm)) is not None) is (algorithm == pinned), algorithm


_FAR = int(time.time()) + 10**6
#: What is wrong with a token that is signed well, and its claims.
_BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "expired": {"exp": int(time.time()) - 3600},
    "no expiry": {"exp": None},
    "expiry is text": {"exp": str(_FAR)},
    "expiry is true": {"exp": True},
    "expiry is infinite": {"exp": float("inf")},
    "expiry is no number": {"exp": float("nan")},
    "expiry is beyond time": {"exp": 10**30},
    "expiry is a list": {"exp": [_FAR]},
    "another's audience": {"aud": "billing"},
    "no audience": {"aud": None},
    "an empty audience": {"aud": ""},
    "an empty list of audiences": {"aud": []},
    "the audience as a key": {"aud": {"corral": True}},
    "a longer audience": {"aud": "corral-staging"},
    "an audience among what is no text": {"aud": [1, "corral"]},
    "another issuer": {"iss": "https://evil.example.com"},
    "an issuer with a slash more": {"iss": f"{ISSUER}/"},
    "issuers as a list": {"iss": [ISSUER]},
    "no issuer": {"iss": None},
    "not yet": {"nbf": _FAR},
    "not before is text": {"nbf": "0"},
    "made in the future": {"iat": _FAR},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is a number": {"sub": 7},
    "a subject that is far too long": {"sub": "x" * 513},
}


@pytest.mark.parametrize("why", _BAD_CLAIMS)
async def test_W5_a_token_with_bad_claims_opens_nothing(tmp_path: Path, why: str) -> None:
    tokens = JwtTokens.of([issuer(tmp_path, "RS256")])
    assert await caller_of(tokens, token("RS256", **_BAD_CLAIMS[why])) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["http://example.com/unknown"], "http://example.com/unknown": True},
        {"crit": []},
        {"crit": "exp"},
        {"crit": None},
        {"crit": ["b64"], "b64": True},
        {"b64": False, "crit": ["b64"]},
        {"b64": False},
        {"typ": "logout+jwt"},
        {"typ": ["JWT"]},
        {"kid": 7},
        {"kid": "x" * 513},
        {"alg": ["RS256"]},
        {"alg": None},
        {"alg": "rs256"},
    ],
    ids=str,
)
async def test_W5_a_token_with_a_header_that_is_not_understood_opens_nothing(
    tmp_path: Path, headers: dict[str, Any]
) -> None:
    tokens = JwtTokens.of([issuer(tmp_path, "RS256")])
    header = {"alg": "RS256", "typ": "JWT"}
    assert await caller_of(tokens, signed(claims(), RSA, header)) is not None
    signable = signed(
        claims(), RSA, {**header, **headers} if isinstance(headers.get("alg", ""), str) else header
    )
    if not isinstance(headers.get("alg", ""), str):
        signable = unsigned({**header, **headers}, claims(), b"x")
    assert await caller_of(tokens, signable) is None


async def test_W5_a_token_that_was_changed_or_cut_opens_nothing(tmp_path: Path) -> None:
    tokens = JwtTokens.of([issuer(tmp_path, "RS256")])
    good = token("RS256")
    head, body, signature = good.split(".")
    forged = base64.urlsafe_b64encode(json.dumps(claims(roles=["admin"])).encode()).rstrip(b"=").decode()
    for text in (
        *(
            f"{head}.{forged}.{signature}",
            f"{head}.{body}.",
            f"{head}.{body}",
            f"{head}.{body}.{signature}.x",
        ),
        *("", ".", "..", "...", f".{body}.{signature}", f"{head}..{signature}", f"{body}.{head}.{signature}"),
        *(f"{head}.{body}.{signature}=" * 2, f"{head}.{body}.{signature[:-2]}", f"\0{good}", f"{good}\n"),
        *(unsigned([], claims()), unsigned({"alg": "RS256"}, []), unsigned({"alg": "RS256"}, b"[" * 9999)),
    ):
        assert await caller_of(tokens, text) is None, text
    assert await caller_of(tokens, good) is not None


# --- attacks that succeed against a weaker verifier: so the tests above are of real attacks ---


@pytest.mark.parametrize("none", ["none", "None", "NONE", "nOnE"])
async def test_W5_a_token_without_a_signature_opens_only_a_verifier_that_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, none: str
) -> None:
    tokens = JwtTokens.of([issuer(tmp_path, "RS256")])
    attack = unsigned({"alg": none, "typ": "JWT"}, claims(roles=["admin"]))
    assert await caller_of(tokens, attack) is None
    assert await caller_of(tokens, unsigned({"alg": "RS256"}, claims())) is None
    monkeypatch.setattr(verifying, "_check_header", lambda *_: None)
    assert await caller_of(tokens, attack) is None, "the second lock: no key is for it"
    monkeypatch.setattr(verifying, "_fitting", lambda keys, _: keys)
    assert await caller_of(tokens, attack) is None, "the third: the library"
    monkeypatch.setattr(verifying, "_claims", _takes_none)
    caller = await caller_of(tokens, attack)
    assert caller is not None
    assert caller.role is Role.ADMIN


async def test_W5_the_public_key_is_a_secret_only_for_a_verifier_that_believes_the_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = JwtTokens.of([issuer(tmp_path, "RS256")])
    text = unsigned({"alg": "HS256", "typ": "JWT"}, claims(roles=["admin"])).rstrip(".")
    mac = hmac.digest(pem(RSA), text.encode(), sha256)
    attack = f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    assert await caller_of(tokens, attack) is None
    monkeypatch.setattr(verifying, "_check_header", lambda *_: None)
    monkeypatch.setattr(verifying, "_fitting", lambda keys, _: keys)
    assert await caller_of(tokens, attack) is None, "the library does not take this key for a secret"
    monkeypatch.setattr(verifying, "_claims", _believes_the_header)
    caller = await caller_of(tokens, attack)
    assert caller is not None
    assert caller.role is Role.ADMIN


async def test_W5_an_unknown_critical_extension_opens_only_a_verifier_that_ignores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = JwtTokens.of([issuer(tmp_path, "RS256")])
    attack = token("RS256", {"crit": ["bound-to"], "bound-to": "another machine"})
    assert await caller_of(tokens, attack) is None
    monkeypatch.setattr(verifying, "_check_header", lambda *_: None)
    monkeypatch.setattr("jwt.api_jws.PyJWS._supported_crit", {"bound-to"})
    assert await caller_of(tokens, attack) is not None


def _takes_none(text: str, *_: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
    return body


def _believes_the_header(text: str, key: Any, algorithm: str, _issuer: JwtIssuer) -> dict[str, Any]:
    assert algorithm == "HS256"
    signing, _, signature = text.rpartition(".")
    secret = pem_of(key.key)
    assert hmac.digest(secret, signing.encode(), sha256) == base64.urlsafe_b64decode(signature + "==")
    return _takes_none(text)


def pem_of(public: Any) -> bytes:
    """Return what a careless program would have read from the file."""
    return pem(type("Holder", (), {"public_key": lambda _: public})())


# --- issuers ---


async def test_W5_no_issuer_speaks_for_anothers_callers(tmp_path: Path) -> None:
    first = issuer(tmp_path, "RS256")
    second = issuer(
        tmp_path, "ES256", name="partner", issuer="https://partner.example.com", roles={"ops": "admin"}
    )
    tokens = JwtTokens.of([first, second])
    theirs = await caller_of(tokens, token("ES256", iss=second.issuer, roles=["ops"]))
    ours = await caller_of(tokens, token("RS256", roles=["ops"]))
    assert theirs is not None
    assert ours is not None
    assert (theirs.name, theirs.role) == ("jwt.partner.alice", Role.ADMIN)
    assert (ours.name, ours.role, ours.scopes) == ("jwt.corp.alice", None, frozenset())
    assert await caller_of(tokens, token("ES256")) is None, "signed by one, in the name of the other"
    for wrong in ({"name": "corp"}, {"issuer": ISSUER}):
        with pytest.raises(ValueError, match="two issuers"):
            no_two_alike((first, second.model_copy(update=wrong)))


@given(st.lists(st.text(max_size=80), min_size=2, max_size=2, unique=True))
def test_W5_no_two_subjects_have_one_name_and_every_name_is_a_labels_value(subjects: list[str]) -> None:
    names = [name_of("jwt.corp", subject) for subject in subjects]
    assert len(set(names)) == 2
    for name in names:
        assert len(name) <= 63
        assert name.replace("-", "").replace("_", "").replace(".", "").isascii()
        assert name[-1].isalnum()


def test_W5_names_of_the_two_forms_never_meet() -> None:
    hashed = name_of("jwt.corp", "auth0|alice")
    assert hashed.startswith("jwt.corp_")
    assert name_of("jwt.corp", hashed.removeprefix("jwt.corp_")).startswith("jwt.corp.")
    assert len({name_of("jwt.corp", subject) for subject in ("a" * 54, "a" * 55, "a" * 512, "A", "a")}) == 5


@pytest.mark.parametrize(
    ("says", "body", "expected"),
    [
        ({}, {"roles": ["viewer", "auditor"]}, SCOPES[Role.VIEWER] | SCOPES[Role.AUDITOR]),
        ({}, {"roles": "runner"}, SCOPES[Role.RUNNER]),
        ({}, {"roles": ["unheard-of", 7, None]}, frozenset()),
        ({}, {"roles": None}, frozenset()),
        ({"defaultRole": "viewer"}, {"roles": None}, SCOPES[Role.VIEWER]),
        ({"roleClaim": "realm_access.roles"}, {"realm_access": {"roles": ["runner"]}}, SCOPES[Role.RUNNER]),
        ({"roleClaim": "realm_access.roles"}, {"realm_access": ["roles"]}, frozenset()),
        ({"roleClaim": ["a.b", "c"]}, {"a.b": {"c": "runner"}}, SCOPES[Role.RUNNER]),
        (
            {"roleClaim": "https://x.example/roles"},
            {"https://x.example/roles": ["runner"]},
            SCOPES[Role.RUNNER],
        ),
        ({"roles": {"ops": "admin"}}, {"roles": ["ops"]}, SCOPES[Role.ADMIN]),
        (
            {"scopeClaim": "scope"},
            {"roles": None, "scope": "openid tasks:read audit:read"},
            frozenset({Scope.TASKS_READ, Scope.AUDIT_READ}),
        ),
    ],
)
def test_W5_a_claim_says_the_role(
    says: dict[str, Any], body: dict[str, Any], expected: frozenset[Scope]
) -> None:
    values = {
        "name": "corp",
        "issuer": ISSUER,
        "audiences": "corral",
        "algorithms": "HS256",
        "secret": SECRET,
    }
    of = JwtIssuer.model_validate({**values, **says, "grant": ["network"]})
    caller = caller_of_claims(claims(**body), of)
    assert caller.scopes == expected
    assert caller.reach.permissions == {PermissionLevel.NETWORK}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": ["HS256", "RS256"]}, "secret is for HS alone"),
        ({"algorithms": []}, "algorithms"),
        ({"secret": "short"}, "at least 32 bytes"),
        ({"algorithms": ["HS512"], "secret": "x" * 63}, "HS512, or too short"),
        ({"secret": None}, "exactly one of"),
        ({"jwksUrl": "https://x.example/keys"}, "exactly one of"),
        ({"secret": None, "jwksUrl": "https://x.example/keys"}, "jwksUrl is for RS, PS, ES and EdDSA alone"),
        (
            {"secret": None, "algorithms": "RS256", "jwksUrl": "http://x.example/keys"},
            "https, or http on the loop",
        ),
        (
            {"secret": None, "algorithms": "RS256", "jwksUrl": "ftp://127.0.0.1/keys"},
            "https, or http on the loop",
        ),
        ({"secret": None, "algorithms": "RS256", "publicKeyFile": "/nowhere.pem"}, "No such file"),
        ({"audiences": []}, "audiences"),
        ({"name": "a.b"}, "name"),
        ({"leewaySeconds": 3600}, "leewaySeconds"),
        ({"color": "red"}, "color"),
    ],
)
def test_W5_an_issuer_that_could_not_be_told_from_others_is_refused_by_field(
    wrong: dict[str, Any], message: str
) -> None:
    values = {
        "name": "corp",
        "issuer": ISSUER,
        "audiences": ["corral"],
        "algorithms": ["HS256"],
        "secret": SECRET,
    }
    JwtIssuer.model_validate({**values, "algorithms": ["HS256", "HS512"]})
    with pytest.raises(ValidationError, match=message) as refused:
        JwtIssuer.model_validate(values | wrong)
    assert SECRET not in str(refused.value)


def test_W5_a_key_that_is_weak_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    for algorithm, private, message in (
        ("RS256", weak, "2048 to 8192 bits"),
        ("ES256", PRIVATE["ES384"], "none for ES256"),
        ("RS256", PRIVATE["ES256"], "none for RS256"),
        ("ES256", ec.generate_private_key(ec.SECP256K1()), "no algorithm here takes"),
    ):
        with pytest.raises(ValidationError, match=message):
            issuer(tmp_path, algorithm, private)


# --- key sets ---


def _with_set(path: Path, data: bytes) -> tuple[JwtIssuer, KeySetFile]:
    path.write_bytes(data)
    values = {"name": "corp", "issuer": ISSUER, "audiences": "corral", "algorithms": ["RS256", "ES256"]}
    return JwtIssuer.model_validate(values | {"jwks_file": path}), KeySetFile(path, "corp")


async def test_W5_the_keys_of_a_set_are_told_apart_by_name_kind_and_use(tmp_path: Path) -> None:
    old = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file = tmp_path / "keys.json"
    of = _with_set(
        file,
        jwks(
            ("rsa", RSA, {}),
            ("curve", PRIVATE["ES256"], {"alg": "ES256"}),
            ("other-alg", old, {"alg": "PS256"}),
            ("encrypts", old, {"use": "enc"}),
            ("wraps", old, {"key_ops": ["wrapKey"]}),
        ),
    )
    tokens = JwtTokens([of])
    assert await caller_of(tokens, token("RS256", {"kid": "rsa"})) is not None
    assert await caller_of(tokens, token("ES256", {"kid": "curve"})) is not None
    assert await caller_of(tokens, token("RS256")) is not None, "no name: each that fits is tried"
    assert await caller_of(tokens, token("RS256", {"kid": "curve"})) is None
    for kid in ("other-alg", "encrypts", "wraps", "unknown"):
        assert await caller_of(tokens, signed(claims(), old, {"alg": "RS256", "kid": kid})) is None, kid
    file.write_bytes(jwks(("next", old, {})))
    assert await caller_of(tokens, signed(claims(), old, {"alg": "RS256", "kid": "next"})) is not None
    assert await caller_of(tokens, token("RS256", {"kid": "rsa"})) is None, "it was taken back"
    file.write_bytes(b"{}")
    assert await caller_of(tokens, signed(claims(), old, {"alg": "RS256", "kid": "next"})) is None


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b'{"keys": {}}', b'{"keys": []}', b'{"keys": [7, {}, {"kty": "RSA"}]}', b"[" * 9999],
)
def test_W5_what_is_no_key_set_is_refused_at_the_start(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValidationError):
        _with_set(tmp_path / "keys.json", data)


def test_W5_a_secret_in_a_key_set_is_no_key(tmp_path: Path) -> None:
    secret = base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")
    data = json.dumps({"keys": [{"kty": "oct", "k": secret, "alg": "HS256"}]}).encode()
    with pytest.raises(ValidationError, match="no public key"):
        _with_set(tmp_path / "keys.json", data)
