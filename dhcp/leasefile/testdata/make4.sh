#!/bin/sh
# make4.sh PEERS: writes kea4.csv, dhcpd4.leases and dnsmasq4.leases into this
# folder: what Kea, ISC dhcpd and dnsmasq, as peers.sh unpacks them into PEERS, write
# down of clients that are ISC's dhclient. Run it as root; it makes namespaces of its
# own, and takes about two minutes.
set -eu

if [ "${2:-}" != inside ]; then
	here=$(dirname "$(realpath "$0")")
	exec unshare -n -m --propagation private -p -f --mount-proc --kill-child "$here/make4.sh" "$(realpath "$1")" inside "$here"
fi
peers=$1 here=$3
mount -t tmpfs run /run
mount -t tmpfs work /mnt
mkdir /run/netns
cd /mnt
libraries=$(echo "$peers"/usr/lib/*-linux-gnu "$peers"/lib/*-linux-gnu | tr ' ' :)

cat >script <<'SCRIPT'
#!/bin/sh
[ "$reason" = BOUND ] || exit 0
# Once, node-5 finds that somebody has its address.
if [ -e decline ]; then rm decline; exit 1; fi
ip address flush dev nic0
exec ip address add "$new_ip_address/24" dev nic0
SCRIPT
chmod 755 script

# client N STATEMENT: node-N asks once, with a statement of its own.
client() {
	printf 'timeout 20;\nretry 1;\nbackoff-cutoff 1;\ninitial-interval 1;\n%s\n' "$2" >"clients/$1.conf"
	: >"clients/$1.leases"
	ip netns exec "n$1" dhclient -4 -1 -q -cf "clients/$1.conf" -lf "/mnt/clients/$1.leases" -pf "/mnt/clients/$1.pid" -sf /mnt/script nic0
}

# gone N: node-N is switched off.
gone() {
	timeout 5 sh -c "until [ -s clients/$1.pid ]; do sleep 0.1; done" # it is in the background before it writes that
	kill -9 "$(cat "clients/$1.pid")"
}

# leases SERVER: what happens in each file.
leases() {
	ip link add br0 type bridge
	ip address add 10.77.0.1/24 dev br0
	ip link set br0 up
	for n in 1 2 3 4 5 6 7 8; do
		ip netns add "n$n"
		ip link add "port$n" type veth peer name nic0 netns "n$n"
		ip link set "port$n" master br0 up
		ip -n "n$n" link set lo up
		ip -n "n$n" link set nic0 address "52:54:00:12:34:0$n" up
	done
	rm -rf clients && mkdir clients
	"$1" &
	server=$!
	sleep 3
	client 1 'send host-name "node-1"; send dhcp-client-identifier 01:52:54:00:12:34:01; send vendor-class-identifier "PXEClient:Arch:00007:UNDI:003016";'
	client 2 'send host-name "Node-2.rack.example";'
	client 3 'send dhcp-client-identifier "\000a\"b;{\\c,d}"; send vendor-class-identifier "x\";}y{";'
	client 4 'send host-name "node-4";'
	ip netns exec n4 dhclient -4 -r -q -cf clients/4.conf -lf /mnt/clients/4.leases -pf /mnt/clients/4.pid -sf /mnt/script nic0 || true
	touch decline
	client 5 'send host-name "node-5";' || true # it gives up then
	client 6 'send host-name "node-6"; send dhcp-lease-time 4;'
	gone 6
	client 8 'send host-name "node-8"; send dhcp-lease-time 4294967295;'
	sleep 15 # in which the lease of node-6 ends
	client 7 'send host-name "node-7"; send dhcp-lease-time 120;' # it ends when the server is gone
	for n in 1 2 3 7 8; do gone "$n"; done
	kill "$server"
	wait "$server" || true
	for n in 1 2 3 4 5 6 7 8; do ip netns delete "n$n"; done
	ip link delete br0
}

kea() {
	cat >kea.json <<'JSON'
{"Dhcp4": {
	"interfaces-config": {"interfaces": ["br0"]}, "lease-database": {"type": "memfile", "name": "/mnt/kea4.csv", "lfc-interval": 0},
	"min-valid-lifetime": 4, "valid-lifetime": 36000, "max-valid-lifetime": 4294967295, "ddns-qualifying-suffix": "rack.example.",
	"expired-leases-processing": {"reclaim-timer-wait-time": 1, "hold-reclaimed-time": 3600},
	"subnet4": [{"subnet": "10.77.0.0/24", "pools": [{"pool": "10.77.0.100-10.77.0.199"}]}],
	"loggers": [{"name": "kea-dhcp4", "severity": "WARN", "output_options": [{"output": "stderr"}]}]
}}
JSON
	exec env LD_LIBRARY_PATH="$libraries" KEA_LOCKFILE_DIR=/mnt KEA_PIDFILE_DIR=/mnt "$peers/usr/sbin/kea-dhcp4" -c kea.json
}

dhcpd() {
	cat >dhcpd.conf <<'CONF'
authoritative;
min-lease-time 4;
default-lease-time 36000;
max-lease-time 4294967295;
set vendor-class-identifier = option vendor-class-identifier;
subnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.100 10.77.0.199; }
CONF
	: >dhcpd4.leases
	exec env LD_LIBRARY_PATH="$libraries" "$peers/usr/sbin/dhcpd" -4 -f -q -user root -cf /mnt/dhcpd.conf -lf /mnt/dhcpd4.leases -pf /mnt/dhcpd.pid br0
}

dnsmasq() {
	exec env LD_LIBRARY_PATH="$libraries" "$peers/usr/sbin/dnsmasq" --keep-in-foreground --conf-file=/dev/null --port=0 --user=root --pid-file \
		--interface=br0 --bind-interfaces --log-facility=- --dhcp-range=10.77.0.100,10.77.0.199,10h --dhcp-host=52:54:00:12:34:08,infinite \
		--dhcp-authoritative --dhcp-leasefile=/mnt/dnsmasq4.leases
}

for server in kea dhcpd dnsmasq; do
	leases "$server"
done
cp kea4.csv dhcpd4.leases dnsmasq4.leases "$here"
