package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// atATime is how many processes of ipmitool run at the same time: with more it
// gets no faster.
const atATime = 64

// ipmitool returns what is done with one BMC by ipmitool: as people write it
// into scripts, with the cipher suite known. It verifies nothing.
func ipmitool(op string) (func(ctx context.Context, c *contact) error, error) {
	commands := map[string][]string{
		"status": {"chassis power status"},
		"cycle":  {"chassis bootdev pxe options=efiboot", "chassis power cycle"},
	}[op]
	path, err := exec.LookPath("ipmitool")
	if err != nil || commands == nil {
		return nil, fmt.Errorf("ipmitool cannot do %q: %w", op, err)
	}
	slots := make(chan struct{}, atATime)
	return func(ctx context.Context, c *contact) error {
		slots <- struct{}{}
		defer func() { <-slots }()
		for _, command := range commands {
			args := append([]string{"-I", "lanplus", "-H", c.Address, "-U", username, "-E", "-C", strconv.Itoa(c.Found.CipherSuite)}, strings.Fields(command)...)
			cmd := exec.CommandContext(ctx, path, args...)
			cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+password)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("ipmitool %s: %w: %s", command, err, out)
			}
		}
		return nil
	}, nil
}
