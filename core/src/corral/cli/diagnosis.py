"""``corral doctor``: the report on this machine, for people and for programs."""

import platform
from collections.abc import Iterator

from corral import __version__
from corral.cli.documents import document
from corral.cli.exits import Exit
from corral.cli.formats import Format
from corral.cli.terminal import Stream, Terminal
from corral.cli.visible import visible
from corral.sandbox.probe import Check, Report, State

_MARKS = {State.OK: ("✓", "green"), State.WEAKER: ("!", "yellow"), State.MISSING: ("✗", "red")}
_STATE_WIDTH = len(State.MISSING)


def show_report(
    report: Report,
    terminal: Terminal,
    style: Format,
    *,
    brief: bool,
    docker: tuple[bool, str] | None = None,
) -> Exit:
    """Write the report; return the exit status.

    Args:
        report: on one backend.
        terminal: where to.
        style: how.
        brief: one or two lines.
        docker: whether the Docker backend could be used as well, and what is there or missing.
    """
    if style is not Format.TABLE:
        wire = _wire(report)
        if docker is not None:
            wire["docker"] = {"usable": docker[0], "found": docker[1]}
        terminal.out.write(document(wire, style))
    elif brief:
        for line in _brief(report):
            terminal.out.line(visible(line))
    else:
        _show(report, terminal.out, docker)
    return Exit.SUCCEEDED if report.usable else Exit.NO_ISOLATION


def _brief(report: Report) -> Iterator[str]:
    machine = f"Corral {__version__} on Linux {platform.release()}"
    if not report.usable:
        missing = ", ".join(check.name for check in report.missing)
        yield f"{machine}: tasks cannot run here, and none will; missing: {missing}"
        yield "corral doctor tells what to do about it"
        return
    yield f"{machine}: each call runs behind {', '.join(report.isolation)}"
    if report.weaker:
        names = ", ".join(check.name for check in report.weaker)
        yield f"weaker than it could be: {names} (corral doctor tells more)"


def _show(report: Report, out: Stream, docker: tuple[bool, str] | None) -> None:
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        _show_check(check, out, width)
    out.line()
    if docker is not None:
        usable, found = docker
        state = "can be used" if usable else "cannot be used"
        out.line(out.wrap(visible(f"The Docker backend {state}: {found}"), 0))
        out.line()
    if not report.usable:
        out.line(
            out.paint("Tasks cannot run on this machine, and none will run without a sandbox.", "red", "bold")
        )
    elif report.weaker:
        out.line("Tasks run on this machine, isolated less than they could be.")
    else:
        out.line("Tasks run on this machine, with every layer of isolation.")


def _show_check(check: Check, out: Stream, width: int) -> None:
    mark, colour = _MARKS[check.state]
    label = out.paint(mark, colour) if out.is_terminal else check.state.ljust(_STATE_WIDTH)
    column = width + 4 + (1 if out.is_terminal else _STATE_WIDTH)
    indent = " " * column
    out.line(f"{label}  {check.name.ljust(width)}  {out.wrap(visible(check.found), column)}")
    if check.consequence:
        out.line(f"{indent}{out.paint(out.wrap(visible(check.consequence), column), 'dim')}")
    if check.remedy:
        first, *rest = visible(check.remedy).split("\n")
        out.line(f"{indent}{out.paint('remedy:', 'green')} {first}")
        for line in rest:
            # Not wrapped, not aligned with anything: these are lines to copy.
            out.line(f"{indent}  {line}")


def _wire(report: Report) -> dict[str, object]:
    checks = [
        {
            "name": check.name,
            "state": check.state.value,
            "found": check.found,
            "consequence": check.consequence,
            "remedy": check.remedy,
        }
        for check in report.checks
    ]
    return {"usable": report.usable, "isolation": list(report.isolation), "checks": checks}
