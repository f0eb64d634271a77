package http

import (
	"context"
	"fmt"
	"strings"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

type poolRef struct {
	Pool string `path:"pool" maxLength:"63"`
}

type startRun struct {
	Pool string `path:"pool" maxLength:"63"`
	Key  string `header:"Idempotency-Key" maxLength:"128"`
	Body api.StartRun
}

func (s *Server) listPools(context.Context, *nothing) (*reply[api.PoolList], error) {
	list := api.PoolList{Pools: []api.Pool{}}
	site := s.o.Engine.Site()
	counts, runs := s.poolCounts(), s.activeRuns()
	for _, p := range site.Pools {
		list.Pools = append(list.Pools, fromPool(site, p, counts[p.Name], runs[p.Name]))
	}
	return &reply[api.PoolList]{Body: list}, nil
}

func (s *Server) getPool(_ context.Context, in *poolRef) (*reply[api.Pool], error) {
	site := s.o.Engine.Site()
	p, err := findPool(site, in.Pool)
	if err != nil {
		return nil, err
	}
	return &reply[api.Pool]{Body: fromPool(site, p, s.poolCounts()[p.Name], s.activeRuns()[p.Name])}, nil
}

// findPool returns a pool, or an error that suggests the one that was meant.
func findPool(site fleet.Site, name string) (fleet.Pool, error) {
	if p, ok := site.Pool(fleet.PoolName(name)); ok {
		return p, nil
	}
	var names []string
	for _, p := range site.Pools {
		names = append(names, string(p.Name))
	}
	hint := "declare one in site.yaml, then: provision apply -f site.yaml"
	if len(names) > 0 {
		hint = "pools: " + strings.Join(names, ", ")
	}
	if word := fleet.Nearest(name, names); word != "" {
		hint = fmt.Sprintf("did you mean %q? %s", word, hint)
	}
	return fleet.Pool{}, &fleet.Error{Kind: fleet.NotFound, Code: "E-POOL-UNKNOWN", Hint: hint, Err: fmt.Errorf("no pool %q", name)}
}

func (s *Server) poolCounts() map[fleet.PoolName]map[string]int {
	counts := map[fleet.PoolName]map[string]int{}
	for _, n := range s.o.Engine.Nodes() {
		if counts[n.Pool] == nil {
			counts[n.Pool] = map[string]int{}
		}
		counts[n.Pool][string(n.State)]++
	}
	return counts
}

func (s *Server) activeRuns() map[fleet.PoolName]fleet.RunID {
	runs := map[fleet.PoolName]fleet.RunID{}
	for _, r := range s.o.Engine.Runs() {
		if !r.State.Over() && runs[r.Pool] == "" {
			runs[r.Pool] = r.ID
		}
	}
	return runs
}

func (s *Server) planPool(ctx context.Context, in *poolRef) (*reply[api.Plan], error) {
	site := s.o.Engine.Site()
	pool, err := findPool(site, in.Pool)
	if err != nil {
		return nil, err
	}
	plan, err := s.o.Engine.Plan(ctx, pool.Name)
	if err != nil {
		return nil, err
	}
	out := fromPlan(plan)
	if profile, ok := site.Profile(pool.Profile); ok {
		out.Image = string(profile.Image)
		out.Digest = s.digestOf(out.Image)
	}
	if !plan.AsDeclared() {
		out.Estimate = int(medianTimes(s.o.Engine.Runs(), pool.Name).total.Seconds())
	}
	return &reply[api.Plan]{Body: out}, nil
}

// digestOf returns the digest of an image, or "" when the store has none of
// that name: a plan says so by itself.
func (s *Server) digestOf(name string) string {
	images, err := s.o.Images.List()
	if err != nil {
		return ""
	}
	for _, image := range images {
		if image.Name == name {
			return image.Digest
		}
	}
	return ""
}

func (s *Server) startRun(ctx context.Context, in *startRun) (*reply[api.Run], error) {
	pool, err := findPool(s.o.Engine.Site(), in.Pool)
	if err != nil {
		return nil, err
	}
	key := in.Body.Key
	if key == "" {
		key = in.Key
	}
	run, err := s.o.Engine.Start(ctx, actorOf(ctx), pool.Name, fleet.StartOptions{Plan: in.Body.Plan, Key: key, Destructive: in.Body.Destructive})
	if err != nil {
		return nil, err
	}
	return &reply[api.Run]{Body: s.describeRun(run)}, nil
}
