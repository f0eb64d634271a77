// Package swarm forms and fills Docker Swarms.
//
// It talks to the Docker engines of nodes through their agents: an [Ask]
// carries one API request to a node and brings its answer back, so no engine
// has to listen on the network. The facts that it is built on (which token
// opens what, what a lost answer leaves behind) are in docs/architecture.md.
package swarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/rackstage/provision/fleet"
)

// Ask sends one request to the Docker engine of a node.
type Ask func(ctx context.Context, node fleet.NodeID, r fleet.DockerRequest) (fleet.DockerResponse, error)

// Labels that we set on clusters and on their nodes.
const (
	LabelStage = "provision.stage"
	LabelPool  = "provision.pool"
	LabelNode  = "provision.node"
)

// port is where managers listen for others (moby: DefaultSwarmPort).
const port = "2377"

// A Swarm forms and fills the swarms of all stages.
type Swarm struct {
	ask     Ask
	joining Joining
}

// Joining returns the nodes that have begun to join, and are not confirmed yet.
type Joining func() []fleet.Node

// New returns a Swarm that reaches engines by ask. It takes no member away that
// may be of a node that is just joining.
func New(ask Ask, joining Joining) *Swarm { return &Swarm{ask: ask, joining: joining} }

func (s *Swarm) engine(n fleet.Node) (*client.Client, error) {
	return client.New(client.WithHost("tcp://node"), client.WithHTTPClient(tunnel(s.ask, n.ID)), client.WithAPIVersion("1.41"))
}

// Form implements cluster.Kind.
func (s *Swarm) Form(ctx context.Context, n fleet.Node) (fleet.Joined, error) {
	c, err := s.engine(n)
	if err != nil {
		return fleet.Joined{}, err
	}
	info, err := c.Info(ctx, client.InfoOptions{})
	if err != nil {
		return fleet.Joined{}, trouble("ask Docker", n, err)
	}
	if info.Info.Swarm.LocalNodeState != swarm.LocalNodeStateActive {
		if err := initialise(ctx, c, n); err != nil {
			return fleet.Joined{}, err
		}
	}
	sw, err := s.own(ctx, c, n)
	if err != nil {
		return fleet.Joined{}, err
	}
	info, err = c.Info(ctx, client.InfoOptions{})
	if err != nil {
		return fleet.Joined{}, trouble("ask Docker", n, err)
	}
	return fleet.Joined{ClusterID: sw.ID, NodeID: info.Info.Swarm.NodeID}, nil
}

func initialise(ctx context.Context, c *client.Client, n fleet.Node) error {
	o := client.SwarmInitOptions{
		ListenAddr: listenAddr(n.Addr), AdvertiseAddr: advertise(n),
		Spec: swarm.Spec{Annotations: swarm.Annotations{Name: "default", Labels: map[string]string{LabelStage: string(n.Stage)}}},
	}
	if _, err := c.SwarmInit(ctx, o); err != nil {
		return trouble("form swarm", n, err)
	}
	return nil
}

// own returns the swarm that n manages, provided that it is its stage's.
func (s *Swarm) own(ctx context.Context, c *client.Client, n fleet.Node) (swarm.Swarm, error) {
	res, err := c.SwarmInspect(ctx, client.SwarmInspectOptions{})
	if err != nil {
		return swarm.Swarm{}, trouble("read swarm", n, err)
	}
	if got := res.Swarm.Spec.Labels[LabelStage]; got != string(n.Stage) {
		return swarm.Swarm{}, &fleet.Error{
			Kind: fleet.Conflict, Code: "E-CLUSTER-FOREIGN", Op: "use swarm", On: "node " + n.Title(),
			Err:  fmt.Errorf("swarm %s is of stage %q, the node is of %q", res.Swarm.ID, fleet.CleanText(got), n.Stage),
			Hint: "on the node: docker swarm leave --force, if that swarm is not needed; then start the run again",
		}
	}
	return res.Swarm, nil
}

// Order implements cluster.Kind.
func (s *Swarm) Order(ctx context.Context, via, n fleet.Node, role fleet.Role) (fleet.JoinOrder, error) {
	c, err := s.engine(via)
	if err != nil {
		return fleet.JoinOrder{}, err
	}
	sw, err := s.own(ctx, c, via)
	if err != nil {
		return fleet.JoinOrder{}, err
	}
	if via.Member.Cluster != "" && sw.ID != via.Member.Cluster {
		return fleet.JoinOrder{}, &fleet.Error{
			Kind: fleet.Conflict, Code: "E-CLUSTER-FOREIGN", Op: "use swarm", On: "node " + via.Title(),
			Err: fmt.Errorf("it manages swarm %s, stage %s has %s", sw.ID, via.Stage, via.Member.Cluster),
		}
	}
	managers, err := managerAddrs(ctx, c, via)
	if err != nil {
		return fleet.JoinOrder{}, err
	}
	// The role comes from the token, not from the node.
	token := sw.JoinTokens.Worker
	if role == fleet.Manager {
		token = sw.JoinTokens.Manager
	}
	return fleet.JoinOrder{Token: token, Managers: managers, Advertise: advertise(n)}, nil
}

func managerAddrs(ctx context.Context, c *client.Client, via fleet.Node) ([]string, error) {
	list, err := c.NodeList(ctx, client.NodeListOptions{})
	if err != nil {
		return nil, trouble("list swarm nodes", via, err)
	}
	var out []string
	for _, m := range list.Items {
		if m.ManagerStatus != nil && m.ManagerStatus.Reachability == swarm.ReachabilityReachable {
			out = append(out, m.ManagerStatus.Addr)
		}
	}
	if len(out) == 0 {
		return nil, trouble("list swarm nodes", via, errors.New("no manager is reachable"))
	}
	return out, nil
}

// Confirm implements cluster.Kind.
func (s *Swarm) Confirm(ctx context.Context, via, n fleet.Node, j fleet.Joined) error {
	c, err := s.engine(via)
	if err != nil {
		return err
	}
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		return struct{}{}, s.confirmOnce(ctx, c, n, j)
	}, backoff.WithBackOff(backoff.NewConstantBackOff(500*time.Millisecond)), backoff.WithMaxElapsedTime(0))
	if err != nil {
		return err
	}
	return s.removeOlder(ctx, c, n, j)
}

func (s *Swarm) confirmOnce(ctx context.Context, c *client.Client, n fleet.Node, j fleet.Joined) error {
	res, err := c.NodeInspect(ctx, j.NodeID, client.NodeInspectOptions{})
	if err != nil {
		return trouble("confirm node", n, err)
	}
	m := res.Node
	if err := check(m, n); err != nil {
		return err
	}
	spec := m.Spec
	spec.Availability = swarm.NodeAvailabilityActive
	spec.Labels = maps.Clone(spec.Labels)
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	maps.Copy(spec.Labels, labels(n))
	if spec.Availability == m.Spec.Availability && maps.Equal(spec.Labels, m.Spec.Labels) {
		return nil
	}
	// Labels first, then work: both are one update.
	if _, err := c.NodeUpdate(ctx, m.ID, client.NodeUpdateOptions{Version: m.Version, Spec: spec}); err != nil {
		return trouble("label node", n, err)
	}
	return nil
}

// check compares what the manager sees with what we know.
func check(m swarm.Node, n fleet.Node) error {
	wrong := ""
	switch {
	case m.Status.State != swarm.NodeStateReady:
		wrong = fmt.Sprintf("it is %s: %s", m.Status.State, fleet.CleanText(m.Status.Message))
	case n.Role == fleet.Manager && m.Spec.Role != swarm.NodeRoleManager, n.Role == fleet.Worker && m.Spec.Role != swarm.NodeRoleWorker:
		wrong = fmt.Sprintf("it joined as %s, not as %s", m.Spec.Role, n.Role)
	case n.Name != "" && m.Description.Hostname != n.Name:
		wrong = fmt.Sprintf("it is called %q, not %q", fleet.CleanText(m.Description.Hostname), n.Name)
	case n.Role == fleet.Manager && (m.ManagerStatus == nil || m.ManagerStatus.Reachability != swarm.ReachabilityReachable):
		wrong = "the other managers do not reach it"
	}
	if wrong == "" {
		return nil
	}
	return &fleet.Error{
		Kind: fleet.Unreachable, Code: "E-CLUSTER-UNCONFIRMED", Op: "confirm", On: "node " + n.Title(), Err: errors.New(wrong),
		Hint: "on a manager: docker node inspect " + m.ID,
	}
}

func labels(n fleet.Node) map[string]string {
	l := map[string]string{LabelStage: string(n.Stage), LabelPool: string(n.Pool), LabelNode: string(n.ID)}
	maps.Copy(l, n.Labels)
	return l
}

// Rotate implements cluster.Kind. The whole spec is written back as it was
// read: one that loses CAConfig.ForceRotate starts a CA rotation.
func (s *Swarm) Rotate(ctx context.Context, via fleet.Node) error {
	c, err := s.engine(via)
	if err != nil {
		return err
	}
	sw, err := s.own(ctx, c, via)
	if err != nil {
		return err
	}
	o := client.SwarmUpdateOptions{Version: sw.Version, Spec: sw.Spec, RotateWorkerToken: true, RotateManagerToken: true}
	if _, err := c.SwarmUpdate(ctx, o); err != nil {
		return trouble("rotate join tokens", via, err)
	}
	return nil
}

// listenAddr is all addresses of the family that the node is reached by.
func listenAddr(a netip.Addr) string {
	if a.Is6() {
		return "[::]:" + port
	}
	return "0.0.0.0:" + port
}

func advertise(n fleet.Node) string {
	if n.Addr == (netip.Addr{}) {
		return ""
	}
	return n.Addr.String()
}

// trouble wraps an error of an engine. Errors of Docker that name a token do
// not exist, but nothing that looks like one is passed on.
func trouble(op string, n fleet.Node, err error) error {
	text := fleet.CleanText(cmp.Or(err.Error(), "no answer"))
	if strings.Contains(text, "SWMTKN") {
		text = "(an error that showed a token)"
	}
	return &fleet.Error{Kind: fleet.Unreachable, Code: "E-SWARM", Op: op, On: "node " + n.Title(), Err: errors.New(text), Hint: "on the node: journalctl -u docker"}
}
