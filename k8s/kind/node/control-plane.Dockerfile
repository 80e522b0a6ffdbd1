# The image behind kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy and etcd: two binaries, and the
# packet filter's programs for kube-proxy.
ARG ROOTFS
FROM ${ROOTFS}
COPY bin/kube-apiserver bin/etcd /usr/local/bin/
RUN set -eu; cd /usr/local/bin; chmod 0755 *; \
    for name in kube-controller-manager kube-scheduler kube-proxy; do ln -s kube-apiserver "$name"; done
