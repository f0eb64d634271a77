package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestCommandLine(t *testing.T) {
	tests := map[string]struct {
		args []string
		code int
		says string // on stdout or stderr
	}{
		"the version":                       {[]string{"version"}, 0, "development"},
		"nothing":                           {nil, 2, "usage: provision-agent service"},
		"an unknown word":                   {[]string{"serve"}, 2, "usage: provision-agent service"},
		"an unknown flag":                   {[]string{"service", "--nothing"}, 2, "nothing"},
		"a service without configuration":   {[]string{"service", "--config", "/nonexistent/agent.json"}, 1, "read configuration"},
		"the ramdisk's agent anywhere else": {[]string{"ramdisk"}, 2, "usage: provision-agent service"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(tt.args, &stdout, &stderr)
			if said := stdout.String() + stderr.String(); code != tt.code || !strings.Contains(said, tt.says) {
				t.Errorf("run = %d, %q, want %d and %q", code, said, tt.code, tt.says)
			}
		})
	}
}
