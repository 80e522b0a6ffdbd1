#!/bin/sh
# Leaves .venv with the pinned dependencies and the `corral` command. Needs Python 3.11 or newer; no root.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

python=""
for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    say "setup: Python 3.11 or newer was not found on PATH."
    say "  Install it (Debian, Ubuntu: apt-get install python3), or name it: make setup PYTHON=/path/to/python3"
    exit 1
fi

# uv, in this order: the one on PATH, the one an earlier run left, a fresh one from PyPI.
if command -v uv >/dev/null 2>&1; then
    uv=uv
elif [ -x .tools/bin/uv ]; then
    uv=.tools/bin/uv
else
    say "setup: fetching uv"
    if "$python" -m venv .tools >/dev/null 2>&1 && .tools/bin/python -m pip install --quiet uv; then
        :
    # Debian's python3 without python3-venv has no ensurepip, but may have pip.
    elif rm -rf .tools && "$python" -m pip install --quiet --target .tools uv 2>/dev/null; then
        :
    else
        rm -rf .tools
        say "setup: $python can neither make a virtual environment nor run pip, so uv cannot be fetched."
        say "  Install one of them (Debian, Ubuntu: apt-get install python3-venv), or uv itself, and try again."
        exit 1
    fi
    uv=.tools/bin/uv
fi

say "setup: .venv from requirements.lock"
[ -x .venv/bin/python ] || "$uv" venv --quiet --python "$python" .venv
# The sandbox mounts these files read-only, so nobody can compile them later: compile now. (The workspace's own
# code is compiled by each `make setup`, because it changes.)
"$uv" pip sync --quiet --python .venv/bin/python --require-hashes --compile-bytecode requirements.lock
"$uv" pip install --quiet --python .venv/bin/python --no-deps --editable core --editable gateway --editable operator --editable sandbox-image
