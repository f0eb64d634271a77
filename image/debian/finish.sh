#!/bin/sh
# Makes a Debian tree into that of a node: switches services, removes what must
# be of one machine only, and whatever a second build would make different.
#
#   finish.sh TREE
set -eu
root=$1

# --- services -----------------------------------------------------------
units() { SYSTEMD_OFFLINE=1 systemctl --quiet --root="$root" "$@"; }
units enable provision-agent.service provision-ssh-keys.service provision-grow.service \
	provision-cloud-network.service provision-cloud-init.service provision-docker-network.service provision-docker-modules.service \
	systemd-networkd.service ssh.service containerd.service serial-getty@ttyS0.service
# cloud-init runs by our units; its generator costs a second of every boot.
units mask cloud-init-local.service cloud-init.service cloud-config.service cloud-final.service \
	cloud-init-hotplugd.socket
mkdir -p "$root/etc/systemd/system-generators"
ln -sf /dev/null "$root/etc/systemd/system-generators/cloud-init-generator"
# Copies of Debian's units that hold up less. Name resolution and time are
# started with the rest, not before everything else; Docker does not wait for
# the network, see provision-docker-network.service.
units disable systemd-resolved.service systemd-timesyncd.service 2>/dev/null
for unit in systemd-resolved systemd-timesyncd; do
	sed -e '/^Before=/s/sysinit.target\|network.target//g' -e 's/^WantedBy=sysinit.target/WantedBy=multi-user.target/' \
		-e '/^DefaultDependencies=no/d' "$root/lib/systemd/system/$unit.service" >"$root/etc/systemd/system/$unit.service"
done
sed -e '/^After=/s/network-online.target//' -e '/^Wants=/s/network-online.target//' \
	"$root/lib/systemd/system/docker.service" >"$root/etc/systemd/system/docker.service"
units enable systemd-resolved.service systemd-timesyncd.service docker.service
# dockerd loads the one profile that is used here by itself.
units disable apparmor.service
# No LVM, no suspend, no plymouth here; a node is replaced, not patched by night.
units mask e2scrub_reap.service e2scrub_all.timer
# What a Docker host does not have: each costs the boot a process or two.
units mask sys-fs-fuse-connections.mount sys-kernel-config.mount modprobe@drm.service
for generator in gpt-auto integritysetup veritysetup hibernate-resume rc-local system-update; do
	ln -sf /dev/null "$root/etc/systemd/system-generators/systemd-$generator-generator"
done
units disable e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer 2>/dev/null || true
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
ln -sf ../run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"

units disable systemd-networkd-wait-online.service
rm -f "$root"/lib/binfmt.d/*.conf # registering python's .pyc costs more than it gives

# --- of one machine only ----------------------------------------------------
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"
ln -s /etc/machine-id "$root/var/lib/dbus/machine-id"
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/systemd/random-seed" "$root/etc/docker/key.json"
mkdir -p "$root/etc/provision" "$root/var/lib/provision-agent" "$root/var/lib/cloud/seed/nocloud" "$root/boot/efi"
chmod 700 "$root/etc/provision" "$root/var/lib/provision-agent"

# --- python: as many imports as cloud-init has, stat and compare nothing ------
find "$root/usr/lib/python3" "$root"/usr/lib/python3.* -name __pycache__ -prune -exec rm -rf {} +
chroot "$root" python3 -m compileall -q -j1 --invalidation-mode unchecked-hash /usr/lib/python3 /usr/lib/python3.11 >/dev/null || true

# --- "is /usr newer than /etc": no, it was all made at once -----------------
for dir in etc var; do
	printf 'TIMESTAMP_NSEC=%s000000000\n' "$SOURCE_DATE_EPOCH" >"$root/$dir/.updated"
done

# --- what was for building only -------------------------------------------------
sed -i '/force-unsafe-io/d' "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"

# --- logs, caches, left-overs -------------------------------------------------
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/cache/debconf/*-old \
	"$root"/var/cache/ldconfig "$root"/var/lib/dpkg/*-old "$root"/var/backups/* \
	"$root"/var/log/apt "$root"/var/log/dpkg.log "$root"/var/log/alternatives.log \
	"$root"/var/log/bootstrap.log "$root"/etc/*- "$root"/tmp/* "$root"/var/tmp/* "$root"/run/*
mkdir -p "$root/var/cache/apt/archives/partial" "$root/var/lib/apt/lists/partial"
find "$root/var/log" -type f -exec truncate -s 0 {} +
# Kept across boots; systemd-tmpfiles gives it its access list at each.
rm -rf "$root/var/log/journal"
chroot "$root" install -d -m 2755 -g systemd-journal /var/log/journal
