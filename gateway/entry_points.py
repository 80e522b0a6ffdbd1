"""Write what an installer writes of a project beside its code: its name, version and entry points.

The image has the source as it is, without a build of packages; the command ``corral`` finds what belongs to it by
entry points all the same. Standard library alone, so that any Python can run it while an image is built.

Usage: entry_points.py FOLDER PYPROJECT...
"""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Write one ``.dist-info`` into the folder for each project."""
    folder = Path(sys.argv[1])
    for pyproject in sys.argv[2:]:
        project = tomllib.loads(Path(pyproject).read_text(encoding="utf-8"))["project"]
        name, version = project["name"], project["version"]
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        groups = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
        lines = [
            line
            for group, entries in groups.items()
            if entries
            for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()), "")
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
