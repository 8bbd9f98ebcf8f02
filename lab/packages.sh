#!/bin/sh
# Installs the Debian packages of the programs that are missing here, and of PACKAGE...; nothing where none is missing.
# --only: what virtual environments need, and PACKAGE..., without the programs of the lab.
# usage: PYTHON=python3 lab/packages.sh [--only] [PACKAGE...]
set -eu

lab=yes
[ "${1:-}" != --only ] || { lab=no; shift; }

missing=""
need() { # PROGRAM PACKAGE
    [ $lab = no ] || command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need nft nftables
need nginx nginx
need conntrack conntrack
need iptables iptables
need ip iproute2
need unshare util-linux
need setpriv util-linux
need mount mount
need sysctl procps
need curl curl
need wget wget
need dnsmasq dnsmasq-base
need openssl openssl
need etcd etcd-server
need etcdctl etcd-client
[ $lab = no ] || /sbin/ldconfig -p | grep -q 'libnftables\.so\.1' || missing="$missing libnftables1"
for package; do
    dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed' ||
        missing="$missing $package"
done
# Debian's python3 comes without ensurepip, which venv needs.
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3 python3-venv"
missing=$(echo "$missing" | xargs -n1 2>/dev/null | sort -u | xargs)

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: $missing; run make as root on Debian, or install them" >&2
    exit 1
fi
echo "Installing $missing"

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
ours=""
trap 'rm -f "$log" $ours' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Packages start their services unless this file forbids it (invoke-rc.d(8)): the lab runs programs in namespaces of
# its own, and port 80 of this machine is none of its business. Where there is such a file, its owner has decided.
if [ ! -e $policy ]; then
    ours=$policy
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi

export DEBIAN_FRONTEND=noninteractive
quietly() {
    "$@" >"$log" 2>&1 </dev/null || { cat "$log" >&2; exit 1; }
}
quietly apt-get -o DPkg::Lock::Timeout=300 update
# shellcheck disable=SC2086 # a list of words
quietly apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends $missing

# Nor shall they come up with the next boot, or have been started where the policy let them.
stay_down() { # PACKAGE SERVICE
    case " $missing " in
    *" $1 "*)
        service "$2" stop >/dev/null 2>&1 || true
        update-rc.d "$2" disable >/dev/null 2>&1 || true
        ;;
    esac
}
stay_down nginx nginx
stay_down etcd-server etcd
stay_down prometheus prometheus
