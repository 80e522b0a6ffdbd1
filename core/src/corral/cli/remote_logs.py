"""``corral logs``: what a task at a gateway prints."""

from typing import TYPE_CHECKING

from corral.api import Reason
from corral.cli.exits import Exit
from corral.cli.live import LiveOutput
from corral.cli.remote_tasks import find_task
from corral.cli.summary import explain, print_explanation
from corral.cli.terminal import Terminal
from corral.cli.visible import visible
from corral.client.gateway.events import frame_of

if TYPE_CHECKING:
    from corral.client.gateway import GatewayClient


def print_logs(client: "GatewayClient", reference: str, terminal: Terminal, *, follow: bool) -> int:
    """Write what a task has printed, each stream to its own; with ``follow`` to the task's end.

    Returns:
        The exit status: with ``follow`` that of the task.

    Raises:
        NotFoundError: there is no such task.
        ReaderGoneError: nobody reads any more.
    """
    task = find_task(client, reference)
    uid = task.metadata.uid or ""
    live = LiveOutput(terminal, lambda *_: None, names_steps=bool(task.spec.steps))
    for event in client.events(uid, follow=follow):
        frame = frame_of(event)
        if frame is not None:
            live.frame(0, *frame)
    live.finished(0, task)
    live.end_line(terminal.err)
    if not follow:
        return Exit.SUCCEEDED
    ended = client.get(uid)
    if ended.succeeded:
        return Exit.SUCCEEDED
    if ended.reason is Reason.CANCELLED:
        message = ended.status.message if ended.status is not None else None
        terminal.err.line(f"{terminal.err.paint('cancelled:', 'yellow', 'bold')} {visible(message or '')}")
    else:
        print_explanation(terminal.err, list(explain(ended, by_name=False)))
    return Exit.FAILED
