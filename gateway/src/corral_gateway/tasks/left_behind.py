"""What a process that is gone left in the database: tasks that it took in and did not end."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from corral.api import AgentTask, AgentTaskStatus, Condition, ConditionStatus, Phase, Reason, time_text
from corral_gateway.storage.database import Database
from corral_gateway.storage.models import EventRow, TaskRow
from corral_gateway.tasks.events import Event, of_end
from corral_gateway.tasks.rows import event_values, expiry, task_of_row


async def take_over(database: Database, owner: str, retention_days: int) -> Sequence[TaskRow]:
    """Look at what this gateway took in, and not at what others that share the database run now.

    Say of what had begun how it ended: its sandbox went with its process. It may have run, so it runs never again.

    Returns:
        What had not begun, oldest first: it was promised to run.
    """
    waiting: list[TaskRow] = []
    async with database.writing() as session:
        unended = TaskRow.phase.in_([Phase.PENDING, Phase.RUNNING])
        # Of several gateways that start at once, one gets what was nobody's.
        await session.execute(update(TaskRow).where(unended, TaskRow.owner.is_(None)).values(owner=owner))
        left = select(TaskRow).where(unended, TaskRow.owner == owner)
        for row in await session.scalars(left.order_by(TaskRow.created_at, TaskRow.uid)):
            if row.phase == Phase.PENDING:
                waiting.append(row)
            else:
                message = "the gateway ended while the task ran; its sandbox ended with it"
                await _end(session, row, message, retention_days)
    return waiting


async def _end(session: AsyncSession, row: TaskRow, message: str, retention_days: int) -> None:
    task = failed(task_of_row(row), message)
    row.manifest, row.phase, row.reason = task.to_wire(), Phase.FAILED, Reason.SANDBOX_FAILED
    row.expires_at = expiry(task, retention_days)
    # Nobody was told of an event that is not here: this number is new to everybody.
    last = await session.scalar(select(func.max(EventRow.seq)).where(EventRow.task_uid == row.uid))
    session.add(EventRow(**event_values(row.uid, Event((last or 0) + 1, *of_end(task)))))


def failed(task: AgentTask, message: str) -> AgentTask:
    """Return a task that ends for what is no fault of its own. What is known of it so far is kept."""
    before = task.status or AgentTaskStatus()
    reason, now = Reason.SANDBOX_FAILED, time_text(datetime.now(UTC))
    changes = {"phase": Phase.FAILED, "reason": reason, "message": message}
    finished = Condition(
        type="Finished",
        status=ConditionStatus.TRUE,
        reason=reason.value,
        message=message,
        last_transition_time=now,
    )
    status = before.model_copy(
        update={
            **changes,
            "conditions": (*before.conditions, finished),
            "executions": tuple(
                one if one.reason is not None else one.model_copy(update=changes) for one in before.executions
            ),
            "completion_time": now,
        }
    )
    return task.model_copy(update={"status": status})
