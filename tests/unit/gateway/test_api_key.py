"""API keys: what is shown once, what is kept, and when one opens nothing."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_gateway.identity.api_key import make_key, split_key
from corral_gateway.identity.roles import SCOPES, Role, Scope

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_M5_a_key_proves_itself_until_it_ends() -> None:
    key, text = make_key("someone", Role.RUNNER, NOW, NOW + timedelta(days=1))
    parts = split_key(text)
    assert parts is not None
    prefix, secret = parts
    assert prefix == key.prefix
    assert key.refusal(secret, NOW) is None
    assert key.refusal(secret, NOW + timedelta(days=1)) == "expired"
    assert key.refusal("x" * 43, NOW) == "wrong secret"


def test_M5_keys_are_long_and_never_alike() -> None:
    texts = {make_key("someone", Role.RUNNER, NOW)[1] for _ in range(100)}
    assert len(texts) == 100
    assert {len(text.split("_", 2)[2]) for text in texts} == {43}  # 256 bits


@given(st.text(max_size=80))
def test_M5_no_text_but_a_key_is_taken_for_one(text: str) -> None:
    assert split_key(text) is None


@pytest.mark.parametrize("role", Role)
def test_M5_every_role_has_scopes_and_only_an_admin_has_all(role: Role) -> None:
    assert (SCOPES[role] == frozenset(Scope)) is (role is Role.ADMIN)
    assert Scope.TASKS_READ in SCOPES[role]
