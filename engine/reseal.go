package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rackstage/provision/fleet"
)

// A Resealer seals a value anew. The node is the one that it was sealed for:
// "" for what is for all.
type Resealer func(id fleet.NodeID, sealed string) (string, error)

// resealAtOnce is how many nodes go into one change.
const resealAtOnce = 100

// Reseal has every secret that the engine keeps sealed anew, and returns how
// many were not sealed so before. It goes on where one cannot be opened, and
// returns those as errors. Each part is stored whole: whoever is interrupted
// does it again.
func (e *Engine) Reseal(ctx context.Context, actor string, seal Resealer) (int, error) {
	done, errs := 0, []error{}
	count := func(n int, err error) {
		done += n
		if err != nil {
			errs = append(errs, err)
		}
	}
	count(e.resealSite(ctx, seal))
	for part := range slices.Chunk(e.Nodes(), resealAtOnce) {
		count(e.resealNodes(ctx, part, seal))
	}
	if done > 0 {
		errs = append(errs, e.update(ctx, func(t *tx) error {
			t.events = append(t.events, fleet.Event{Type: fleet.EventAccess, Actor: actor, Text: fmt.Sprintf("%d secrets sealed anew", done)})
			return nil
		}))
	}
	return done, errors.Join(errs...)
}

// resealing seals values in place, and remembers what could not be.
type resealing struct {
	seal Resealer
	done int
	errs []error
}

func (r *resealing) value(id fleet.NodeID, sealed *string) {
	if *sealed == "" {
		return
	}
	fresh, err := r.seal(id, *sealed)
	if err != nil {
		r.errs = append(r.errs, err)
		return
	}
	if fresh != *sealed {
		*sealed = fresh
		r.done++
	}
}

// resealSite seals what rules and lists of accounts have. A node that has its
// password from a rule has a copy, which is sealed apart from then on.
func (e *Engine) resealSite(ctx context.Context, seal Resealer) (int, error) {
	r := &resealing{seal: seal}
	err := e.update(ctx, func(t *tx) error {
		site := e.Site()
		site.Rules, site.Factory, site.Begun = slices.Clone(site.Rules), slices.Clone(site.Factory), slices.Clone(site.Begun)
		for i := range site.Rules {
			r.value("", &site.Rules[i].BMC.SealedPassword)
		}
		for i := range site.Factory {
			r.value("", &site.Factory[i].SealedPassword)
		}
		for i := range site.Begun {
			r.value("", &site.Begun[i].SealedPassword)
		}
		if r.done > 0 {
			t.site = &site
		}
		return nil
	})
	return r.done, errors.Join(append(r.errs, err)...)
}

func (e *Engine) resealNodes(ctx context.Context, nodes []fleet.Node, seal Resealer) (int, error) {
	r := &resealing{seal: seal}
	err := e.update(ctx, func(t *tx) error {
		for _, n := range nodes {
			n, err := t.node(n.ID)
			if err != nil {
				return err
			}
			before := r.done
			owner := fleet.NodeID("")
			if n.BMC.Own {
				owner = n.ID
			}
			r.value(owner, &n.BMC.SealedPassword)
			r.value(n.ID, &n.BMC.Next.SealedPassword)
			if r.done > before {
				t.put(n)
			}
		}
		return nil
	})
	return r.done, errors.Join(append(r.errs, err)...)
}

// Sealed returns how many secrets the engine keeps, by the key that key finds
// in them.
func (e *Engine) Sealed(key func(sealed string) string) map[string]int {
	counts := map[string]int{}
	count := func(sealed string) {
		if sealed != "" {
			counts[key(sealed)]++
		}
	}
	site := e.Site()
	for _, r := range site.Rules {
		count(r.BMC.SealedPassword)
	}
	for _, f := range slices.Concat(site.Factory, site.Begun) {
		count(f.SealedPassword)
	}
	for _, n := range e.Nodes() {
		count(n.BMC.SealedPassword)
		count(n.BMC.Next.SealedPassword)
	}
	return counts
}
