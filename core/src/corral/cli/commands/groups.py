"""Groups of commands, one of which is meant where none is named."""

from typing import Any, ClassVar

from typer.core import TyperGroup


class DefaultCommand(TyperGroup):
    """``corral tools QUERY`` is ``corral tools search QUERY``, for the default ``search``."""

    default: ClassVar[str]

    @classmethod
    def named(cls, name: str) -> type["DefaultCommand"]:
        """Return the group whose default is the command of this name."""
        return type(cls.__name__, (cls,), {"default": name})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        names = {*self.commands, *ctx.help_option_names}
        # The shell asks with nothing at all, and is offered the commands.
        if (args and args[0] not in names) or not (args or ctx.resilient_parsing):
            args = [self.default, *args]
        return super().parse_args(ctx, args)
