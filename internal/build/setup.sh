#!/bin/sh
# setup.sh lab|test|bench|bmc: installs what the lab, the tests, make bench-boot
# or make bench-bmc need on Debian 12: packages, the peers that peers.sh unpacks,
# and a Go toolchain. It asks the network for nothing that is there already.
# Prints the folder of the go command that is to be used.
set -eu

packages="
qemu-system-x86 seabios ovmf ipxe-qemu openipmi
mmdebstrap debian-archive-keyring mtools dosfstools e2fsprogs fdisk zstd kmod
iproute2 util-linux ca-certificates git make
"
if [ "${1:-lab}" = test ]; then
	packages="$packages qemu-system-arm qemu-efi-aarch64 docker.io gcc libc6-dev libcap2-bin xz-utils
		tftp-hpa atftp busybox curl ipmitool snmpd dnsmasq-base isc-dhcp-server isc-dhcp-client kea-dhcp6-server radvd systemd nftables iptables
		xorriso chromium fonts-dejavu-core"
fi

if [ "${1:-lab}" = bench ]; then
	packages="$packages iputils-ping"
fi

if [ "${1:-lab}" = bmc ]; then
	packages="openipmi ipmitool iproute2 util-linux ca-certificates git make"
fi

missing=""
for p in $packages; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done

# Go 1.21 or later fetches the toolchain that go.mod asks for by itself.
if ! go version 2>/dev/null | grep -Eq 'go1\.(2[1-9]|[3-9][0-9])'; then
	dpkg-query -W golang-go >/dev/null 2>&1 || missing="$missing golang-go"
fi

if [ -n "$missing" ]; then
	echo "installing:$missing" >&2
	run=""
	[ "$(id -u)" = 0 ] || run="sudo"
	$run apt-get update -q >&2
	# --no-install-recommends: docker.io must not start a daemon's worth of extras.
	$run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2
fi

case "${1:-lab}" in
test | bench) "$(dirname "$0")/peers.sh" build/peers ;;
esac

if go version | grep -Eq 'go1\.(2[1-9]|[3-9][0-9])'; then
	dirname "$(command -v go)"
	exit 0
fi

# Debian 12's own Go is too old to fetch a toolchain, but not to fetch a module,
# and toolchains are modules. The checksum database vouches for it.
want=$(sed -n 's/^go //p' go.mod)
arch=$(dpkg --print-architecture)
module="golang.org/toolchain@v0.0.1-go$want.linux-$arch"
# Not in this folder: the old Go would trip over our go.mod.
dir=$(cd / && go mod download -json "$module" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
[ -d "$dir" ] || { echo "cannot fetch $module" >&2; exit 1; }
for f in "$dir"/bin/* "$dir"/pkg/tool/*/*; do
	[ -x "$f" ] || chmod u+w "$(dirname "$f")" && chmod 755 "$f" # module zips carry no modes
done
echo "$dir/bin"
