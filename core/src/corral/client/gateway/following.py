"""A task's events, read from one stream after the other."""

from corral.api import AgentTask, Reason, phase_of
from corral.client.gateway import answers, requests
from corral.client.gateway.conversation import CutError, Emit, Pause, Read, Talk
from corral.client.gateway.events import StreamReader, TaskFinished, event_of
from corral.client.gateway.retrying import Deadline, Sender

#: The gateway says something every 15 seconds, if only that it is still there.
SILENCE_SECONDS = 45.0
#: When nothing has come for so long, nothing more is there yet.
_QUIET_SECONDS = 1.0


def followed(sender: Sender, uid: str, after: int, deadline: Deadline, *, follow: bool = True) -> Talk[None]:
    """Emit a task's events after a number, each once and in order, through cuts and restarts of the gateway.

    Args:
        sender: opens the streams.
        uid: of the task.
        after: number of the last event that is known.
        deadline: of it all.
        follow: go on to the last event; else stop where nothing more comes for a moment.
    """
    last, tries, had_ended = after, 0, False
    silence = SILENCE_SECONDS if follow else _QUIET_SECONDS
    while True:
        before = last
        yield from sender.send(requests.task_events(uid, last), deadline, silence_seconds=silence, opens=True)
        reader = StreamReader()
        while True:
            try:
                data: bytes = yield Read()
            except CutError:
                break
            if not data:
                break
            deadline.at_most(silence)
            for sent in reader.feed(data):
                event = event_of(sent)
                if event.seq <= last:
                    continue
                last = event.seq
                yield Emit(event)
                if isinstance(event, TaskFinished):
                    return
        if not follow:
            return
        if last > before:
            tries = 0
            continue
        # A stream that ends without its last event was cut, or that event was lost with the gateway's process.
        task = answers.read_task((yield from sender.send(requests.get_task(uid), deadline)))
        if task.reason is not None and had_ended:
            if last > after or not after:
                yield Emit(_finish(task, last + 1))
            return
        had_ended = task.reason is not None
        tries += 1
        yield Pause(min(sender.backoff(tries), max(deadline.left, 0)))


def _finish(task: AgentTask, seq: int) -> TaskFinished:
    status = task.status
    assert status is not None
    reason = status.reason or Reason.SANDBOX_FAILED
    return TaskFinished(seq, status.phase or phase_of(reason), reason, status.message or "")
