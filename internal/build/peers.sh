#!/bin/sh
# peers.sh DIR: unpacks from Debian's packages, into DIR, the servers that `make
# bench-boot` compares ours with and whose configurations the tests try, and a relay
# that the tests ask through. Nothing is installed and nothing starts: some of them
# conflict with one another, and all would be enabled at the next boot.
set -eu

dir=$1
peers="kea-dhcp4-server kea-admin isc-dhcp-server dnsmasq-base nginx-light wrk tftpd-hpa isc-dhcp-relay"
[ ! -e "$dir/.complete" ] || [ "$(cat "$dir/.complete")" != "$peers" ] || exit 0

run=""
[ "$(id -u)" = 0 ] || run="sudo"
debs="$dir/debs"
rm -rf "$dir"
mkdir -p "$debs/partial"
$run apt-get update -q >&2
# What they depend on comes along, as far as it is not installed already.
for p in $peers; do
	$run apt-get install -y -q --no-install-recommends --download-only --reinstall \
		-o Dir::Cache::archives="$(realpath "$debs")" -o APT::Sandbox::User=root "$p" >&2
done
for deb in "$debs"/*.deb; do
	dpkg-deb -x "$deb" "$dir"
done
rm -rf "$debs"
echo "$peers" >"$dir/.complete"
