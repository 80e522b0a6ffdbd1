"""What a sandbox that waits imports before anybody asks for it."""

#: Imported while nobody waits for it, so that no tool has to: the small built-in tools, and what small Python
#: tools commonly use.
PRELOAD = (
    "corral_tools.python",
    "corral_tools.calculator",
    "corral_tools.read_file",
    "corral_tools.list_dir",
    "corral_tools.write_file",
    "corral_tools.edit_file",
    "corral_tools.search_files",
    "corral_tools.diff",
    "corral_tools.text_stats",
    "corral_tools.json_query",
    "corral_tools.health_check",
    "json",
    "re",
    "math",
    "random",
    "datetime",
    "collections",
    "itertools",
    "functools",
    "dataclasses",
    "typing",
    "io",
    "string",
    "statistics",
    "subprocess",
    "traceback",
)
