"""M5, W5: callers with tokens, through the whole gateway; keys of issuers come from a real endpoint."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from corral_gateway.identity.roles import Role
from corral_gateway.settings import Settings
from integration.gateway.running import CALCULATE, Gateway, gateway_in, problem
from integration.gateway.serving import corral
from unit.gateway.tokens import ISSUER, PRIVATE, RSA, SECRET, claims, jwks, signed, token

SHARED = {"name": "corp", "issuer": ISSUER, "audiences": "corral", "algorithms": "HS256", "secret": SECRET}


class _Server(ThreadingHTTPServer):
    answer: tuple[int, bytes, dict[str, str]] = (200, b"", {})
    asked = 0


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        server.asked += 1
        status, body, headers = server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def endpoint(body: bytes) -> Iterator[_Server]:
    """Serve a key set."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.answer = (200, body, {})
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def _status(gateway: Gateway, text: str, path: str = "/v1/whoami") -> int:
    async with gateway.http() as client:
        return (await client.get(path, headers={"Authorization": f"Bearer {text}"})).status_code


async def test_W5_a_token_is_a_caller_with_tasks_of_its_own(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_JWT_ISSUERS=[SHARED]) as gateway:
        async with gateway.http() as alice, gateway.http() as bob:
            alice.headers["Authorization"] = f"Bearer {token('HS256')}"
            bob.headers["Authorization"] = f"Bearer {token('HS256', sub='bob', roles=['viewer'])}"
            task = (await alice.post("/v1/tasks?wait=60s", json=CALCULATE)).json()
            assert task["metadata"]["labels"]["corral.dev/caller"] == "jwt.corp.alice"
            uid = task["metadata"]["uid"]
            assert problem(await bob.get(f"/v1/tasks/{uid}")) == (404, "TaskNotFound")
            assert problem(await bob.post("/v1/tasks", json=CALCULATE)) == (403, "Forbidden")
            who = (await alice.get("/v1/whoami")).json()
            assert (who["name"], who["role"], who["credential"]) == ("jwt.corp.alice", "runner", "jwt")
        async with gateway.http(token("HS256")) as client:
            assert problem(await client.get("/v1/whoami")) == (401, "Unauthenticated"), (
                "X-API-Key is for keys"
            )
        async with await gateway.caller("alice", Role.ADMIN) as namesake:
            assert problem(await namesake.get(f"/v1/tasks/{uid}")) == (404, "TaskNotFound")


async def test_W5_keys_rotate_while_the_gateway_serves_and_serve_on_while_their_endpoint_is_down(
    tmp_path: Path,
) -> None:
    following = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with endpoint(jwks(("one", RSA, {}))) as server:
        issuer = {
            "name": "corp",
            "issuer": ISSUER,
            "audiences": ["corral"],
            "algorithms": ["RS256"],
            "jwksUrl": f"http://127.0.0.1:{server.server_port}/keys",
            "refetchSeconds": 60,
        }
        async with gateway_in(tmp_path, CORRAL_JWT_ISSUERS=[issuer]) as gateway:
            old = token("RS256", {"kid": "one"})
            new = signed(claims(), following, {"alg": "RS256", "kid": "two"})
            assert (await _status(gateway, old), await _status(gateway, new)) == (200, 401)
            server.answer = (200, jwks(("one", RSA, {}), ("two", following, {})), {})
            (source,) = _sources(gateway)
            source._tried = float("-inf")  # the pause between two fetches is over
            assert (await _status(gateway, new), await _status(gateway, old)) == (200, 200)
            server.answer = (500, b"", {})
            source._loaded = source._tried = source._clock() - 301
            _verifier(gateway)._remembered.forget()
            assert (await _status(gateway, new), await _status(gateway, old)) == (200, 200)
            source._loaded = source._clock() - 4000
            _verifier(gateway)._remembered.forget()  # ten seconds later
            assert await _status(gateway, new) == 503
        assert server.asked <= 5


@pytest.mark.parametrize("answer", ["redirect", "endless", "error"])
async def test_W5_an_endpoint_that_answers_oddly_is_one_that_is_down(tmp_path: Path, answer: str) -> None:
    with endpoint(jwks(("one", RSA, {}))) as real, endpoint(b"") as odd:
        odd.answer = {
            "redirect": (302, b"", {"Location": f"http://127.0.0.1:{real.server_port}/"}),
            "endless": (200, jwks(("one", RSA, {})) + b" " * (1 << 20), {}),
            "error": (404, jwks(("one", RSA, {})), {}),
        }[answer]
        issuer = {
            "name": "corp",
            "issuer": ISSUER,
            "audiences": ["corral"],
            "algorithms": ["RS256"],
            "jwksUrl": f"http://127.0.0.1:{odd.server_port}/keys",
        }
        async with gateway_in(tmp_path, CORRAL_JWT_ISSUERS=[issuer]) as gateway:
            assert await _status(gateway, token("RS256", {"kid": "one"})) == 503
            async with await gateway.caller() as client:
                assert (await client.get("/v1/whoami")).status_code == 200, "keys of the gateway work on"
        assert real.asked == 0


async def test_W5_what_a_token_says_of_itself_is_never_fetched_nor_believed(tmp_path: Path) -> None:
    evil = PRIVATE["ES256"]
    with endpoint(jwks(("evil", evil, {}))) as server:
        url = f"http://127.0.0.1:{server.server_port}/keys"
        header = {"alg": "ES256", "kid": "evil", "jku": url, "x5u": url}
        header["jwk"] = json.loads(jwks(("evil", evil, {})))["keys"][0]
        issuer = {**SHARED, "algorithms": ["RS256"], "secret": None, "jwksFile": str(tmp_path / "keys.json")}
        (tmp_path / "keys.json").write_bytes(jwks(("good", RSA, {})))
        async with gateway_in(tmp_path, CORRAL_JWT_ISSUERS=[issuer]) as gateway:
            for algorithm in ("ES256", "RS256"):
                text = signed(claims(), PRIVATE[algorithm], {**header, "alg": algorithm})
                assert await _status(gateway, text) == 401
            for kid in ("../../etc/passwd", "' OR 1=1 --", "\0", "/dev/null"):
                text = signed(claims(), evil, {"alg": "ES256", "kid": kid})
                assert await _status(gateway, text) == 401
            assert await _status(gateway, token("RS256", {"kid": "good", "jku": url})) == 200
        assert server.asked == 0


async def test_W5_why_a_token_is_refused_is_for_the_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expired, unknown = token("HS256", exp=1), token("HS256", iss="https://x.example")
    async with gateway_in(tmp_path, CORRAL_JWT_ISSUERS=[SHARED]) as gateway, gateway.http() as client:
        answers = set()
        for text in (expired, unknown, f"{expired}x", "x" * 40_000, "x.y.z"):
            answer = await client.get("/v1/whoami", headers={"Authorization": f"Bearer {text}"})
            assert problem(answer) == (401, "Unauthenticated")
            assert answer.headers["www-authenticate"] == 'Bearer realm="corral", error="invalid_token"'
            answers.add(answer.json()["detail"])
        assert answers == {"this credential is not valid"}
    assert "Signature has expired" in caplog.text
    for text in (expired, unknown, SECRET):
        assert text not in caplog.text


def test_W5_an_issuer_that_is_wrong_is_refused_by_the_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRAL_JWT_ISSUERS", json.dumps([{**SHARED, "algorithms": ["none"]}]))
    with pytest.raises(ValidationError, match="CORRAL_JWT_ISSUERS"):
        Settings(_env_file=None)
    ended = corral(tmp_path, "serve")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "CORRAL_JWT_ISSUERS" in ended.stderr
    assert SECRET not in ended.stderr
    monkeypatch.setenv("CORRAL_JWT_ISSUERS", json.dumps([SHARED]))
    shown = corral(tmp_path, "config").stdout
    assert "corp=https://login.example.com" in shown
    assert SECRET not in shown


def _verifier(gateway: Gateway) -> Any:
    (verifier,) = (
        one for one in gateway.services.entrance._authentication._bearer if hasattr(one, "_issuers")
    )
    return verifier


def _sources(gateway: Gateway) -> list[Any]:
    return [source for _, source in _verifier(gateway)._issuers.values()]
