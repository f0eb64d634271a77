package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rackstage/provision/agent/disk"
	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

// Where the installed system's agent finds what it is.
const (
	ConfigFile = "/etc/provision/agent.json"
	StateDir   = "/var/lib/provision-agent"

	keyFile  = "key.pem"
	certFile = "cert.pem"
	caFile   = "ca.pem"
)

// A Config is what the installed system's agent is told: which server, and
// by which certificate it knows it.
type Config struct {
	Server string `json:"server"` // "https://10.77.0.1:8443"
	CA     string `json:"ca"`     // "sha256:…"
}

// mountPoint is where partitions of the new system are mounted for a moment.
const mountPoint = "/run/provision/mnt"

// seed writes what makes the new system a node: the server's files, and a key
// that is made here and never leaves the disk.
func (in *installer) seed(ctx context.Context, s *api.Step, progress func(int, string)) (outcome, error) {
	order, err := need(s.Seed, s)
	if err != nil {
		return outcome{}, err
	}
	in.last = order.DiskID
	own, err := in.identityFiles(ctx)
	if err != nil {
		return outcome{}, fault.Errorf(fault.Seed, "get a certificate for the new system: %w", err)
	}
	progress(30, "certificate for the new system is here")
	layout, err := in.disks.Layout(ctx, order.DiskID)
	if err != nil {
		return outcome{}, err
	}
	device, _, err := layout.Root()
	if err != nil {
		return outcome{}, err
	}
	err = disk.WithMounted(device, false, mountPoint, func(at string) error {
		return writeTree(at, append(order.Files, own...))
	})
	if err != nil {
		return outcome{}, err
	}
	unix.Sync()
	return outcome{text: fmt.Sprintf("%d files written to %s", len(order.Files)+len(own), device)}, nil
}

// identityFiles makes the new system's key, gets its certificate, and returns
// both with the agent's configuration.
func (in *installer) identityFiles(ctx context.Context) ([]api.SeedFile, error) {
	id, err := newIdentity()
	if err != nil {
		return nil, err
	}
	reply, err := certify(ctx, in.client, id.csr)
	if err != nil {
		return nil, err
	}
	config, err := json.MarshalIndent(Config{Server: in.client.server.String(), CA: in.client.pin.String()}, "", "  ")
	if err != nil {
		return nil, err
	}
	return []api.SeedFile{
		{Path: path.Join(StateDir, keyFile), Mode: 0o600, Data: id.keyPEM},
		{Path: path.Join(StateDir, certFile), Mode: 0o644, Data: []byte(reply.Certificate)},
		{Path: path.Join(StateDir, caFile), Mode: 0o644, Data: []byte(reply.ServerCA)},
		{Path: ConfigFile, Mode: 0o644, Data: append(config, '\n')},
	}, nil
}

// writeTree writes files below a mounted root. Links in the image cannot lead
// out of it: os.Root sees to that.
func writeTree(at string, files []api.SeedFile) error {
	root, err := os.OpenRoot(at)
	if err != nil {
		return fault.Errorf(fault.Seed, "open the new system's root: %w", err)
	}
	defer root.Close() // a folder
	for _, f := range files {
		if err := writeSeed(root, f); err != nil {
			return fault.Errorf(fault.Seed, "write %s: %w", f.Path, err)
		}
	}
	return nil
}

// writeSeed puts a new file in the place of whatever has its name: what a link
// of that name points to stays as it is.
func writeSeed(root *os.Root, f api.SeedFile) error {
	if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
		return fmt.Errorf("not a clean absolute path")
	}
	name := strings.TrimPrefix(f.Path, "/")
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	fresh := path.Join(path.Dir(name), ".new-"+path.Base(name))
	if err := root.RemoveAll(fresh); err != nil {
		return err
	}
	out, err := root.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(f.Data)
	if err == nil {
		err = out.Chmod(os.FileMode(f.Mode) & 0o777)
	}
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return root.Rename(fresh, name)
}
