package http

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

type listNodes struct {
	Query  string `query:"q" maxLength:"512" doc:"Search: bare words, state:failed,installing pool:prd -arch:arm64"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" maxLength:"512" doc:"next of the page before"`
}

type nodeRef struct {
	Ref string `path:"ref" maxLength:"128" doc:"id, name or MAC"`
}

type powerNode struct {
	Ref  string `path:"ref" maxLength:"128" doc:"id, name or MAC"`
	Body api.PowerRequest
}

func (s *Server) listNodes(_ context.Context, in *listNodes) (*reply[api.NodeList], error) {
	found, err := s.search(in.Query)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b fleet.Node) int { return strings.Compare(nodeKey(a), nodeKey(b)) })
	list := api.NodeList{Nodes: []api.Node{}, Total: len(found)}
	after, err := base64.RawURLEncoding.DecodeString(in.Cursor)
	if err != nil {
		return nil, &fleet.Error{Kind: fleet.Invalid, Code: "E-CURSOR", Op: "list nodes", Err: errors.New("this is no cursor of ours")}
	}
	from, exact := slices.BinarySearchFunc(found, string(after), func(n fleet.Node, key string) int { return strings.Compare(nodeKey(n), key) })
	if exact {
		from++
	}
	page := found[from:min(len(found), from+in.Limit)]
	for _, n := range page {
		list.Nodes = append(list.Nodes, s.node(n))
	}
	if from+len(page) < len(found) {
		list.Next = base64.RawURLEncoding.EncodeToString([]byte(nodeKey(page[len(page)-1])))
	}
	return &reply[api.NodeList]{Body: list}, nil
}

// nodeKey orders nodes by what people call them.
func nodeKey(n fleet.Node) string { return n.Title() + "\x00" + string(n.ID) }

func (s *Server) search(query string) ([]fleet.Node, error) {
	f, err := parseFilter(query)
	if err != nil {
		return nil, err
	}
	var found []fleet.Node
	for _, n := range s.o.Engine.Nodes() {
		if f.holds(n) {
			found = append(found, n)
		}
	}
	return found, nil
}

// byUrgency orders nodes as the console shows them: what failed first, then
// what waits for a person, then what is under way, then the rest.
func byUrgency(a, b fleet.Node) int {
	return cmp.Or(cmp.Compare(urgency(a.State), urgency(b.State)), strings.Compare(nodeKey(a), nodeKey(b)))
}

func urgency(s fleet.State) int {
	switch s {
	case fleet.Failed, fleet.Quarantined:
		return 0
	case fleet.Discovered:
		return 1
	case fleet.Installing, fleet.Installed, fleet.Joining, fleet.Draining, fleet.Releasing:
		return 2
	default:
		return 3
	}
}

func (s *Server) getNode(ctx context.Context, in *nodeRef) (*reply[api.Node], error) {
	n, err := s.o.Engine.Node(in.Ref)
	if err != nil {
		return nil, err
	}
	out := s.node(n)
	if out.Failure != nil && callerOf(ctx).identity.May(access.Operator) { // what a machine wrote may be secret
		out.Failure.Console = n.Failure.Console
	}
	return &reply[api.Node]{Body: out}, nil
}

func (s *Server) approveNode(ctx context.Context, in *nodeRef) (*reply[api.Node], error) {
	n, err := s.o.Engine.Approve(ctx, actorOf(ctx), in.Ref)
	if err != nil {
		return nil, err
	}
	return &reply[api.Node]{Body: s.node(n)}, nil
}

func (s *Server) powerNode(ctx context.Context, in *powerNode) (*reply[api.PowerReply], error) {
	state, err := s.o.Engine.Power(ctx, actorOf(ctx), in.Ref, fleet.PowerOrder{
		Op: fleet.PowerOp(in.Body.Op), Firmware: in.Body.Firmware, URL: in.Body.URL, Persist: in.Body.Persist, Reason: fleet.CleanText(in.Body.Reason),
	})
	if err != nil {
		return nil, err
	}
	return &reply[api.PowerReply]{Body: api.PowerReply{State: string(state)}}, nil
}
