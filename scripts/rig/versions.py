"""The one table of what the rig builds, and in which version."""

from __future__ import annotations

from dataclasses import dataclass, field

KUBERNETES = "v1.36.3"
CONTAINERD = "v2.4.2"
RUNC = "v1.5.2"
# kubeadm 1.36 refuses an older etcd.
ETCD = "v3.6.8"
COREDNS = "v1.14.2"
KIND = "v0.33.0"
HELM = "v4.3.1"
KUBECONFORM = "v0.8.0"
KWOK = "v0.8.0"
# Prometheus 3.13.5: its module is numbered v0.3xx.
PROMETHEUS = "v0.313.5"
# An S3 server over a directory, for the tests of the artifact store.
VERSITYGW = "v1.8.0"
PAUSE = "1"

# systemd 252 of bookworm is the last that starts on a host with cgroup v1.
DEBIAN = "bookworm"

_KUBERNETES_MINOR = KUBERNETES.split(".")[1]
_KUBERNETES_STAMP = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in {
        "gitVersion": KUBERNETES,
        "gitMajor": "1",
        "gitMinor": _KUBERNETES_MINOR,
        "gitTreeState": "clean",
    }.items()
)


@dataclass(frozen=True)
class GoProgram:
    """How one program is built from Go modules.

    Attributes:
        name: of the recipe, and of the program if `names` is empty.
        version: of the module that gives it its name.
        package: the package that `go install` builds at that version; empty if the source is `go/<name>` here.
        requires: for a source here, the modules its go.mod asks for, with their versions. With a package: it is built
            from a go.mod of ours with these, because `go install` refuses a module with replace directives.
        tags: build tags.
        ldflags: link flags on top of `-s -w`.
        cgo: whether it needs a C compiler; it is then linked statically.
        debian_packages: what has to be installed to build it.
        names: the file names under which the one binary is wanted, when they are not `name`.
    """

    name: str
    version: str
    package: str = ""
    requires: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    ldflags: str = ""
    cgo: bool = False
    debian_packages: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=())

    @property
    def files(self) -> tuple[str, ...]:
        return self.names or (self.name,)


_CONTAINERD_MODULE = "github.com/containerd/containerd/v2"
_CONTAINERD_TAGS = ("no_btrfs", "no_zfs", "no_devmapper")
_CONTAINERD_STAMP = f"-X {_CONTAINERD_MODULE}/version.Version={CONTAINERD}"

# Longest first, so that a machine which builds everything fails early if it fails.
PROGRAMS: tuple[GoProgram, ...] = (
    GoProgram(
        "kubernetes",
        KUBERNETES,
        requires=(("k8s.io/kubernetes", KUBERNETES),),
        ldflags=_KUBERNETES_STAMP,
        names=(
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubelet",
            "kubeadm",
            "kubectl",
        ),
    ),
    *(
        GoProgram(
            name,
            CONTAINERD,
            package=f"{_CONTAINERD_MODULE}/cmd/{name}",
            tags=_CONTAINERD_TAGS,
            ldflags=_CONTAINERD_STAMP,
        )
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    ),
    GoProgram(
        "runc",
        RUNC,
        package="github.com/opencontainers/runc",
        tags=("seccomp", "netgo", "osusergo"),
        cgo=True,
        debian_packages=("gcc", "libc6-dev", "libseccomp-dev", "pkg-config"),
    ),
    GoProgram("etcd", ETCD, requires=(("go.etcd.io/etcd/server/v3", ETCD),)),
    GoProgram("pause", PAUSE),
    GoProgram("kind", KIND, package="sigs.k8s.io/kind"),
    GoProgram("coredns", COREDNS, package="github.com/coredns/coredns"),
    GoProgram("helm", HELM, package="helm.sh/helm/v4/cmd/helm"),
    GoProgram("kubeconform", KUBECONFORM, package="github.com/yannh/kubeconform/cmd/kubeconform"),
    GoProgram("kwok", KWOK, package="sigs.k8s.io/kwok/cmd/kwok"),
    GoProgram(
        "promtool",
        PROMETHEUS,
        package="github.com/prometheus/prometheus/cmd/promtool",
        requires=(("github.com/prometheus/prometheus", PROMETHEUS),),
        # Without the clients of two dozen clouds, which find what to scrape.
        tags=("remove_all_sd",),
    ),
    GoProgram("versitygw", VERSITYGW, package="github.com/versity/versitygw/cmd/versitygw"),
)
