package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// A station is our own program under load: `provision serve` with a state
// folder of its own.
type station struct {
	*process
	state string
}

// provision starts it with a site.yaml. In state, which may hold something
// already, it keeps what it keeps.
func (l *link) provision(ctx context.Context, state, site string) (*station, error) {
	program, err := l.b.program("provision")
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`state_dir: %[1]s
site: %[1]s/site.yaml
log_level: warn
listen:
  dhcp: [%[2]s]
  http: ":80"
  https: ":8443"
  socket: %[1]s/provision.sock
`, state, serverIface)
	file := filepath.Join(state, "provision.yaml")
	for name, text := range map[string]string{file: conf, filepath.Join(state, "site.yaml"): site} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	p, err := l.start(ctx, nil, program, "serve", "--config", file)
	if err != nil {
		return nil, err
	}
	return &station{process: p, state: state}, nil
}
