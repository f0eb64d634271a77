package docker

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/agent/retry"
	"github.com/rackstage/provision/api"
)

const (
	joinPatience   = 90 * time.Second // Docker itself answers after 20, and goes on
	memberPatience = 30 * time.Second // from "joined" to a certificate
	leavePatience  = 60 * time.Second
)

// info is what we want of GET /info.
type info struct {
	DockerRootDir string
	Swarm         struct {
		NodeID         string
		LocalNodeState string // inactive pending active error locked
		Error          string
	}
}

// Member returns the node's place in its cluster. ok is false when it is in
// none.
func (e *Engine) Member(ctx context.Context) (j api.Joined, ok bool, err error) {
	var i info
	if err := e.call(ctx, http.MethodGet, "/info", nil, &i); err != nil {
		return api.Joined{}, false, fault.Errorf(fault.DockerAway, "ask Docker for its state: %w", err)
	}
	if i.Swarm.LocalNodeState != "active" || i.Swarm.NodeID == "" {
		return api.Joined{}, false, nil
	}
	// A worker's engine does not say which cluster it is in; its certificate does.
	cluster, node, err := certified(filepath.Join(e.root, i.DockerRootDir, "swarm/certificates/swarm-node.crt"))
	if err != nil {
		return api.Joined{}, false, fault.Errorf(fault.Join, "%w", err)
	}
	if node != i.Swarm.NodeID {
		return api.Joined{}, false, fault.Errorf(fault.Join, "Docker says that this is node %s, its certificate says %s", i.Swarm.NodeID, node)
	}
	return api.Joined{ClusterID: cluster, NodeID: node}, true, nil
}

// certified reads cluster and node out of a Swarm certificate:
// "O=<cluster>, OU=swarm-worker, CN=<node>".
func certified(file string) (cluster, node string, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", "", fmt.Errorf("read the node's Swarm certificate: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return "", "", errors.New("read the node's Swarm certificate: not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", "", fmt.Errorf("read the node's Swarm certificate: %w", err)
	}
	if len(cert.Subject.Organization) != 1 || cert.Subject.CommonName == "" {
		return "", "", fmt.Errorf("the node's Swarm certificate is for %q", cert.Subject)
	}
	return cert.Subject.Organization[0], cert.Subject.CommonName, nil
}

// Join takes the node into a cluster, paused: no task lands before the server
// has looked at it. order is called when the engine is ready for it, and what
// it returns is used once and forgotten. Nothing is left half joined.
func (e *Engine) Join(ctx context.Context, order func(context.Context) (api.JoinReply, error)) (api.Joined, error) {
	if err := e.Ready(ctx); err != nil {
		return api.Joined{}, err
	}
	if err := e.clearOld(ctx); err != nil {
		return api.Joined{}, err
	}
	if j, ok, err := e.Member(ctx); ok || err != nil {
		return j, err // a repeated join, or another cluster: the server knows
	}
	o, err := order(ctx)
	if err != nil {
		return api.Joined{}, err
	}
	j, err := e.join(ctx, o)
	if err != nil {
		return api.Joined{}, errors.Join(err, e.leave(context.WithoutCancel(ctx)))
	}
	return j, nil
}

// clearOld leaves what is no membership any more: a join that Docker goes on
// with by itself, or a certificate that ran out while the machine was off.
func (e *Engine) clearOld(ctx context.Context) error {
	var i info
	if err := e.call(ctx, http.MethodGet, "/info", nil, &i); err != nil {
		return fault.Errorf(fault.DockerAway, "ask Docker for its state: %w", err)
	}
	switch i.Swarm.LocalNodeState {
	case "pending", "error":
		return e.leave(ctx)
	case "locked":
		return fault.Errorf(fault.Join, "the node's Swarm is locked: unlock it, or make the node leave")
	default:
		return nil
	}
}

// listenAddr is all addresses of the family that the others reach us by.
func listenAddr(advertise string) string {
	if a, err := netip.ParseAddr(advertise); err == nil && a.Is6() {
		return "[::]:2377"
	}
	return "0.0.0.0:2377"
}

func (e *Engine) join(ctx context.Context, o api.JoinReply) (api.Joined, error) {
	once, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	err := e.call(once, http.MethodPost, "/swarm/join", map[string]any{
		"ListenAddr":    listenAddr(o.Advertise),
		"AdvertiseAddr": o.Advertise,
		"RemoteAddrs":   o.Managers,
		"JoinToken":     o.Token,
		"Availability":  "pause",
	}, nil)
	if err != nil {
		code := fault.Join
		if once.Err() != nil {
			code = fault.JoinTimeout
		}
		// Should the engine ever quote the token, it ends here.
		said := strings.ReplaceAll(err.Error(), o.Token, "(token)")
		return api.Joined{}, fault.Errorf(code, "join through %v: %s", o.Managers, said)
	}
	return e.confirm(ctx)
}

// confirm waits for the certificate, which comes a moment after the join.
func (e *Engine) confirm(ctx context.Context) (api.Joined, error) {
	ctx, cancel := context.WithTimeout(ctx, memberPatience)
	defer cancel()
	var delay retry.Delay
	for {
		j, ok, err := e.Member(ctx)
		if ok {
			return j, nil
		}
		if retry.Pause(ctx, delay.Next()) != nil {
			return api.Joined{}, fault.Errorf(fault.JoinTimeout, "joined, but not a member after %v: %w", memberPatience, err)
		}
	}
}

func (e *Engine) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	var i info
	if err := e.call(ctx, http.MethodGet, "/info", nil, &i); err == nil && i.Swarm.LocalNodeState == "inactive" {
		return nil
	}
	if err := e.call(ctx, http.MethodPost, "/swarm/leave?force=true", nil, nil); err != nil {
		return fault.Errorf(fault.Join, "leave again: %w", err)
	}
	return nil
}
