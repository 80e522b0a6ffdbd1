"""TLS for gRPC from files, read again for new connections when they have changed: certificates are renewed."""

import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

log = logging.getLogger(__name__)


class CertificateError(Exception):
    """The files are not what TLS needs."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where they are."""

    certificate: Path
    key: Path
    #: Of those whose certificates clients need; None: clients need none.
    client_ca: Path | None = None

    @property
    def _files(self) -> Sequence[Path]:
        return [file for file in (self.certificate, self.key, self.client_ca) if file is not None]

    def changed(self) -> tuple[int, ...]:
        """Return what is another when a file has changed."""
        return tuple(file.stat().st_mtime_ns for file in self._files)

    def check(self) -> None:
        """See whether key and certificate are one pair, and the authorities are some.

        Raises:
            CertificateError: they are not.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
        except (ssl.SSLError, OSError) as error:
            files = ", ".join(map(str, self._files))
            raise CertificateError(f"they cannot be used: {files}: {error}") from None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return what is in the files now."""
        pair = self.key.read_bytes(), self.certificate.read_bytes()
        authorities = None if self.client_ca is None else self.client_ca.read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], authorities)


def server_credentials(files: Certificates) -> grpc.ServerCredentials:
    """Return the credentials of a server.

    Raises:
        CertificateError: a file is not what it should be.
    """
    files.check()
    known = files.changed()

    def newest() -> grpc.ServerCertificateConfiguration | None:
        """Return what has changed since; None: nothing. A pair that is half written is left for the next time."""
        nonlocal known
        try:
            changed = files.changed()
            if changed == known:
                return None
            files.check()
            configuration = files.configuration()
        except (CertificateError, OSError):
            log.exception(
                "the certificates of gRPC have changed and cannot be used; the old ones are used on"
            )
            return None
        known = changed
        return configuration

    return grpc.dynamic_ssl_server_credentials(
        files.configuration(),
        newest,  # type: ignore[arg-type]  # None means "as before", which the stubs do not know
        require_client_authentication=files.client_ca is not None,
    )
