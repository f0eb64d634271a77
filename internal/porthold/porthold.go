// Package porthold says which process holds a port, so that "address already
// in use" can name the culprit: "UDP 67 is already in use by dnsmasq (pid 812)".
//
// It reads /proc as ss and lsof do: the socket's inode from /proc/net, then
// the process that has this inode among its open files. Who is not root sees
// only the own processes, and then the answer is "unknown".
package porthold

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A Holder is a process that has a port open.
type Holder struct {
	PID  int
	Name string
}

// String returns "dnsmasq (pid 812)".
func (h Holder) String() string { return fmt.Sprintf("%s (pid %d)", h.Name, h.PID) }

// Explain names the holder of a port when err says that the port is taken.
// Any other error is returned as it is. The network is "udp" or "tcp".
func Explain(network string, port int, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	title := fmt.Sprintf("%s %d", strings.ToUpper(network), port)
	if h, ok := Find(network, port); ok {
		return fmt.Errorf("%s is already in use by %s: %w", title, h, syscall.EADDRINUSE)
	}
	return fmt.Errorf("%s is already in use by another process: %w", title, syscall.EADDRINUSE)
}

// Find returns a process that has a UDP socket on the port, or listens on it
// by TCP. The network is "udp" or "tcp".
func Find(network string, port int) (Holder, bool) {
	for _, table := range []string{network, network + "6"} {
		f, err := os.Open("/proc/net/" + table)
		if err != nil {
			continue
		}
		inodes := inodesOf(f, network == "tcp", port)
		_ = f.Close()
		if h, ok := holderOf(inodes); ok {
			return h, true
		}
	}
	return Holder{}, false
}

const stateListen = "0A" // TCP_LISTEN in include/net/tcp_states.h

// inodesOf reads a table in the form of /proc/net/udp: local address in
// column 1, state in 3, inode in 9.
func inodesOf(r io.Reader, listening bool, port int) map[string]bool {
	inodes := make(map[string]bool)
	suffix := fmt.Sprintf(":%04X", port)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || !strings.HasSuffix(f[1], suffix) || (listening && f[3] != stateListen) {
			continue
		}
		inodes["socket:["+f[9]+"]"] = true
	}
	return inodes
}

// holderOf returns the first process that has one of the sockets open.
func holderOf(inodes map[string]bool) (Holder, bool) {
	if len(inodes) == 0 {
		return Holder{}, false
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err != nil || !inodes[target] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		comm, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return Holder{PID: pid, Name: strings.TrimSpace(string(comm))}, true
	}
	return Holder{}, false
}
