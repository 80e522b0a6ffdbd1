"""The tokens of runners."""

import hashlib
import hmac

import pytest

from corral.sandbox.pod.tokens import KEY_BYTES, PodTokens, runner_proof

KEY = bytes(range(KEY_BYTES))


def test_B13_an_operator_that_starts_anew_derives_the_same_tokens() -> None:
    # Written down, because the runners of pods that are there already know no others.
    assert PodTokens.of(KEY, "team", "box") == PodTokens(
        start="19a89ca8d1421cd7f79c09dfba76330b37c5bcc256e401360d12f3699f5725be",
        read="72606051b30ec26bb914291fe3cfb8925196570e5bc6fb501814a51c96780196",
    )


@pytest.mark.parametrize(
    "other",
    [
        PodTokens.of(b"k" * KEY_BYTES, "team", "box"),
        PodTokens.of(KEY, "team2", "box"),
        PodTokens.of(KEY, "team", "box2"),
    ],
)
def test_M5_no_two_pods_namespaces_or_keys_share_a_token(other: PodTokens) -> None:
    one = PodTokens.of(KEY, "team", "box")
    assert len({one.start, one.read, other.start, other.read}) == 4


def test_M5_the_pod_carries_hashes_from_which_no_token_follows() -> None:
    tokens = PodTokens.of(KEY, "team", "box")
    assert tokens.start_sha256 == hashlib.sha256(tokens.start.encode()).hexdigest()
    assert tokens.read_sha256 == hashlib.sha256(tokens.read.encode()).hexdigest()
    assert len({tokens.start, tokens.read, tokens.start_sha256, tokens.read_sha256}) == 4


def test_M5_a_proof_follows_from_the_hash_that_the_pod_carries_and_the_nonce_alone() -> None:
    tokens = PodTokens.of(KEY, "team", "box")
    proof = runner_proof(tokens.start_sha256, "nonce")
    assert proof == hmac.new(tokens.start_sha256.encode(), b"runner/nonce", "sha256").hexdigest()
    assert (
        len({proof, runner_proof(tokens.start_sha256, "other"), runner_proof(tokens.read_sha256, "nonce")})
        == 3
    )
