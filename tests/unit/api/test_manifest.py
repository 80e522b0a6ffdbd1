"""Reading manifests: every problem names file, line, column and field."""

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import AgentTask, ManifestError, SandboxPool, Tool, load_manifests
from corral.api.yaml_tree import read_documents

TASK = """\
apiVersion: corral.dev/v1alpha1
kind: AgentTask
metadata:
  name: sum
spec:
  tool: python
  limits:
    memory: 256Mi
"""


def refusal(text: str | Path | bytes, source: str | None = "task.yaml") -> list[str]:
    """Return the lines that a manifest is refused with."""
    with pytest.raises(ManifestError) as caught:
        load_manifests(text, source=source)  # type: ignore[arg-type]
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def test_M13_a_manifest_is_read() -> None:
    (loaded,) = load_manifests(TASK, source="task.yaml")
    assert isinstance(loaded.resource, AgentTask)
    assert (loaded.kind, loaded.source, loaded.line) == ("AgentTask", "task.yaml", 1)
    assert loaded.resource.spec.limits is not None
    assert loaded.resource.spec.limits.memory == "256Mi"


def test_a_wrong_value_is_told_with_its_line_and_column() -> None:
    assert refusal(TASK.replace("256Mi", "lots")) == [
        'task.yaml:8:13: spec.limits.memory: expected a quantity such as 256Mi, found "lots"'
    ]


def test_all_problems_come_in_the_order_of_the_file() -> None:
    text = dedent("""\
        apiVersion: corral.dev/v1alpha1
        kind: AgentTask
        metadata:
          name: Sum
        spec:
          tool: python
          limits: {memroy: 1Gi, cpu: 1.5}
          step:
            - name: a
        """)
    assert refusal(text) == [
        'task.yaml:4:9: metadata.name: expected a name such as fetch-page.v2, found "Sum"',
        'task.yaml:7:12: spec.limits.memroy: unknown field (did you mean "memory"?)',
        "task.yaml:7:30: spec.limits.cpu: expected a quantity such as 500m, found 1.5 (put it in quotes)",
        'task.yaml:8:3: spec.step: unknown field (did you mean "steps"?)',
    ]


def test_a_missing_field_is_told_where_it_should_stand() -> None:
    text = TASK.replace("  tool: python\n", "  steps:\n    - name: a\n")
    assert refusal(text) == ["task.yaml:7:7: spec.steps[0].tool: is missing"]


def test_a_problem_between_fields_stands_at_their_object() -> None:
    assert refusal(TASK.replace("  tool: python\n", "")) == [
        "task.yaml:5:1: spec: exactly one of tool, steps and agent is needed"
    ]


def test_several_documents_are_read_and_empty_ones_left_out() -> None:
    pool = TASK.replace("AgentTask", "SandboxPool").split("spec:")[0] + "spec: {replicas: 3}\n"
    pool = f"---\n# nothing\n---\n{pool}"
    loaded = load_manifests(f"{TASK}{pool}---\n")
    assert [type(manifest.resource) for manifest in loaded] == [AgentTask, SandboxPool]
    assert loaded[1].line == 12


def test_problems_of_all_documents_are_told() -> None:
    lines = refusal(f"{TASK.replace('256Mi', '0')}---\n{TASK.replace('python', '7')}")
    assert [line.split(": ")[:2] for line in lines] == [
        ["task.yaml:8:13", "spec.limits.memory"],
        ["task.yaml:15:9", "spec.tool"],
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "AgentTask",
            "Tol",
            'kind: expected one of AgentTask, Tool, SandboxPool, found "Tol" (did you mean "Tool"?)',
        ),
        ("v1alpha1", "v1", 'apiVersion: expected corral.dev/v1alpha1, found "corral.dev/v1"'),
        ("kind: AgentTask\n", "", "kind: expected one of AgentTask, Tool, SandboxPool, found nothing"),
        ("  name: sum", "  namespace: x", "metadata.name: is missing"),
    ],
)
def test_what_kind_it_is_must_be_known(old: str, new: str, line: str) -> None:
    assert [text.split(": ", 1)[1] for text in refusal(TASK.replace(old, new))] == [line]


def test_other_things_than_objects_are_refused() -> None:
    assert refusal("just text") == [
        'task.yaml:1:1: expected an object with apiVersion and kind, found "just text"'
    ]
    assert refusal("[1, 2]") == [
        "task.yaml:1:1: expected an object with apiVersion and kind, found a list of 2"
    ]
    assert refusal("") == ["task.yaml: there is no manifest in it"]
    assert refusal("# only a comment\n---\n") == ["task.yaml: there is no manifest in it"]


def test_a_key_that_is_there_twice_is_refused_and_both_lines_named() -> None:
    text = TASK + "    cpu: 1\n    memory: 1Gi\n  tool: sh\n"
    assert refusal(text) == [
        "task.yaml:10:5: spec.limits.memory: the key is there already, in line 8",
        "task.yaml:11:3: spec.tool: the key is there already, in line 6",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1, 2", "not valid YAML"),
        ("a: b: c", "not valid YAML: mapping values are not allowed in this context"),
        ("a: *nothing", "a: there is no anchor &nothing"),
        ("a: &x [*x]", "a[0]: *x stands inside of what it refers to"),
        (
            "a: !!python/object/new:os.system [x]",
            "the YAML tag !!python/object/new:os.system is not supported",
        ),
        ("a: !!binary AAAA", "the YAML tag !!binary is not supported"),
        ("? [a]\n: b", "expected a key that is a string"),
        ("a: \x00", "the character U+0000 is not allowed"),
        ('a: "\\ud800"', "not valid YAML"),
        ("a: \ud800", "lone surrogates are no text"),
        (f"a: {'9' * 5000}", "a number of 5000 digits (put it in quotes)"),
        ("a: {<<: 5}", "<< takes an object or a list of objects"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_in_one_line(text: str, expected: str) -> None:
    (line,) = refusal(text)
    assert expected in line
    assert line.startswith("task.yaml:")


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")])
def test_deep_nesting_is_refused_without_recursion(opening: str, closing: str) -> None:
    (line,) = refusal(opening * 100_000 + "1" + closing * 100_000)
    assert "levels of nesting" in line or "expected a key that is a string" in line


def test_a_bomb_of_aliases_is_refused_before_it_is_expanded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (line,) = refusal("\n".join(lines))
    assert "expected at most 200000 values, aliases expanded" in line


def test_a_deep_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 []", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200))]
    (line,) = refusal("\n".join(lines))
    assert "levels of nesting, aliases expanded" in line


def test_aliases_and_merges_are_read_as_kubectl_reads_them() -> None:
    text = dedent("""\
        base: &base {a: 1, b: 2}
        more: &more {b: 3, c: 4}
        both: {<<: [*base, *more], c: 5}
        one:
          b: 0
          <<: *base
        """)
    (root,) = read_documents(text)
    assert root.value["both"] == {"a": 1, "b": 2, "c": 5}
    assert root.value["one"] == {"a": 1, "b": 0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("0x1f", 31),
        ("0o17", 15),
        ("017", 15),
        ("0b101", 5),
        ("-0x1f", -31),
        ("089", 89.0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("yes", True),
        ("Off", False),
        ("y", "y"),
        ("NO", False),
        ("~", None),
        ("null", None),
        ("'1'", "1"),
        ('"yes"', "yes"),
        ("!!str 1", "1"),
        ("=", "="),
        ("-", "-"),
        ("+", "+"),
        (".", "."),
    ],
)
def test_scalars_mean_what_they_mean_to_kubectl(text: str, value: object) -> None:
    (root,) = read_documents(f"a: {text}") if text != "-" else read_documents("a: '-'")
    assert root.value == {"a": value}
    assert type(root.value["a"]) is type(value)


def test_infinity_and_nan_are_no_json() -> None:
    text = TASK + "  arguments: {a: .inf, b: 1}\n"
    assert refusal(text) == ["task.yaml:9:18: spec.arguments.a: expected a finite number"]


def test_a_document_larger_than_one_mebibyte_is_refused() -> None:
    assert refusal(TASK + "  arguments: {code: " + "x" * (1 << 20) + "}\n") == [
        "task.yaml:9:21: spec.arguments.code: the document is larger than 1 MiB"
    ]


def test_json_is_read_too() -> None:
    spec = '{"tool": "t", "arguments": {"s": "a\\/b\\u00e4"}}'
    head = '{"apiVersion": "corral.dev/v1alpha1", "kind": "AgentTask", "metadata": {"name": "x"},\n"spec": '
    text = head + spec + "}"
    (loaded,) = load_manifests(text)
    assert isinstance(loaded.resource, AgentTask)
    assert loaded.resource.spec.arguments == {"s": "a/bä"}


def test_a_directory_is_read_by_name_and_problems_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(TASK)
    (tmp_path / "a.yml").write_text(TASK.replace("sum", "first"))
    (tmp_path / "notes.txt").write_text("no manifest")
    loaded = load_manifests(tmp_path)
    assert [manifest.resource.metadata.name for manifest in loaded] == ["first", "sum"]
    assert loaded[0].source == str(tmp_path / "a.yml")
    (tmp_path / "c.yaml").write_bytes(b"a: \xff\n")
    assert refusal(tmp_path, None) == [f"{tmp_path / 'c.yaml'}:1: not valid UTF-8"]


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, None) == [f"{tmp_path}: there is no .yaml, .yml or .json file in it"]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "bom.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + TASK.encode())
    assert load_manifests(file)[0].line == 1


def test_a_tool_in_the_same_file_is_read() -> None:
    text = (
        TASK
        + "---\n"
        + dedent("""\
        apiVersion: corral.dev/v1alpha1
        kind: Tool
        metadata: {name: word_count}
        spec:
          description: Count words.
          run: {function: {code: "def main(text): return len(text.split())"}}
        """)
    )
    resource = load_manifests(text)[1].resource
    assert isinstance(resource, Tool)
    assert resource.name == "word_count"


@given(st.text() | st.binary())
def test_no_text_raises_anything_but_a_manifest_error(text: str | bytes) -> None:
    try:
        list(read_documents(text))
    except ManifestError as error:
        assert error.problems  # noqa: PT017 - the other outcome is as good


@given(st.text(alphabet="ab:-[]{}&*!?|>'\"#%\n \t,<0", max_size=40))
def test_no_yaml_raises_anything_but_a_manifest_error(text: str) -> None:
    try:
        load_manifests(TASK + "  arguments:\n    a: " + text, source="task.yaml")
    except ManifestError as error:
        assert all(problem.line is not None for problem in error.problems)  # noqa: PT017 - the same
