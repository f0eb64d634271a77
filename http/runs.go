package http

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

type getRun struct {
	ID   string `path:"id" maxLength:"80"`
	Wait string `query:"wait" maxLength:"16" doc:"how long to wait for a change: 30s, at most 60s"`
	Seen string `query:"seen" maxLength:"64" doc:"revision that the caller has; without it a wait is for the next change"`
}

// settle is how long a change may gather others before it is told: a rack
// that boots changes many times a second.
const settle = 250 * time.Millisecond

func (s *Server) listRuns(context.Context, *nothing) (*reply[api.RunList], error) {
	list := api.RunList{Runs: []api.Run{}}
	for _, r := range s.o.Engine.Runs() {
		list.Runs = append(list.Runs, s.describeRun(r))
	}
	return &reply[api.RunList]{Body: list}, nil
}

func (s *Server) getRun(ctx context.Context, in *getRun) (*reply[api.Run], error) {
	wait, err := parseWait(in.Wait)
	if err != nil {
		return nil, err
	}
	changes, stop := s.o.Engine.Subscribe() // before the first look, so that no change falls between
	defer stop()
	run, err := s.o.Engine.GetRun(fleet.RunID(in.ID))
	if err != nil {
		return nil, err
	}
	seen := in.Seen
	body := s.describeRun(run)
	if seen == "" {
		seen = body.Revision
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for !run.State.Over() && body.Revision == seen && awaitChange(ctx, changes, run.ID) {
		if run, err = s.o.Engine.GetRun(run.ID); err != nil {
			return nil, err
		}
		body = s.describeRun(run)
	}
	return &reply[api.Run]{Body: body}, nil
}

// awaitChange waits for an event that may have changed a run, and a moment
// more. It returns false when there is no use in waiting any longer.
func awaitChange(ctx context.Context, changes <-chan fleet.Event, id fleet.RunID) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case ev, ok := <-changes:
			if !ok {
				return false
			}
			if ev.Run != id && ev.Run != "" {
				continue
			}
			pause(ctx, settle)
			return true
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// describeRun writes a run together with the progress of its nodes.
func (s *Server) describeRun(r fleet.Run) api.Run {
	out := fromRun(r)
	for i := range out.Nodes {
		n, err := s.o.Engine.Node(out.Nodes[i].Node)
		if err != nil || n.Run != r.ID {
			continue // it was retired, or works for another run by now
		}
		if string(n.Phase) == out.Nodes[i].Phase {
			out.Nodes[i].Progress = n.Progress
		}
	}
	raw, _ := json.Marshal(out) // strings, numbers and times: cannot fail
	sum := sha256.Sum256(raw)
	out.Revision = hex.EncodeToString(sum[:8])
	return out
}

// parseWait reads how long a caller wants to wait: "30s", at most a minute.
func parseWait(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, newProblem(http.StatusUnprocessableEntity, "E-WAIT", "wait is not a duration", "write it as 30s")
	}
	return min(d, time.Minute), nil
}
