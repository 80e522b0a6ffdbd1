"""``corral whoami``: who the gateway takes one for."""

from collections.abc import Iterator

from corral.cli.documents import document
from corral.cli.formats import Format
from corral.cli.terminal import Terminal
from corral.cli.visible import visible
from corral.client.gateway import Identity

_LABEL_WIDTH = 13


def show_identity(identity: Identity, url: str, terminal: Terminal, style: Format) -> None:
    """Write who somebody is at the gateway of this URL."""
    if style is not Format.TABLE:
        terminal.out.write(document(identity.to_wire(), style))
        return
    out = terminal.out
    out.line(f"{out.paint(visible(identity.name), 'bold')}  {visible(f'at {url}')}")
    for label, text in _lines(identity):
        out.line(f"  {label + ':':<{_LABEL_WIDTH}} {out.wrap(visible(text), _LABEL_WIDTH + 3)}")


def _lines(identity: Identity) -> Iterator[tuple[str, str]]:
    if identity.role is not None:
        yield "role", identity.role
    yield "may", ", ".join(identity.scopes) or "nothing"
    if identity.granted_permissions:
        yield "permissions", ", ".join(identity.granted_permissions)
    if identity.tools is not None:
        yield "tools", ", ".join(identity.tools) or "none"
    yield "credential", " ".join(part for part in (identity.credential, identity.credential_id) if part)
    if identity.expires_at is not None:
        yield "until", identity.expires_at
    if identity.namespace is not None:
        yield "namespace", identity.namespace
