"""Which backends the tests run against; what is left out is said at the end, never passed over."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A slow machine is no finding: what one example may take is the time that its test may.
settings.register_profile("corral", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("corral")

# Gateways of tests take no port that another run on this machine may have; tests of gRPC ask for a free one.
os.environ.setdefault("CORRAL_GRPC_PORT", "0")

# A shell that starts this in the background has it ignore Ctrl-C, and so would every program that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Those that need nothing but this machine, and those that need a daemon.
HERE = ("embedded",)
ELSEWHERE = {"docker": "make test-docker"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        action="append",
        choices=(*HERE, *ELSEWHERE),
        help="Run the contract tests against this backend, and its own tests. Repeatable; embedded without it.",
    )


def chosen_backends(config: pytest.Config) -> tuple[str, ...]:
    """Return the backends of this run."""
    return tuple(config.getoption("backend") or HERE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the tests of a backend out that was not asked for."""
    left_out = set(ELSEWHERE) - set(chosen_backends(config))
    return (
        True
        if collection_path.is_dir()
        and f"integration/{collection_path.name}"
        in {f"{collection_path.parent.name}/{name}" for name in left_out}
        else None
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what did not run."""
    for name in sorted(set(ELSEWHERE) - set(chosen_backends(terminalreporter.config))):
        terminalreporter.write_line(
            f"left out: everything on the {name} backend ({ELSEWHERE[name]})", yellow=True
        )
