"""Requests that nobody should send: from the OpenAPI document (schemathesis), and by hand where that does not reach."""

import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral_gateway.identity.roles import Role
from integration.gateway.routes import ROUTES
from integration.gateway.running import CALCULATE, Gateway, problem
from integration.gateway.serving import CORRAL, serving
from integration.gateway.test_every_route import filled

#: What fits the document can still be wrong: a tool that there is not, arguments that do not fit it. What is not in it
#: is ignored: a parameter that nobody knows, the second of two credentials. DELETE ends a task, which stays to be seen.
_NOT_HELD = "positive_data_acceptance,negative_data_rejection,use_after_free"
_NONE = "00000000-0000-4000-8000-000000000000"


@pytest.mark.timeout(3600)
def test_M5_no_request_from_the_openapi_document_breaks_the_gateway_or_its_word(tmp_path: Path) -> None:
    """CORRAL_FUZZ_EXAMPLES says how many requests of each kind; CORRAL_FUZZ_SEED which ones."""
    examples = int(os.environ.get("CORRAL_FUZZ_EXAMPLES", "10"))
    seed = int(os.environ.get("CORRAL_FUZZ_SEED", str(random.SystemRandom().randrange(1 << 32))))
    with serving(
        tmp_path,
        RATE_LIMIT_ENABLED="false",
        CORRAL_FAILED_ATTEMPTS="1000000/minute",
        CORRAL_WAITING_SANDBOXES="0",
    ) as (url, log, _):
        (key,) = re.findall(r"corral_[0-9a-f]{12}_\S{43}", log.read_text())
        ended = subprocess.run(
            [
                *(CORRAL.with_name("schemathesis"), "run", f"{url}/openapi.json", "--no-color"),
                *("-H", f"X-API-Key: {key}", "--seed", str(seed), "--max-examples", str(examples)),
                *("--checks", "all", "--exclude-checks", _NOT_HELD),
                *("--request-timeout", "60", "--suppress-health-check", "all", "--continue-on-failure"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        print(f"CORRAL_FUZZ_SEED={seed}")
        assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr[-5_000:]
        assert int(re.findall(r"(\d+) generated", ended.stdout)[0]) > 20 * len(ROUTES), ended.stdout
        assert "Traceback" not in log.read_text()


def _bodies() -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "NUL", b"\0"
    yield "no UTF-8", b'{"tool": "\xff\xfe"}'
    yield "UTF-16", '{"tool": "calculator"}'.encode("utf-16")
    yield "a byte order mark", b'\xef\xbb\xbf{"tool": "calculator"}'
    yield "deep lists", b"[" * 100_000
    yield "deep objects", b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    yield "deep, and whole", b"[" * 5_000 + b"]" * 5_000
    for place in ("tool", "tool_name", "arguments", "parameters", "env", "steps", "labels"):
        for what, value in (
            ("a lone surrogate", r'"\ud800"'),
            ("NUL", r'"\u0000"'),
            ("a huge whole number", "9" * 5_000),
            ("a huge number", "1e400"),
            ("no number", "NaN"),
            ("a key that is a lone surrogate", r'{"\udfff": 1}'),
            ("deep", '{"a":' * 200 + "1" + "}" * 200),
            ("many", "[" + "0," * 20_000 + "0]"),
            ("the same key twice", '{"a": 1, "a": 2}'),
        ):
            body = f'{{"tool": "calculator", "tool_name": "calculator", "{place}": {value}}}'
            yield f"{place}: {what}", body.encode()
            yield f"spec.{place}: {what}", f'{{"kind": "AgentTask", "spec": {body}}}'.encode()


_HEADERS: tuple[dict[str, Any], ...] = (
    {"Idempotency-Key": "x" * 5_000},
    {"Idempotency-Key": b"\xff\xfe\x00"},
    {"Idempotency-Key": ""},
    {"Prefer": "wait=1e9999, respond-async, " * 50},
    {"Prefer": 'wait="'},
    {"Last-Event-ID": "9" * 5_000},
    {"Last-Event-ID": "-1"},
    {"Last-Event-ID": b"\xb2"},
    {"Content-Type": "multipart/form-data"},
    {"Content-Type": "multipart/form-data; boundary="},
    {"Content-Type": "application/json; charset=utf-7"},
    {"Content-Type": b"\xff/\xff"},
    {"Content-Encoding": "gzip"},
    {"Accept": "x/y"},
    {"Range": "bytes=9999999999999999999-1,-"},
    {"If-None-Match": "\x7f"},
    {"X-Request-ID": b"\xff" * 100},
    {"User-Agent": b"\xff\x1b[31m"},
    {"traceparent": "00-" + "z" * 32 + "-" + "0" * 16 + "-01"},
    {"Origin": "null"},
)
_QUERIES = (
    *("wait=-1s", "wait=1e999s", "wait=%00", "wait=NaN", "wait=" + "9" * 400 + "s"),
    *("limit=" + "9" * 5_000, "limit=%EF%BC%91", "after=%ff%fe", "after=bnVsbA", "after=" + "A" * 9_999),
    *("after=WyI5OTk5LTEyLTMxVDIzOjU5OjU5LTIzOjU5IiwgIiJd", "after=WyIwMDAxLTAxLTAxIiwiIl0"),
    *("tool=%00", "phase=%00", "reason=" + "x" * 9_999, "query=%00%ff", "max_results=1e3", "category=&tag="),
)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_M5_no_hostile_request_is_a_fault_of_the_gateway(
    gateway: Gateway, method: str, path: str
) -> None:
    entry = ROUTES[method, path]
    at = filled(path, entry, {"task": _NONE})
    gateway.services.entrance._limits._enabled = False
    async with await gateway.caller("someone", Role.ADMIN) as client:

        async def answers(what: str, url: str, **request: Any) -> None:
            answer = await client.request(method, url, **request)
            assert answer.status_code < 500, (what, answer.text)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json", (what, answer.text)

        if entry.body is not None:
            for what, body in _bodies():
                await answers(what, at, content=body)
        for headers in _HEADERS:
            more = {name: value for name, value in headers.items() if name != "Content-Type"}
            await answers(str(headers), at, headers=headers, json=entry.body if more else None)
        for query in _QUERIES:
            await answers(query, f"{at}?{query}", json=None)
        for name in (*entry.owned, *entry.shared):
            for odd in ("%00", "%ff", "%ED%A0%80", "..", "%2e%2e%2f", "x" * 5_000, "'", "%0d%0aX-Evil:%201"):
                held = path.replace(f"{{{name}:path}}", odd).replace(f"{{{name}}}", odd)
                await answers(odd, filled(held, entry, {"task": _NONE}), json=entry.body)


@pytest.mark.parametrize("number", [2**31 - 1, 2**31, 2**63, 2**90 - 1, 2**90])
async def test_M5_a_number_that_no_event_has_is_one_after_the_last(gateway: Gateway, number: int) -> None:
    async with await gateway.caller() as client:
        uid = (await client.post("/v1/tasks?wait=60s", json=CALCULATE)).json()["metadata"]["uid"]
        answer = await client.get(f"/v1/tasks/{uid}/events", headers={"Last-Event-ID": str(number)})
        if number < 2**90:
            assert (answer.status_code, answer.text) == (200, "")
        else:
            assert problem(answer) == (422, "InvalidRequest")
