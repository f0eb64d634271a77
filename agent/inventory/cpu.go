package inventory

import (
	"strconv"
	"strings"

	"github.com/rackstage/provision/api"
)

// parseCPU reads /proc/cpuinfo. Where the kernel shows no topology (arm64,
// some virtual machines) all processors are counted as cores of one socket.
func parseCPU(text string) api.CPU {
	var c api.CPU
	cores := map[string]bool{}
	sockets := map[string]bool{}
	for block := range strings.SplitSeq(text, "\n\n") {
		fields := map[string]string{}
		for line := range strings.SplitSeq(block, "\n") {
			key, value, _ := strings.Cut(line, ":")
			fields[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
		if _, ok := fields["processor"]; !ok {
			continue
		}
		c.Threads++
		if c.Model == "" {
			c.Model = fields["model name"]
		}
		if id, ok := fields["physical id"]; ok {
			sockets[id] = true
			cores[id+"/"+fields["core id"]] = true
		}
	}
	c.Sockets, c.Cores = len(sockets), len(cores)
	if c.Sockets == 0 && c.Threads > 0 {
		c.Sockets, c.Cores = 1, c.Threads
	}
	return c
}

// parseMemory returns the memory in MiB out of /proc/meminfo: what the kernel
// has left of it, a little less than what is plugged in.
func parseMemory(text string) int {
	for line := range strings.SplitSeq(text, "\n") {
		rest, ok := strings.CutPrefix(line, "MemTotal:")
		if !ok {
			continue
		}
		kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
		if err != nil {
			return 0
		}
		return kib / 1024
	}
	return 0
}
