"""How long a listening runner lives when nobody releases it. Pure; times are those of time.monotonic()."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.settings import Settings

#: Readers have so long to take the last frames when the sandbox is taken away.
_FLUSH_SECONDS = 1.0


class Life:
    """What has happened so far, as far as it decides when to end."""

    __slots__ = (
        "_flush_until",
        "_linger_seconds",
        "_maximum_idle_seconds",
        "_quiet_since",
        "_used",
        "leaving",
    )

    def __init__(self, settings: "Settings", now: float) -> None:
        self._linger_seconds = settings.linger_seconds
        self._maximum_idle_seconds = settings.maximum_idle_seconds
        self._quiet_since = now
        self._used = False
        self._flush_until: float | None = None
        #: The sandbox is being taken away: nothing new starts.
        self.leaving = False

    def owner_spoke(self, now: float) -> None:
        self._quiet_since = now

    def execution_ended(self, now: float) -> None:
        self._quiet_since = now
        self._used = True

    def ends_at(self) -> "float | None":
        """When a runner that runs nothing ends if nothing happens meanwhile, None for never."""
        seconds = self._linger_seconds if self._used else self._maximum_idle_seconds
        return None if seconds is None else self._quiet_since + seconds

    def is_over(self, now: float, *, unread: bool) -> bool:
        """Whether a runner that runs nothing should end.

        Args:
            now: the time.
            unread: a reader has not yet taken everything.
        """
        if self.leaving:
            if self._flush_until is None:
                self._flush_until = now + _FLUSH_SECONDS
            return not unread or now >= self._flush_until
        end = self.ends_at()
        return end is not None and now >= end
