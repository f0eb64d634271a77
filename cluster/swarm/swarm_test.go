package swarm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rackstage/provision/cluster/clustertest"
	"github.com/rackstage/provision/fleet"
)

// A dockerd is a real engine in a network and UTS namespace of its own.
type dockerd struct {
	node   fleet.Node
	ns     string
	socket string
}

// do sends one request to the engine, as the agent on a node does.
func (d dockerd) do(ctx context.Context, r fleet.DockerRequest) (fleet.DockerResponse, error) {
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d2 net.Dialer
			return d2.DialContext(ctx, "unix", d.socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, r.Method, "http://docker"+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return fleet.DockerResponse{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return fleet.DockerResponse{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fleet.DockerResponse{Status: resp.StatusCode, Body: body}, err
}

func (d dockerd) get(ctx context.Context, path string, into any) error {
	r, err := d.do(ctx, fleet.DockerRequest{Method: http.MethodGet, Path: path})
	if err != nil {
		return err
	}
	if r.Status != http.StatusOK {
		return fmt.Errorf("status %d: %s", r.Status, r.Body)
	}
	return json.Unmarshal(r.Body, into)
}

// startEngines starts engines that reach each other over a bridge, which is the
// first one's interface.
func startEngines(t *testing.T, network netip.Prefix, names ...string) []dockerd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test starts Docker engines: run it as root (make test does)")
	}
	var out []dockerd
	addr := network.Addr()
	for i, name := range names {
		ns := fmt.Sprintf("swarm%d-%d", i, os.Getpid())
		ip(t, "netns", "add", ns)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", ns).Run() })
		if i == 0 {
			ip(t, "-n", ns, "link", "add", "e0", "type", "bridge")
		} else {
			port := fmt.Sprintf("p%d", i)
			ip(t, "link", "add", "e0", "netns", ns, "type", "veth", "peer", "name", port, "netns", out[0].ns)
			ip(t, "-n", out[0].ns, "link", "set", port, "master", "e0", "up")
		}
		addr = addr.Next()
		add := []string{"-n", ns, "addr", "add", netip.PrefixFrom(addr, network.Bits()).String(), "dev", "e0"}
		if addr.Is6() {
			add = append(add, "nodad")
		}
		ip(t, add...)
		ip(t, "-n", ns, "link", "set", "e0", "up")
		ip(t, "-n", ns, "link", "set", "lo", "up")
		out = append(out, startDockerd(t, ns, fleet.Node{
			ID: fleet.NodeID(fmt.Sprintf("n-%d", i)), Name: name, Addr: addr,
			Stage: "prd", Pool: "prd", Role: fleet.Worker, Labels: map[string]string{"rack": "r1"},
		}))
	}
	out[0].node.Role = fleet.Manager
	return out
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

func startDockerd(t *testing.T, ns string, n fleet.Node) dockerd {
	t.Helper()
	dir, err := os.MkdirTemp("", "dockerd") //nolint:usetesting // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := dockerd{node: n, ns: ns, socket: filepath.Join(dir, "s")}
	// `ip netns exec` would hide /sys/fs/cgroup.
	cmd := exec.Command("nsenter", "--net=/run/netns/"+ns, "unshare", "--uts", "--mount", "sh", "-c",
		`hostname "$1" && mount -t tmpfs none /run/docker 2>/dev/null; shift; exec dockerd "$@"`, "sh", n.Name,
		"--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "--host", "unix://"+d.socket,
		"--config-file", dir+"/none.json", "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs")
	if err := os.WriteFile(dir+"/none.json", []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil && t.Failed() {
			text, _ := os.ReadFile(dir + "/log")
			t.Logf("dockerd %s ended: %v\n%s", n.Name, err, text)
		}
		_ = log.Close()
	})
	d.await(t, dir+"/log")
	return d
}

func (d dockerd) await(t *testing.T, log string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if r, err := d.do(ctx, fleet.DockerRequest{Method: http.MethodGet, Path: "/_ping"}); err == nil && r.Status == http.StatusOK {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			text, _ := os.ReadFile(log)
			t.Fatalf("dockerd does not answer:\n%s", text)
		}
	}
}

func TestTwoRealEnginesBecomeASwarm(t *testing.T) {
	if testing.Short() {
		t.Skip("starts two Docker engines: make test runs it")
	}
	for _, network := range []string{"10.78.0.0/24", "fd78::/64"} {
		t.Run(network, func(t *testing.T) { becomeSwarm(t, netip.MustParsePrefix(network)) })
	}
}

func becomeSwarm(t *testing.T, network netip.Prefix) {
	t.Helper()
	e := startEngines(t, network, "prd-01", "prd-02")
	byID := enginesByID(e)
	s := New(asking(e), nobody)
	clustertest.Run(t, clustertest.Fixture{
		Kind: s, Manager: e[0].node, Worker: e[1].node,
		Join: func(ctx context.Context, n fleet.Node, o fleet.JoinOrder) (fleet.Joined, error) {
			return joinAsAgent(ctx, byID[n.ID], e[0], o)
		},
		Members: e[0].members,
	})
}

func enginesByID(e []dockerd) map[fleet.NodeID]dockerd {
	byID := map[fleet.NodeID]dockerd{}
	for _, d := range e {
		byID[d.node.ID] = d
	}
	return byID
}

// asking carries requests to the engines, as the agents do.
func asking(e []dockerd) Ask {
	byID := enginesByID(e)
	return func(ctx context.Context, id fleet.NodeID, r fleet.DockerRequest) (fleet.DockerResponse, error) {
		return byID[id].do(ctx, r)
	}
}

func joinAsAgent(ctx context.Context, d, manager dockerd, o fleet.JoinOrder) (fleet.Joined, error) {
	body, err := json.Marshal(map[string]any{
		"ListenAddr": listenAddr(d.node.Addr), "AdvertiseAddr": o.Advertise, "RemoteAddrs": o.Managers, "JoinToken": o.Token, "Availability": "pause",
	})
	if err != nil {
		return fleet.Joined{}, err
	}
	r, err := d.do(ctx, fleet.DockerRequest{Method: http.MethodPost, Path: "/swarm/join", Body: body})
	if err != nil || r.Status != http.StatusOK {
		return fleet.Joined{}, fmt.Errorf("status %d: %s: %w", r.Status, r.Body, err)
	}
	var info struct{ Swarm struct{ NodeID string } }
	if err := d.get(ctx, "/info", &info); err != nil {
		return fleet.Joined{}, err
	}
	var sw struct{ ID string }
	if err := manager.get(ctx, "/swarm", &sw); err != nil {
		return fleet.Joined{}, err
	}
	return fleet.Joined{ClusterID: sw.ID, NodeID: info.Swarm.NodeID}, nil
}

func (d dockerd) members(ctx context.Context) (map[string]map[string]string, error) {
	var list []struct {
		Spec struct {
			Availability string
			Labels       map[string]string
		}
		Description struct{ Hostname string }
		Status      struct{ State string }
	}
	if err := d.get(ctx, "/nodes", &list); err != nil {
		return nil, err
	}
	out := map[string]map[string]string{}
	for _, m := range list {
		if m.Status.State == "ready" && m.Spec.Availability == "active" {
			out[m.Description.Hostname] = m.Spec.Labels
		}
	}
	return out, nil
}
