package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// A tftpServer is one that takes part. It serves boot.bin and small.bin in
// dir.
type tftpServer struct {
	name  string
	start func(ctx context.Context, l *link, dir string) (*process, error)
}

func tftpServers() []tftpServer {
	return []tftpServer{
		{"provision", startProvisionTFTP},
		{"tftpd-hpa", startHPA},
		{"dnsmasq", startDnsmasqTFTP},
	}
}

const tftpSite = `subnets:
  - name: bench
    cidr: 10.0.0.0/8
    mode: observe
    server: 10.0.0.1
`

func startProvisionTFTP(ctx context.Context, l *link, dir string) (*process, error) {
	state := filepath.Join(dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	if err := os.Symlink(filepath.Join(dir, "boot"), filepath.Join(state, "boot")); err != nil {
		return nil, err
	}
	st, err := l.provision(ctx, state, tftpSite)
	if err != nil {
		return nil, err
	}
	return st.process, nil
}

// tftpd-hpa forks for each transfer.
func startHPA(ctx context.Context, l *link, dir string) (*process, error) {
	p, err := l.b.peer("in.tftpd")
	if err != nil {
		return nil, err
	}
	return l.start(ctx, p.env, p.path, "-L", "-u", "root", "--address", "10.0.0.1:69", "--secure", filepath.Join(dir, "boot"))
}

// dnsmasq has a descriptor for each transfer and serves 50 at once, unless
// told otherwise.
func startDnsmasqTFTP(ctx context.Context, l *link, dir string) (*process, error) {
	p, err := l.b.peer("dnsmasq")
	if err != nil {
		return nil, err
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	return l.start(ctx, p.env, "prlimit", fmt.Sprintf("--nofile=%d", files.Max), p.path, "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root",
		"--pid-file="+filepath.Join(dir, "pid"), "--listen-address=10.0.0.1", "--bind-interfaces", "--enable-tftp",
		"--tftp-root="+filepath.Join(dir, "boot"), "--tftp-max=10000")
}
