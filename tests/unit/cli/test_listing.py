"""What ``corral tools`` shows."""

import io
import shlex

from corral.api import Tool
from corral.catalogue import Catalogue
from corral.cli.arguments import parse_arguments
from corral.cli.formats import Format
from corral.cli.listing import example_command, list_tools, show_tool
from corral.cli.terminal import Stream, Terminal

TOOL = Tool.from_wire(
    {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "Tool",
        "metadata": {"name": "count"},
        "spec": {
            "description": "Counts words. And more.\x1b[2J",
            "category": "text",
            "tags": ["words"],
            "author": "Somebody",
            "permissions": ["read"],
            "dangerous": True,
            "limits": {"default": {"memory": "64Mi"}, "maximum": {"memory": "1Gi"}},
            "estimatedDuration": "5ms",
            "inputSchema": {
                "type": "object",
                "required": ["text"],
                "properties": {
                    "mode": {"enum": ["words", "lines"], "default": "words"},
                    "skip": {"type": "array", "items": {"type": "string"}, "description": "Left out."},
                    "text": {"type": "string", "description": "What to count."},
                },
            },
            "outputSchema": {"type": "object", "properties": {"words": {"type": "integer"}}},
            "examples": [
                {
                    "name": "all",
                    "arguments": {"text": "it's", "skip": ["a", "b"], "mode": "lines"},
                    "files": [
                        {"path": "d/a b.txt", "content": "50%\n\\'\t"},
                        {"path": "b", "contentBase64": "/w=="},
                    ],
                    "env": [{"name": "LANG", "value": "C C"}],
                    "reason": "ToolError",
                }
            ],
            "run": {"function": {"code": "def main(**_): return {}"}},
        },
    }
)


def terminal() -> tuple[Terminal, io.StringIO]:
    out = io.StringIO()
    return Terminal(Stream(out), Stream(io.StringIO())), out


def test_tools_are_a_line_each() -> None:
    streams, out = terminal()

    list_tools([TOOL], streams, Format.TABLE)

    assert out.getvalue() == (
        "NAME   CATEGORY  DANGEROUS  DESCRIPTION\ncount  text      yes        Counts words\n"
    )


def test_a_tool_is_shown_with_all_that_a_caller_needs() -> None:
    streams, out = terminal()

    show_tool(TOOL, streams, Format.TABLE)

    assert out.getvalue() == (
        "count  text · version 1.0.0 · by Somebody\n"
        "words\n"
        "\n"
        "Counts words. And more.␛[2J\n"
        "\n"
        "Arguments\n"
        "NAME  TYPE             DEFAULT   DESCRIPTION\n"
        "text  string           required  What to count.\n"
        "mode  words|lines      words     -\n"
        "skip  array of string  -         Left out.\n"
        "\n"
        "Properties\n"
        "  permissions:  read\n"
        "  dangerous:    yes: it can do harm that cannot be undone\n"
        "  idempotent:   no\n"
        "  limits:       cpu=1, cpuTime=60s, memory=64Mi, processes=64, disk=128Mi, fileSize=64Mi, openFiles=256, "
        "output=1Mi, timeout=60s\n"
        "  at most:      memory=1Gi\n"
        "  takes about:  5ms\n"
        "  result:       object with words\n"
        "\n"
        "Examples\n"
        "  # all (ends with ToolError)\n"
        '  corral run count text="it\'s" skip=\'["a", "b"]\' mode=lines --env LANG=\'C C\' '
        "--file <(printf -- '50%%\\n\\\\'\"'\"'\\t')='d/a b.txt' --file <(echo /w== | base64 -d)=b\n"
    )


def test_the_examples_of_every_built_in_tool_are_read_back_as_they_are() -> None:
    for tool in Catalogue.builtin():
        schema = tool.spec.input_schema
        for example in tool.spec.examples:
            line = example_command(tool, example).split(" --file <(")[0]
            words = [word for word in shlex.split(line)[3:] if not word.startswith("--env")]
            words = words[: len(example.arguments)]

            assert parse_arguments(words, schema, lambda _: "") == example.arguments
