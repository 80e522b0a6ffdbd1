"""The programs that the rig needs, built from Go modules into the cache, only what is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from rig import recipes, toolchain
from rig.errors import RigError
from rig.paths import GO_SOURCES, cache
from rig.progress import say
from rig.shell import install_debian_packages, output, succeeds
from rig.versions import KUBERNETES, PROGRAMS, GoProgram

# Kubernetes on two cores takes five minutes; a slow machine four times that.
_BUILD_SECONDS = 3600
_DOWNLOAD_SECONDS = 600


def program(name: str) -> GoProgram:
    for candidate in PROGRAMS:
        if name == candidate.name or name in candidate.files:
            return candidate
    known = ", ".join(candidate.name for candidate in PROGRAMS)
    raise RigError(f"no recipe for {name!r}", f"There are: {known}.")


def recipe_key(wanted: GoProgram) -> str:
    source = () if wanted.package else recipes.contents(GO_SOURCES / wanted.name)
    return recipes.key(wanted, source)


def folder(wanted: GoProgram) -> Path:
    return cache() / "bin" / f"{wanted.name}-{wanted.version}-{recipe_key(wanted)}"


def path(name: str) -> Path:
    """The built program called `name`; it is built first if it is missing."""
    wanted = program(name)
    build((wanted,))
    return folder(wanted) / name


def links() -> Path:
    """A folder with every built program under its plain name, to put on PATH."""
    return cache() / "path"


def build(wanted: tuple[GoProgram, ...] = PROGRAMS) -> None:
    """Build what the cache has not, one after the other: each build uses all cores by itself."""
    missing = [each for each in wanted if not _is_built(each)]
    for number, each in enumerate(missing, start=1):
        say(f"building {each.name} {each.version} ({number} of {len(missing)}) …")
        started = time.monotonic()
        _build(each)
        say(
            f"built {each.name} {each.version} ({number} of {len(missing)}): {time.monotonic() - started:.0f} s"
        )
    _link(wanted)


def _is_built(wanted: GoProgram) -> bool:
    return all((folder(wanted) / name).exists() for name in wanted.files)


def _build(wanted: GoProgram) -> None:
    if wanted.debian_packages and not _can_compile_c():
        install_debian_packages(*wanted.debian_packages, why=f"building {wanted.name}")
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix=f".build-{wanted.name}-") as name:
        work = Path(name)
        binary = work / "out" / wanted.name
        if wanted.package and not wanted.requires:
            _go_install(wanted, work / "out")
            (work / "out" / Path(wanted.package).name).rename(binary)
        else:
            _go_build(wanted, work, binary)
        for alias in wanted.files:
            if alias != wanted.name:
                os.link(binary, work / "out" / alias)
        if wanted.name not in wanted.files:
            binary.unlink()
        # The rename is what makes it appear: a build that is interrupted leaves nothing that looks finished.
        target = folder(wanted)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        (work / "out").rename(target)


def _flags(wanted: GoProgram) -> list[str]:
    static = ' -extldflags "-static"' if wanted.cgo else ""
    return ["-trimpath", f"-tags={','.join(wanted.tags)}", f"-ldflags=-s -w {wanted.ldflags}{static}"]


def _go_install(wanted: GoProgram, into: Path) -> None:
    into.mkdir(parents=True)
    command = ["nice", toolchain.go(), "install", *_flags(wanted), f"{wanted.package}@{wanted.version}"]
    env = _environment(wanted) | {"GOBIN": str(into)}
    output(command, timeout_seconds=_BUILD_SECONDS, env=env, cwd=into)


def _go_build(wanted: GoProgram, work: Path, binary: Path) -> None:
    source = work / "source"
    if wanted.package:
        source.mkdir()
    else:
        shutil.copytree(GO_SOURCES / wanted.name, source)
    (source / "go.mod").write_text(go_mod(wanted.name, _requirements(wanted)), encoding="utf-8")
    # -mod=mod lets go complete go.mod and go.sum from the graph of the pinned modules, checked against the
    # checksum database: as reproducible as a committed go.sum of hundreds of lines.
    command = ["nice", toolchain.go(), "build", "-mod=mod", *_flags(wanted), "-o", str(binary)]
    command.append(wanted.package or ".")
    output(command, timeout_seconds=_BUILD_SECONDS, env=_environment(wanted), cwd=source)


def go_mod(name: str, requires: tuple[tuple[str, str], ...]) -> str:
    """The go.mod of a source of the rig; deterministic."""
    lines = [f"module corral.dev/rig/{name}", "", "go 1.26.0", ""]
    if requires:
        lines += ["require (", *(f"\t{module} {version}" for module, version in sorted(requires)), ")", ""]
    return "\n".join(lines)


def _requirements(wanted: GoProgram) -> tuple[tuple[str, str], ...]:
    """What go.mod asks for: Kubernetes lists its own staging modules at v0.0.0, which exist only in its repository;
    outside of it they are published as v0 with the same minor and patch version.
    """
    requires = wanted.requires
    if wanted.name == "kubernetes":
        listed = Path(module("k8s.io/kubernetes", KUBERNETES)["GoMod"]).read_text(encoding="utf-8")
        published = KUBERNETES.replace("v1.", "v0.")
        staging = re.findall(r"^\s*(k8s\.io/[\w.-]+) v0\.0\.0\s*$", listed, flags=re.MULTILINE)
        requires += tuple((name, published) for name in staging)
    return requires


def module(name: str, version: str) -> dict[str, str]:
    """Download a module; what `go mod download -json` tells of it (`Dir`, `GoMod`, …)."""
    command = [toolchain.go(), "mod", "download", "-json", f"{name}@{version}"]
    told: dict[str, str] = json.loads(output(command, timeout_seconds=_DOWNLOAD_SECONDS, cwd=Path("/")))
    return told


def _environment(wanted: GoProgram) -> dict[str, str]:
    return {"CGO_ENABLED": "1" if wanted.cgo else "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}


def _can_compile_c() -> bool:
    return shutil.which("gcc") is not None and succeeds(["pkg-config", "--exists", "libseccomp"])


def _link(wanted: tuple[GoProgram, ...]) -> None:
    links().mkdir(parents=True, exist_ok=True)
    for each in wanted:
        for name in each.files:
            target = folder(each) / name
            link = links() / name
            if link.is_symlink() and link.readlink() == target:
                continue
            fresh = links() / f".{name}.{os.getpid()}"
            fresh.symlink_to(target)
            fresh.replace(link)
