"""The commands of the rig."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rig import base_image, binaries, chart, cluster, docker, images, kwok, node_image, session, switch
from rig.errors import RigError
from rig.images import Image
from rig.kubectl import Kubectl
from rig.paths import REPOSITORY, kubeconfig
from rig.progress import say
from rig.versions import PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[[argparse.Namespace], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what it makes for other programs goes to standard output, what it tells people to the other.

    Returns:
        The exit code: 0, 1 if the rig cannot do it, or what pytest ended with.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # All behind -- is pytest's.
    given, for_pytest = (
        (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    )
    options = _parser().parse_args(given)
    options.pytest_arguments = for_pytest
    try:
        return int(options.run(options) or 0)
    except RigError as error:
        print(f"rig: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rig", description="A kind cluster to test with, also without any registry."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add = _adder(commands)
    add("binaries", _binaries, "build the cluster's programs that the cache has not").add_argument(
        "names", nargs="*", metavar="NAME"
    )
    add("docker", _docker, "make sure of a Docker daemon; print DOCKER_HOST")
    add("docker-stop", lambda _: docker.stop(), "stop the rig's own Docker daemon")
    build = "make it here even where it could be pulled"
    add("node-image", _node_image, "make sure of the nodes' image; print its name").add_argument(
        "--build-node-image", action="store_true", help=build
    )
    add(
        "base-image", _base_image, "make sure of debian:bookworm-slim or its like; print its name"
    ).add_argument("--build-base-image", action="store_true", help=build)
    image = add("image", _image, "build a Dockerfile with the right base")
    image.add_argument("file", type=Path)
    image.add_argument("tag")
    image.add_argument("--context", type=Path, default=REPOSITORY)
    add("images", _images, "build the project's images and load them into the cluster", named=True)
    install = add("install", _install, "install the chart with those images", named=True)
    install.add_argument("--namespace", default="default")
    _up_options(add("up", _up, "make sure of the cluster; print how to use it", named=True))
    add("load", _load, "give images to the cluster's nodes", named=True).add_argument(
        "images", nargs="+", metavar="IMAGE"
    )
    add("policies", _policies, "enforce network policies or do not", named=True).add_argument(
        "state", choices=("on", "off")
    )
    fake = add("kwok", _kwok, "fake nodes, for thousands of pods that run nothing", named=True)
    fake.add_argument("state", choices=("up", "down"))
    fake.add_argument("--nodes", type=int, default=10)
    test = add("test", session.test, "run tests/cluster; arguments for pytest stand behind --", named=True)
    test.add_argument("--keep", action="store_true", help="leave the cluster up")
    _up_options(test)
    add("test-docker", session.test_docker, "run the Docker backend's tests; arguments for pytest behind --")
    add("down", _down, "delete the cluster and stop the rig's own Docker daemon", named=True).add_argument(
        "--keep-docker", action="store_true"
    )
    return parser


def _adder(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> Callable[..., argparse.ArgumentParser]:
    def add(
        name: str, run: Callable[[argparse.Namespace], object], told: str, *, named: bool = False
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=told, description=told)
        command.set_defaults(run=run)
        if named:
            command.add_argument("--name", default="corral", help="of the cluster")
            command.add_argument("--kubeconfig", type=Path, help="the file to write and to use")
        return command

    return add


def _up_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--workers", type=int, default=2)
    command.add_argument("--enforce-policies", action=argparse.BooleanOptionalAction, default=True)
    command.add_argument(
        "--build-node-image",
        action="store_true",
        help="use the rig's own node image even where kind's can be pulled",
    )


def _binaries(options: argparse.Namespace) -> None:
    wanted = [binaries.program(name) for name in options.names]
    binaries.build(tuple(dict.fromkeys(wanted)) or PROGRAMS)
    print(binaries.links())


def _docker(_: argparse.Namespace) -> None:
    host = docker.connect()
    print(f"export DOCKER_HOST={host}" if host else "# docker works as it is")


def _node_image(options: argparse.Namespace) -> None:
    docker.connect()
    print(node_image.ensure(build=options.build_node_image).name)


def _base_image(options: argparse.Namespace) -> None:
    docker.connect()
    print(base_image.ensure(build=options.build_base_image))


def _image(options: argparse.Namespace) -> None:
    docker.connect()
    images.build(Image(options.tag, options.file, options.context))


def _images(options: argparse.Namespace) -> None:
    docker.connect()
    session.provide_images(options.name)


def _up(options: argparse.Namespace) -> None:
    session.up(options)
    host = docker.connect()
    print(
        f"export KUBECONFIG={_kubeconfig(options)}",
        *([f"export DOCKER_HOST={host}"] if host else []),
        sep="\n",
    )
    print(f"export PATH={binaries.links()}:$PATH")


def _install(options: argparse.Namespace) -> None:
    # A cluster to try things in; one made of the rig's own node image provides no volumes either.
    chart.install(_kubeconfig(options), options.namespace, ["gateway.database.volume.enabled=false"])


def _load(options: argparse.Namespace) -> None:
    docker.connect()
    cluster.load(options.name, options.images)


def _policies(options: argparse.Namespace) -> None:
    docker.connect()
    if not cluster.exists(options.name):
        raise RigError(f"there is no cluster {options.name}", "`python -m rig up` makes it.")
    if not cluster.has_agent(options.name):
        raise RigError(
            "the network of kind's own node image enforces policies always", "Use --build-node-image."
        )
    switch.turn(Kubectl(_kubeconfig(options)), cluster.nodes(options.name), on=options.state == "on")


def _kwok(options: argparse.Namespace) -> None:
    if options.state == "up":
        kwok.up(Kubectl(_kubeconfig(options)), options.name, options.nodes)
    else:
        kwok.down(Kubectl(_kubeconfig(options)), options.name)


def _down(options: argparse.Namespace) -> None:
    if docker.reaches_any():
        cluster.down(options.name, _kubeconfig(options))
    else:
        say("no Docker daemon runs, so no cluster either")
    if not options.keep_docker:
        docker.stop(if_idle=True)


def _kubeconfig(options: argparse.Namespace) -> Path:
    return options.kubeconfig or kubeconfig(options.name)
