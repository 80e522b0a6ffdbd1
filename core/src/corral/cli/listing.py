"""``corral tools``: what there is, and what one of them takes."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from corral.api import DEFAULT_LIMITS, InputFile, Limits, Reason, Tool, ToolExample
from corral.cli.arguments import format_argument, shell_quote, types_of
from corral.cli.documents import document, kubernetes_list
from corral.cli.formats import Format
from corral.cli.tables import Cell, Column, print_table
from corral.cli.terminal import Stream, Terminal
from corral.cli.visible import visible

#: Of the labels of properties, with what is around them.
_LABEL_WIDTH = 16


def list_tools(tools: Sequence[Tool], terminal: Terminal, style: Format) -> None:
    """Write a line for each tool."""
    if style is not Format.TABLE:
        terminal.out.write(document(kubernetes_list([tool.to_wire() for tool in tools]), style))
        return
    if not tools:
        terminal.note("no tool fits; corral tools lists all there are")
        return
    rows = [
        (
            Cell(tool.name, ("bold",)),
            tool.spec.category,
            Cell("yes", ("red",)) if tool.spec.dangerous else "no",
            _first_sentence(tool.spec.description),
        )
        for tool in tools
    ]
    columns = [Column("NAME"), Column("CATEGORY"), Column("DANGEROUS")]
    print_table(terminal.out, [*columns, Column("DESCRIPTION", flexible=True)], rows)


def show_tool(tool: Tool, terminal: Terminal, style: Format) -> None:
    """Write all that is known of a tool."""
    if style is not Format.TABLE:
        terminal.out.write(document(tool.to_wire(), style))
        return
    out, spec = terminal.out, tool.spec
    about = [spec.category, f"version {spec.version}", *([f"by {spec.author}"] if spec.author else [])]
    out.line(f"{out.paint(tool.name, 'bold')}  {visible(' · '.join(about))}")
    if spec.tags:
        out.line(out.paint(visible(", ".join(spec.tags)), "dim"))
    out.line()
    for paragraph in visible(spec.description.strip()).split("\n\n"):
        out.line(out.wrap(" ".join(paragraph.split())))
    _heading(out, "Arguments")
    _show_arguments(out, spec.input_schema)
    _heading(out, "Properties")
    for label, text in _properties(tool):
        out.line(f"  {label + ':':<13} {out.wrap(visible(text), _LABEL_WIDTH)}")
    if spec.examples:
        _heading(out, "Examples")
        for example in spec.examples:
            for line in _example(tool, example):
                out.line(f"  {visible(line)}")


def example_command(tool: Tool, example: ToolExample) -> str:
    """Return the command that runs an example, to paste into a shell."""
    schema = tool.spec.input_schema
    words = ["corral", "run", shlex.quote(tool.name)]
    words += [format_argument(key, value, schema) for key, value in example.arguments.items()]
    words += [f"--env {variable.name}={shell_quote(variable.value)}" for variable in example.env]
    words += [f"--file {_file_word(file)}" for file in example.files]
    return " ".join(words)


def _file_word(file: InputFile) -> str:
    """Return a file with its content, as bash and zsh put one in place (process substitution)."""
    if file.content is None:
        made = f"echo {file.content_base64} | base64 -d"
    else:
        # As a format of printf, so that it stays on the line.
        text = file.content.replace("\\", "\\\\").replace("%", "%%").replace("\n", "\\n").replace("\t", "\\t")
        made = f"printf -- {shlex.quote(text)}"
    return f"<({made})={shlex.quote(file.path)}"


def _example(tool: Tool, example: ToolExample) -> Iterator[str]:
    ending = "" if example.reason is Reason.COMPLETED else f" (ends with {example.reason})"
    yield f"# {example.description or example.name}{ending}"
    yield example_command(tool, example)


def _heading(out: Stream, text: str) -> None:
    out.line()
    out.line(out.paint(text, "bold"))


def _show_arguments(out: Stream, schema: Mapping[str, Any]) -> None:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        out.line("  none" if schema.get("additionalProperties") is False else "  any")
        return
    required = schema.get("required", [])
    # What must be given first, each group in the order of the schema.
    names = sorted(properties, key=lambda name: name not in required)
    rows = [
        (
            Cell(name, ("bold",) if name in required else ()),
            _type_text(properties[name], schema),
            "required" if name in required else _default_text(properties[name]),
            str(properties[name].get("description", "")) if isinstance(properties[name], Mapping) else "",
        )
        for name in names
    ]
    print_table(
        out,
        [Column("NAME"), Column("TYPE"), Column("DEFAULT"), Column("DESCRIPTION", flexible=True, wraps=True)],
        rows,
    )


def _type_text(schema: Any, root: Mapping[str, Any]) -> str:
    if isinstance(schema, Mapping) and isinstance(schema.get("enum"), list):
        return "|".join(
            choice if isinstance(choice, str) else json.dumps(choice) for choice in schema["enum"]
        )
    types = types_of(schema, root)
    if types is None:
        return "any"
    text = "|".join(sorted(types))
    if types == {"array"} and isinstance(schema, Mapping) and "items" in schema:
        return f"array of {_type_text(schema['items'], root)}"
    return text


def _default_text(schema: Any) -> str:
    if not isinstance(schema, Mapping) or "default" not in schema:
        return ""
    default = schema["default"]
    return (
        default if isinstance(default, str) and default.strip() else json.dumps(default, ensure_ascii=False)
    )


def _properties(tool: Tool) -> Iterator[tuple[str, str]]:
    spec = tool.spec
    yield "permissions", ", ".join(spec.permissions) or "none"
    yield "dangerous", "yes: it can do harm that cannot be undone" if spec.dangerous else "no"
    yield "idempotent", "yes" if spec.idempotent else "no"
    own = spec.limits
    default = own.default if own is not None else None
    yield "limits", _limits_text((default or Limits()).merged_over(DEFAULT_LIMITS))
    if own is not None and own.maximum is not None:
        yield "at most", _limits_text(own.maximum)
    if spec.network is not None:
        yield "network", ", ".join(spec.network.allowed_domains) or "none"
    if spec.estimated_duration is not None:
        yield "takes about", spec.estimated_duration
    if spec.output_schema is not None:
        yield "result", _result_text(spec.output_schema)


def _limits_text(limits: Limits) -> str:
    return ", ".join(f"{name}={value}" for name, value in limits.to_wire().items())


def _result_text(schema: Mapping[str, Any]) -> str:
    text = _type_text(schema, schema)
    properties = schema.get("properties")
    return f"{text} with {', '.join(properties)}" if isinstance(properties, Mapping) and properties else text


def _first_sentence(text: str) -> str:
    line = " ".join(text.split())
    end = line.find(". ")
    return line if end < 0 else line[:end]
