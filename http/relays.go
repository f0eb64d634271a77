package http

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

type addRelay struct {
	Body api.AddRelay
}

type relayRef struct {
	Name string `path:"name" maxLength:"63" doc:"name of the relay"`
}

func (s *Server) listRelays(context.Context, *nothing) (*reply[api.RelayList], error) {
	return &reply[api.RelayList]{Body: api.RelayList{Relays: s.relays()}}, nil
}

func (s *Server) relays() []api.Relay {
	list := []api.Relay{}
	if s.o.Relays == nil {
		return list
	}
	silent := map[string]bool{}
	for _, a := range s.o.Engine.Alarms() {
		silent[a.On] = silent[a.On] || a.Code == fleet.CodeRelaySilent
	}
	for _, r := range s.o.Relays.List() {
		out := fromRelay(r, s.o.Relays.Status(r.Name))
		out.Silent = silent[r.On()]
		list = append(list, out)
	}
	return list
}

// addRelay is an administrator's: a relay speaks for machines.
func (s *Server) addRelay(ctx context.Context, in *addRelay) (*reply[api.AddedRelay], error) {
	if s.o.Relays == nil {
		return nil, noRelays()
	}
	if err := s.checkSubnets(in.Body.Subnets); err != nil {
		return nil, err
	}
	token, expires, err := s.o.Relays.Add(ctx, actorOf(ctx), in.Body.Name, in.Body.Subnets)
	if err != nil {
		return nil, err
	}
	s.o.Log.InfoContext(ctx, "relay added", "relay", in.Body.Name, "subnets", in.Body.Subnets, "user", actorOf(ctx))
	return &reply[api.AddedRelay]{Body: api.AddedRelay{Token: token, Expires: expires}}, nil
}

func (s *Server) checkSubnets(names []string) error {
	var known []string
	for _, n := range s.o.Engine.Site().Subnets {
		known = append(known, n.Name)
	}
	for _, name := range names {
		if slices.Contains(known, name) {
			continue
		}
		hint := "declare it in site.yaml, then: provision apply -f site.yaml"
		if near := fleet.Nearest(name, known); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		return &fleet.Error{Kind: fleet.Invalid, Op: "add relay", Err: fmt.Errorf("no subnet %.80q is declared", name), Hint: hint}
	}
	return nil
}

func (s *Server) removeRelay(ctx context.Context, in *relayRef) (*nothing, error) {
	if s.o.Relays == nil {
		return nil, noRelays()
	}
	if err := s.o.Relays.Remove(ctx, in.Name); err != nil {
		return nil, err
	}
	s.o.Log.InfoContext(ctx, "relay removed", "relay", in.Name, "user", actorOf(ctx))
	return &nothing{}, nil
}

func noRelays() error {
	return newProblem(http.StatusNotFound, "E-RELAY", "this server takes no relays", "")
}

func fromRelay(r fleet.Relay, st fleet.RelayStatus) api.Relay {
	out := api.Relay{
		Name: r.Name, Subnets: r.Subnets, Created: r.Created, By: r.By, Enrolled: timeOrNil(r.Enrolled), Seen: timeOrNil(st.Seen),
		Version: st.Version,
		Usage: api.RelayUsage{
			CacheBytes: st.CacheBytes, CacheLimit: st.CacheLimit, Served: st.Served, Fetched: st.Fetched,
			Requests: st.Requests, Relayed: st.Relayed, BOOTP: st.BOOTP, Refused: st.Refused, Away: st.Away,
			Strangers: st.Strangers, Unsent: st.Unsent, Panics: st.Panics,
			TFTP: api.RelayTFTP(st.TFTP), HTTP: api.RelayHTTP(st.HTTP),
		},
	}
	if st.From.IsValid() {
		out.From = st.From.String()
	}
	for _, t := range st.Trouble {
		out.Trouble = append(out.Trouble, api.RelayTrouble{Code: t.Code, Detail: t.Detail})
	}
	for _, p := range r.Places {
		out.Places = append(out.Places, api.RelayPlace{Subnet: p.Subnet, Addr: p.Addr})
	}
	return out
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
