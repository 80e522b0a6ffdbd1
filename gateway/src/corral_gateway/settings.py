"""What the gateway is told once, at its start, by the environment or a ``.env`` file."""

from pathlib import Path
from typing import Annotated

import limits
from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def _rate(text: str) -> str:
    """Refuse what is no rate, such as ``600/minute``."""
    limits.parse(text)
    return text


class Settings(BaseSettings):
    """Environment variables, read at start and frozen. A wrong one is refused with its name."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True)

    # --- where it listens ---
    host: str = "127.0.0.1"
    """HOST: address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """PORT: to listen on; 0 for a free one, which is printed."""

    metrics_port: Annotated[int, Field(ge=0, le=65535, alias="CORRAL_METRICS_PORT")] = 2113
    """CORRAL_METRICS_PORT: of Prometheus metrics, on the same address, open to whoever reaches it; 0: none."""

    # --- what it keeps ---
    data_directory: Annotated[Path, Field(alias="CORRAL_DATA_DIR")] = Path("data")
    """CORRAL_DATA_DIR: where the database lies."""

    # --- limits of requests ---
    max_request_size: Annotated[int, Field(ge=1024, le=64 << 20)] = 1 << 20
    """MAX_REQUEST_SIZE: bytes of a request's body."""

    rate_limit_caller: Annotated[str, AfterValidator(_rate), Field(alias="CORRAL_RATE_LIMIT_CALLER")] = (
        "600/minute"
    )
    """CORRAL_RATE_LIMIT_CALLER: requests of one caller."""
    rate_limit_global: Annotated[str, AfterValidator(_rate), Field(alias="CORRAL_RATE_LIMIT_GLOBAL")] = (
        "6000/minute"
    )
    """CORRAL_RATE_LIMIT_GLOBAL: requests of all callers together."""

    # --- limits of work ---
    concurrent_tasks: Annotated[int, Field(ge=1, le=10_000, alias="CORRAL_CONCURRENT_TASKS")] = 16
    """CORRAL_CONCURRENT_TASKS: that run at once on this machine; more wait."""
    waiting_tasks: Annotated[int, Field(ge=0, le=100_000, alias="CORRAL_WAITING_TASKS")] = 1000
    """CORRAL_WAITING_TASKS: that may wait; one more is refused at once."""
    waiting_sandboxes: Annotated[int, Field(ge=0, le=1000, alias="CORRAL_WAITING_SANDBOXES")] = 2
    """CORRAL_WAITING_SANDBOXES: kept started ahead of need."""

    @property
    def database_url(self) -> str:
        """Where SQLAlchemy finds the database."""
        return f"sqlite+aiosqlite:///{self.data_directory / 'corral.db'}"
