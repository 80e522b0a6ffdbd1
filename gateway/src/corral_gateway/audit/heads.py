"""Signed heads: with the key, nobody else can make a log that ends elsewhere and is believed.

They are kept in the database and in a file beside it, so that cutting the tables off shows. Copies kept elsewhere hold
even against somebody who can write to both and read the key.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from corral_gateway.audit.chain import Head, canonical

HeadKind = Literal["head", "removed"]


class SigningKeyError(Exception):
    """The file of the key cannot be read, or holds none."""


@dataclass(frozen=True, slots=True)
class SignedHead:
    """Where a log ended once, and who says so."""

    seq: int
    #: Of that record; hexadecimal.
    hash: str
    time: str
    #: ``removed``: the records up to this one were removed, as the policy says.
    kind: HeadKind
    #: Ed25519; hexadecimal.
    public_key: str
    signature: str

    @property
    def is_signed(self) -> bool:
        """The signature is of this, by that key. Whose key it is, is another question."""
        try:
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public_key))
            public.verify(bytes.fromhex(self.signature), _signed(self.seq, self.hash, self.time, self.kind))
        except (InvalidSignature, ValueError):
            return False
        return True

    def line(self) -> str:
        """Return it as a line of a file."""
        return canonical({"head": asdict(self)}) + "\n"


def head_of(said: Any) -> SignedHead | None:
    """Return the head that a line holds, as JSON; None: it holds none."""
    try:
        head = SignedHead(**said["head"])
    except (KeyError, TypeError):
        return None
    fields: dict[str, Any] = asdict(head)  # read from outside: anything may stand in any of them
    is_whole = isinstance(fields.pop("seq"), int) and all(isinstance(one, str) for one in fields.values())
    return head if is_whole else None


class SigningKey:
    """The key that heads are signed with."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def sign(self, head: Head, time: str, kind: HeadKind = "head") -> SignedHead:
        """Return a head with its signature."""
        signature = self._key.sign(_signed(head.seq, head.hash, time, kind)).hex()
        return SignedHead(head.seq, head.hash, time, kind, self.public, signature)


def read_or_make_key(path: Path) -> SigningKey:
    """Return the key of a file, made at the first time, for its owner alone.

    Raises:
        SigningKeyError: it cannot be read or made, or holds no Ed25519 key.
    """
    try:
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with contextlib.suppress(FileExistsError):
            _make(path, pem)
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SigningKeyError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise SigningKeyError(f"{path}: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyError(f"{path}: it holds a key of another kind than Ed25519")
    return SigningKey(key)


def public_key_of(path: Path) -> str:
    """Return the public part of a key, from its file, or from one that holds the 64 digits alone.

    Raises:
        SigningKeyError: it can be neither.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise SigningKeyError(f"{path}: {error}") from None
    if len(text) == 64 and set(text) <= set("0123456789abcdef"):
        return text
    return read_or_make_key(path).public


def _make(path: Path, content: bytes) -> None:
    """Make a file whole or not at all, also where two processes start at once."""
    if path.exists():
        return
    started = path.with_name(f".{path.name}.{os.getpid()}")
    file = os.open(started, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "wb") as writing:
            writing.write(content)
            writing.flush()
            os.fsync(writing.fileno())
        os.link(started, path)
    finally:
        started.unlink()


class HeadsFile:
    """The file of heads. Lines are added to it, never changed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, head: SignedHead) -> None:
        """Add a head; it survives a crash of the machine when this returns.

        Raises:
            OSError: it cannot be written.
        """
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(file).st_size
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            # One write: of two gateways on one file, each line is whole.
            os.write(file, (("\n" if torn else "") + head.line()).encode("ascii"))
            os.fsync(file)
        finally:
            os.close(file)

    def heads(self) -> Iterator[tuple[int, SignedHead | None]]:
        """Yield every line's number, from 1, and its head; None: it holds none, as when a crash tore it."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    said = json.loads(line)
                except ValueError:
                    said = None
                yield number, head_of(said)


def _signed(seq: int, digest: str, time: str, kind: str) -> bytes:
    return canonical(["corral audit head", seq, digest, time, kind]).encode("ascii")
