"""What the gateway is told once, at its start, by the environment or a ``.env`` file."""

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import limits
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from corral.api import Limits, PermissionLevel
from corral_gateway.budgets.budget import Budget
from corral_gateway.identity.jwt.issuer import JwtIssuer, no_two_alike
from corral_gateway.rates.rules import routes_of
from corral_gateway.rates.shared import store_uri
from corral_gateway.storage.urls import driver_url
from corral_gateway.tools.registry import MOST_TOOLS


def _rate(text: str) -> str:
    """Refuse what is no rate, such as ``600/minute``."""
    limits.parse(text)
    return text


def _listed(text: object) -> object:
    """Split ``a, b`` into its words; an empty text is an empty list."""
    return [word.strip() for word in text.split(",") if word.strip()] if isinstance(text, str) else text


def _directory(path: Path) -> Path:
    """Return a directory's own path, and refuse what is none."""
    if not path.is_dir():
        raise ValueError(f"{path} is not a directory; `mkdir -p {path}` makes it")
    return path.resolve()


def _origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse what is no origin as browsers send it."""
    for origin in origins:
        if origin != "*" and re.fullmatch(r"https?://[^/?#@\s]+", origin) is None:
            raise ValueError(f"{origin!r} is no origin, such as http://localhost:3000")
    return origins


def _routes(text: str) -> str:
    """Refuse what names no routes with their rates."""
    routes_of(text)
    return text


def _store(url: SecretStr) -> SecretStr:
    """Refuse what is no URL of a store."""
    if url.get_secret_value():
        store_uri(url.get_secret_value())
    return url


def _file(path: Path) -> Path:
    """Return a file's own path, and refuse what is none."""
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    return path.resolve()


#: As many characters as 128 random bits have, and longer than the placeholder of the documents.
_SHORTEST_KEY = 32


def _blank(text: object) -> object:
    """Take a line ``NAME=`` of a ``.env`` file for one that is not there."""
    return None if text == "" else text


def _long_key(key: SecretStr | None) -> SecretStr | None:
    """Refuse a key that somebody could guess."""
    if key is not None and len(key.get_secret_value()) < _SHORTEST_KEY:
        raise ValueError(
            f"a key has at least {_SHORTEST_KEY} characters; `openssl rand -hex 32` prints a good one"
        )
    return key


def _database(url: SecretStr | None) -> SecretStr | None:
    """Refuse what is no URL of a database that is known here, without repeating it."""
    if url is not None:
        driver_url(url.get_secret_value())
    return url


class Settings(BaseSettings):
    """Environment variables, read at start and frozen. A wrong one is refused with its name."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,  # `corral config` shows them
        hide_input_in_errors=True,  # it may be a secret
    )

    # --- where it listens ---
    host: str = "127.0.0.1"
    """HOST: address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """PORT: to listen on; 0 for a free one, which is printed."""

    metrics_port: Annotated[int, Field(ge=0, le=65535, alias="CORRAL_METRICS_PORT")] = 2113
    """CORRAL_METRICS_PORT: of Prometheus metrics, on the same address, open to whoever reaches it; 0: none."""

    # --- how it ends ---
    drain_seconds: Annotated[float, Field(ge=0, le=300, alias="CORRAL_DRAIN_SECONDS")] = 0
    """CORRAL_DRAIN_SECONDS: told to end, it says so long that it is not ready, and takes everything in still."""
    grace_seconds: Annotated[float, Field(ge=0, le=3600, alias="CORRAL_GRACE_SECONDS")] = 30
    """CORRAL_GRACE_SECONDS: after that, tasks that run and requests that wait have so long to end."""

    # --- where tasks run ---
    executor: Annotated[Literal["embedded", "cluster"], Field(alias="CORRAL_EXECUTOR")] = "embedded"
    """CORRAL_EXECUTOR: ``embedded``, sandboxes on this machine; ``cluster``, AgentTasks that an operator runs."""
    namespace: Annotated[str | None, Field(alias="CORRAL_NAMESPACE")] = None
    """CORRAL_NAMESPACE: of tasks in a cluster, perhaps with {caller} in it; unset: the gateway's own, or default."""
    caller_namespaces: Annotated[dict[str, str], Field(alias="CORRAL_CALLER_NAMESPACES")] = {}
    """CORRAL_CALLER_NAMESPACES: of callers with others, as JSON: {"ann": "a", "system:serviceaccount:b:*": "b"}."""
    watch_namespaces: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_listed), Field(alias="CORRAL_WATCH_NAMESPACES")
    ] = ()
    """CORRAL_WATCH_NAMESPACES: whose tasks are watched; *: all; empty: those that callers are mapped to."""
    operator_namespace: Annotated[str | None, Field(alias="CORRAL_OPERATOR_NAMESPACE")] = None
    """CORRAL_OPERATOR_NAMESPACE: where the operator's runner key is; unset: the gateway's own namespace."""

    # --- what it tells ---
    debug: bool = False
    """DEBUG: log also what is of interest only to who looks for a fault."""
    log_format: Annotated[Literal["text", "json"], Field(alias="CORRAL_LOG_FORMAT")] = "text"
    """CORRAL_LOG_FORMAT: ``text`` for people, ``json`` for programs."""
    traces_endpoint: Annotated[str | None, Field(alias="OTEL_EXPORTER_OTLP_ENDPOINT")] = None
    """OTEL_EXPORTER_OTLP_ENDPOINT: where traces go, over HTTP; unset: nowhere."""

    # --- gRPC ---
    grpc_port: Annotated[int, Field(ge=0, le=65535, alias="CORRAL_GRPC_PORT")] = 50051
    """CORRAL_GRPC_PORT: of gRPC, on the same address; 0: none."""
    grpc_tls_certificate: Annotated[
        Annotated[Path, AfterValidator(_file)] | None, Field(alias="CORRAL_GRPC_TLS_CERT")
    ] = None
    """CORRAL_GRPC_TLS_CERT: PEM file with the server's certificate and its chain; unset: gRPC without TLS."""
    grpc_tls_key: Annotated[
        Annotated[Path, AfterValidator(_file)] | None, Field(alias="CORRAL_GRPC_TLS_KEY")
    ] = None
    """CORRAL_GRPC_TLS_KEY: PEM file with the certificate's private key."""
    grpc_tls_client_ca: Annotated[
        Annotated[Path, AfterValidator(_file)] | None, Field(alias="CORRAL_GRPC_TLS_CLIENT_CA")
    ] = None
    """CORRAL_GRPC_TLS_CLIENT_CA: PEM file; whoever has no certificate of these authorities cannot even connect."""
    grpc_reflection: Annotated[
        Literal["open", "authenticated", "off"], Field(alias="CORRAL_GRPC_REFLECTION")
    ] = "open"
    """CORRAL_GRPC_REFLECTION: who may ask which services and messages there are, which is what the pages say too."""
    grpc_streams: Annotated[int, Field(ge=1, le=10_000, alias="CORRAL_GRPC_STREAMS")] = 100
    """CORRAL_GRPC_STREAMS: calls at once of one connection; more wait in the client."""

    # --- what it keeps ---
    data_directory: Annotated[Path, Field(alias="CORRAL_DATA_DIR")] = Path("data")
    """CORRAL_DATA_DIR: where the database lies."""
    artifacts_url: Annotated[str, Field(alias="CORRAL_ARTIFACTS_URL")] = "artifacts"
    """CORRAL_ARTIFACTS_URL: where what is too large for a status is kept: a path, taken from the data directory, or a
    URL such as s3://bucket/prefix; empty: nowhere, and it is refused."""
    artifacts_task_size: Annotated[int, Field(ge=1024, le=1 << 40, alias="CORRAL_ARTIFACTS_TASK_SIZE")] = (
        256 << 20
    )
    """CORRAL_ARTIFACTS_TASK_SIZE: bytes that one task may have there."""
    artifacts_free_space: Annotated[int, Field(ge=0, le=1 << 60, alias="CORRAL_ARTIFACTS_FREE_SPACE")] = (
        256 << 20
    )
    """CORRAL_ARTIFACTS_FREE_SPACE: bytes that stay free of the disk with a directory of artifacts; 0: none."""
    task_retention_days: Annotated[int, Field(ge=0, le=36500, alias="CORRAL_TASK_RETENTION_DAYS")] = 30
    """CORRAL_TASK_RETENTION_DAYS: an ended task and all of it is kept so long, if it says nothing itself; 0: always."""
    result_cache_size: Annotated[int, Field(ge=0, le=1 << 32, alias="CORRAL_RESULT_CACHE_SIZE")] = 16 << 20
    """CORRAL_RESULT_CACHE_SIZE: bytes of memory for results that may be used again; 0: none are."""

    tool_history: Annotated[int, Field(ge=1, le=1000, alias="CORRAL_TOOL_HISTORY")] = 20
    """CORRAL_TOOL_HISTORY: versions of a registered tool that are kept, besides those that tasks may still run."""
    tools_caller: Annotated[int, Field(ge=0, le=1000, alias="CORRAL_TOOLS_CALLER")] = 0
    """CORRAL_TOOLS_CALLER: registered tools of one caller; 0: a quarter of all, which are 1,000."""

    database: Annotated[SecretStr | None, AfterValidator(_database), Field(alias="CORRAL_DATABASE_URL")] = (
        None
    )
    """CORRAL_DATABASE_URL: postgresql://user:password@host/name, for replicas; unset: SQLite in that directory."""

    # --- who may ---
    first_key: Annotated[bool, Field(alias="CORRAL_FIRST_KEY")] = True
    """CORRAL_FIRST_KEY: the first start makes an admin's key and prints it; false: `corral keys create` makes it."""

    # --- what tasks may do ---
    blocked_permissions: Annotated[frozenset[PermissionLevel], NoDecode, BeforeValidator(_listed)] = (
        frozenset({PermissionLevel.NETWORK, PermissionLevel.SYSTEM, PermissionLevel.ADMIN})
    )
    """BLOCKED_PERMISSIONS: no tool that needs one of these runs here; a comma-separated list."""
    workspace_root: Annotated[Path, AfterValidator(_directory)] | None = None
    """WORKSPACE_ROOT: where tasks without ``workspace`` work, all callers' in the same; unset: each in a fresh one."""
    secrets_directory: Annotated[
        Annotated[Path, AfterValidator(_directory)] | None, Field(alias="CORRAL_SECRETS")
    ] = None
    """CORRAL_SECRETS: where ``secretRefs`` are found, as CALLER/NAME/KEY; no caller sees another's."""

    # --- who may ---
    agent_api_key: Annotated[SecretStr | None, BeforeValidator(_blank), AfterValidator(_long_key)] = None
    """AGENT_API_KEY: a key of a caller ``agent-api-key`` with the role runner, besides those in the database."""
    kubernetes_tokens: Annotated[bool, Field(alias="CORRAL_KUBERNETES_TOKENS")] = False
    """CORRAL_KUBERNETES_TOKENS: tokens of the cluster open it, to what their owners could do with kubectl."""
    kubernetes_audiences: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_listed), Field(alias="CORRAL_KUBERNETES_AUDIENCES")
    ] = ()
    """CORRAL_KUBERNETES_AUDIENCES: those tokens are for one of these; empty: for the API server itself."""
    failed_attempts: Annotated[str, AfterValidator(_rate), Field(alias="CORRAL_FAILED_ATTEMPTS")] = (
        "60/minute"
    )
    """CORRAL_FAILED_ATTEMPTS: credentials of one address that are not valid; more are answered with 429."""

    jwt_issuers: Annotated[
        tuple[JwtIssuer, ...], AfterValidator(no_two_alike), Field(alias="CORRAL_JWT_ISSUERS")
    ] = ()
    """CORRAL_JWT_ISSUERS: who may sign tokens, as a JSON list; see ``identity.jwt.issuer``."""

    tool_registration: Annotated[bool, Field(alias="CORRAL_TOOL_REGISTRATION")] = True
    """CORRAL_TOOL_REGISTRATION: false: nobody registers tools through it, whatever their role."""

    # --- what it records ---
    audit_arguments: Annotated[Literal["hash", "keep"], Field(alias="CORRAL_AUDIT_ARGUMENTS")] = "hash"
    """CORRAL_AUDIT_ARGUMENTS: of arguments and output, keep a hash, or themselves with secrets masked."""
    audit_key: Annotated[Path | None, Field(alias="CORRAL_AUDIT_KEY")] = None
    """CORRAL_AUDIT_KEY: file of the key that signs; unset: audit.key in the data directory, made at the first start."""
    audit_head_records: Annotated[int, Field(ge=1, le=1_000_000, alias="CORRAL_AUDIT_HEAD_RECORDS")] = 1000
    """CORRAL_AUDIT_HEAD_RECORDS: after so many records their end is signed."""
    audit_head_seconds: Annotated[float, Field(ge=1, le=86400, alias="CORRAL_AUDIT_HEAD_SECONDS")] = 60
    """CORRAL_AUDIT_HEAD_SECONDS: after so long at the latest."""
    audit_days: Annotated[int, Field(ge=0, le=36500, alias="CORRAL_AUDIT_DAYS")] = 0
    """CORRAL_AUDIT_DAYS: records are removed when they are older; 0: never."""

    # --- limits of requests ---
    max_request_size: Annotated[int, Field(ge=1024, le=64 << 20)] = 1 << 20
    """MAX_REQUEST_SIZE: bytes of a request's body."""
    upload_size: Annotated[int, Field(ge=1024, le=1 << 34, alias="CORRAL_UPLOAD_SIZE")] = 64 << 20
    """CORRAL_UPLOAD_SIZE: bytes of a request that brings a task's files as multipart/form-data."""

    max_connections: Annotated[int, Field(ge=1, le=100_000, alias="CORRAL_MAX_CONNECTIONS")] = 2000
    """CORRAL_MAX_CONNECTIONS: open at once, of HTTP and of gRPC each; one more is closed, over HTTP answered 503."""
    address_connections: Annotated[int, Field(ge=0, le=100_000, alias="CORRAL_ADDRESS_CONNECTIONS")] = 0
    """CORRAL_ADDRESS_CONNECTIONS: of HTTP, open at once from one address that is no trusted proxy's; 0: half of all."""
    open_requests_caller: Annotated[int, Field(ge=0, le=100_000, alias="CORRAL_OPEN_REQUESTS_CALLER")] = 0
    """CORRAL_OPEN_REQUESTS_CALLER: of one caller, HTTP and gRPC together; 0: half of CORRAL_MAX_CONNECTIONS."""
    slow_seconds: Annotated[float, Field(gt=0, le=3600, alias="CORRAL_SLOW_SECONDS")] = 15
    """CORRAL_SLOW_SECONDS: a request's head is there after so long, and its body and readers get on within it."""
    request_seconds: Annotated[float, Field(ge=0, le=3600, alias="CORRAL_REQUEST_SECONDS")] = 60
    """CORRAL_REQUEST_SECONDS: until a request that waits for no task is answered, else 504; 0: as long as it takes."""
    keep_alive_seconds: Annotated[int, Field(ge=1, le=3600, alias="CORRAL_KEEP_ALIVE_SECONDS")] = 15
    """CORRAL_KEEP_ALIVE_SECONDS: an idle connection is closed after so long."""
    cors_origins: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_origins)
    ] = ()
    """CORS_ORIGINS: whose pages may call from browsers, such as http://localhost:3000; a comma-separated list."""
    rate_limit_enabled: bool = True
    """RATE_LIMIT_ENABLED: false: no request is one too many."""
    rate_limit_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """RATE_LIMIT_REQUESTS: requests a minute of one caller that execute something; 0: no limit of their own."""
    rate_limit_routes: Annotated[str, AfterValidator(_routes), Field(alias="CORRAL_RATE_LIMIT_ROUTES")] = ""
    """CORRAL_RATE_LIMIT_ROUTES: of one caller on one route: POST /v1/tasks=60/minute, ExecuteTask=60/minute."""
    rate_limit_url: Annotated[SecretStr, AfterValidator(_store), Field(alias="CORRAL_RATE_LIMIT_URL")] = (
        SecretStr("")
    )
    """CORRAL_RATE_LIMIT_URL: of the Valkey or Redis that gateways count in together; empty: each for itself."""
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
    waiting_tasks_caller: Annotated[int, Field(ge=0, le=100_000, alias="CORRAL_WAITING_TASKS_CALLER")] = 0
    """CORRAL_WAITING_TASKS_CALLER: of them, those of one caller; 0: a quarter of all, so that none fills the line."""
    max_tool_timeout: Annotated[float, Field(ge=0, le=86400)] = 0
    """MAX_TOOL_TIMEOUT: seconds that a task may ask for; 0: what any task may."""
    max_output_size: Annotated[int, Field(ge=0, le=64 << 20)] = 0
    """MAX_OUTPUT_SIZE: bytes of output that a task may ask for; 0: what any task may."""
    max_limits: Annotated[Limits, Field(alias="CORRAL_MAX_LIMITS")] = Limits()
    """CORRAL_MAX_LIMITS: of what else a task may ask for, as JSON: {"memory": "2Gi", "cpu": "2", "disk": "1Gi"}."""
    budget_concurrent_tasks: Annotated[int, Field(ge=0, alias="CORRAL_BUDGET_CONCURRENT_TASKS")] = 0
    """CORRAL_BUDGET_CONCURRENT_TASKS: of one caller, running or waiting; 0: any number."""
    budget_executions: Annotated[int, Field(ge=0, alias="CORRAL_BUDGET_EXECUTIONS")] = 0
    """CORRAL_BUDGET_EXECUTIONS: of one caller a day (UTC); 0: any number."""
    budget_cpu_seconds: Annotated[float, Field(ge=0, alias="CORRAL_BUDGET_CPU_SECONDS")] = 0
    """CORRAL_BUDGET_CPU_SECONDS: of one caller a day (UTC); 0: any number."""
    budget_stored_bytes: Annotated[int, Field(ge=0, alias="CORRAL_BUDGET_STORED_BYTES")] = 1 << 30
    """CORRAL_BUDGET_STORED_BYTES: of one caller in the artifact store; 0: any number."""
    budgets: Annotated[dict[str, Budget], Field(alias="CORRAL_BUDGETS")] = {}
    """CORRAL_BUDGETS: JSON of budgets by caller or role: {"role:viewer": {"executionsPerDay": 0}}."""
    breaker_failures: Annotated[int, Field(ge=0, le=10, alias="CORRAL_BREAKER_FAILURES")] = 5
    """CORRAL_BREAKER_FAILURES: a tool whose last ten executions failed so often by our fault rests; 0: never."""
    breaker_seconds: Annotated[float, Field(ge=1, le=3600, alias="CORRAL_BREAKER_SECONDS")] = 30
    """CORRAL_BREAKER_SECONDS: so long, until one execution tries again."""
    waiting_sandboxes: Annotated[int, Field(ge=0, le=1000, alias="CORRAL_WAITING_SANDBOXES")] = 2
    """CORRAL_WAITING_SANDBOXES: kept started ahead of need."""

    @property
    def most_waiting_of_a_caller(self) -> int:
        """How many tasks of one caller may wait."""
        return self.waiting_tasks_caller or math.ceil(self.waiting_tasks / 4)

    @property
    def most_open_of_a_caller(self) -> int:
        """How many requests of one caller may be open at once."""
        return self.open_requests_caller or math.ceil(self.max_connections / 2)

    @property
    def most_connections_of_an_address(self) -> int:
        """How many connections of HTTP one address may have open at once."""
        return self.address_connections or math.ceil(self.max_connections / 2)

    @property
    def most_tools_of_a_caller(self) -> int:
        """How many tools one caller may have registered."""
        return self.tools_caller or MOST_TOOLS // 4

    @property
    def artifacts_place(self) -> str | None:
        """Where artifacts are kept; None: nowhere."""
        url = self.artifacts_url
        if not url:
            return None
        return url if "://" in url else str(self.data_directory / url)

    @property
    def artifacts_directory(self) -> Path | None:
        """Where artifacts are kept, if that is a directory of this machine."""
        place = self.artifacts_place
        place = None if place is None else place.removeprefix("file://")
        return None if place is None or "://" in place else Path(place)

    @property
    def database_url(self) -> str:
        """Where SQLAlchemy finds the database."""
        if self.database is not None:
            return driver_url(self.database.get_secret_value())
        return f"sqlite+aiosqlite:///{self.data_directory / 'corral.db'}"


def written(value: Any) -> str:
    """Return a setting's value as somebody would write it; nothing for one that is not set."""
    if value is None:
        return ""
    if isinstance(value, Limits):
        return json.dumps(value.to_wire())
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (frozenset, tuple)):
        return ",".join(sorted(map(str, value)))
    return str(value)
