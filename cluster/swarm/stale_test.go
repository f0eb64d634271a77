package swarm

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"github.com/rackstage/provision/fleet"
)

// member returns a worker as our joins begin: paused, without labels.
func member(id, name, addr string, state swarm.NodeState) swarm.Node {
	return swarm.Node{
		ID: id, Spec: swarm.NodeSpec{Role: swarm.NodeRoleWorker, Availability: swarm.NodeAvailabilityPause},
		Description: swarm.NodeDescription{Hostname: name}, Status: swarm.NodeStatus{State: state, Addr: addr},
	}
}

// labelled makes a member one of ours, open for work.
func labelled(m swarm.Node, node fleet.NodeID) swarm.Node {
	m.Spec.Availability = swarm.NodeAvailabilityActive
	m.Spec.Labels = labels(fleet.Node{ID: node, Stage: "prd", Pool: "prd"})
	return m
}

func managing(m swarm.Node, r swarm.Reachability) swarm.Node {
	m.Spec.Role, m.ManagerStatus = swarm.NodeRoleManager, &swarm.ManagerStatus{Reachability: r, Addr: "10.78.0.2:2377"}
	return m
}

func with(m swarm.Node, change func(*swarm.Node)) swarm.Node {
	change(&m)
	return m
}

// anyone is a leader: it reports to itself from anywhere.
var anyone = labelled(member("any", "prd-07", "0.0.0.0", swarm.NodeStateReady), "n-7")

// nobody is just joining.
func nobody() []fleet.Node { return nil }

func TestWhatBecomesOfAMember(t *testing.T) {
	const down, ready, unknown = swarm.NodeStateDown, swarm.NodeStateReady, swarm.NodeStateUnknown
	now := labelled(member("now", "prd-02", "10.78.0.2", ready), "n-1")
	active := func(m *swarm.Node) { m.Spec.Availability = swarm.NodeAvailabilityActive }
	rack := func(m *swarm.Node) { m.Spec.Labels = map[string]string{"rack": "r1"} }
	manager := func(m *swarm.Node) { m.Spec.Role = swarm.NodeRoleManager }
	tests := map[string]struct {
		m    swarm.Node
		want fate
	}{
		"itself":                      {now, stays},
		"died before it was labelled": {member("m", "prd-02", "10.78.0.2", down), goes},
		"somebody's own machine of this name, long off":          {member("m", "prd-02", "10.78.0.9", down), stays},
		"somebody's own machine that had this address, long off": {member("m", "nas", "10.78.0.2", down), stays},
		"one of ours behind the same NAT, not confirmed, unwell": {member("m", "prd-03", "10.78.0.2", down), stays},
		"of another machine that died so":                        {member("m", "prd-03", "10.78.0.3", down), stays},
		"its end is not noticed yet":                             {member("m", "prd-02", "10.78.0.2", ready), doubtful},
		"unknown since the leader changed":                       {member("m", "prd-02", "10.78.0.2", unknown), doubtful},
		"an earlier system of ours, down":                        {labelled(member("m", "prd-02", "10.78.0.2", down), "n-1"), goes},
		"an earlier system under another name":                   {labelled(member("m", "old", "10.78.0.9", down), "n-1"), goes},
		"an earlier system, not noticed yet":                     {labelled(member("m", "prd-02", "10.78.0.2", ready), "n-1"), doubtful},
		"another node of ours, down, of this name":               {labelled(member("m", "prd-02", "10.78.0.2", down), "n-2"), stays},
		"joined by hand, of this name, down":                     {with(member("m", "prd-02", "10.78.0.2", down), active), stays},
		"labelled by hand, of this name, down":                   {with(member("m", "prd-02", "10.78.0.2", down), rack), stays},
		"newer than this one":                                    {with(member("m", "prd-02", "10.78.0.2", down), func(m *swarm.Node) { m.CreatedAt = time.Now() }), stays},
		"never heard":                                            {member("m", "", "", unknown), nameless},
		"never heard, and the leader changed":                    {member("m", "", "", down), nameless},
		"never heard, joined by hand":                            {with(member("m", "", "", unknown), active), stays},
		"never heard, to be a manager":                           {with(member("m", "", "", unknown), manager), nameless},
		"without a name, at this address":                        {member("m", "", "10.78.0.2", down), stays},
		"without an address, of this name":                       {member("m", "prd-02", "", down), stays},
		"without a name, at another address":                     {member("m", "", "10.78.0.3", down), stays},
		"a manager that is reachable":                            {managing(member("m", "prd-02", "10.78.0.2", unknown), swarm.ReachabilityReachable), stays},
		"a manager that is down":                                 {managing(member("m", "prd-02", "10.78.0.2", down), swarm.ReachabilityUnreachable), stays},
		"a manager without a name":                               {managing(member("m", "", "", unknown), swarm.ReachabilityReachable), stays},
		"an earlier manager of this machine, down":               {managing(labelled(member("m", "prd-02", "10.78.0.2", down), "n-1"), swarm.ReachabilityUnreachable), stays},
		"at an address that anybody has":                         {member("m", "x", "0.0.0.0", down), stays},
		"died before it was to be a manager, no vote":            {with(member("m", "prd-02", "10.78.0.2", down), manager), goes},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := (roll{members: []swarm.Node{tt.m, now, anyone}}).fateOf(tt.m); got != tt.want {
				t.Errorf("fate = %d, want %d", got, tt.want)
			}
			away := with(now, func(m *swarm.Node) { m.Status.State = down })
			if got := (roll{members: []swarm.Node{tt.m, away}}).fateOf(tt.m); got != stays && got != nameless {
				t.Errorf("fate = %d while the node's member is not there", got)
			}
		})
	}
}

// What was never opened for work may be of another node that has its name and
// address too.
func TestAMemberThatMayBeAnotherNodesStays(t *testing.T) {
	const down, ready = swarm.NodeStateDown, swarm.NodeStateReady
	var (
		now     = labelled(member("now", "prd-02", "10.78.0.2", ready), "n-1")
		old     = member("old", "prd-02", "10.78.0.2", down)
		earlier = labelled(member("earlier", "prd-02", "10.78.0.2", down), "n-1")
	)
	tests := map[string]struct {
		m       swarm.Node
		beside  swarm.Node
		joining fleet.Node
		want    fate
	}{
		"nobody else has its name":           {old, labelled(member("x", "prd-03", "10.78.0.2", ready), "n-2"), fleet.Node{ID: "n-3", Name: "prd-04"}, goes},
		"one that lives has it":              {old, labelled(member("x", "prd-02", "10.78.0.2", ready), "n-2"), fleet.Node{}, stays},
		"one that is down has it":            {old, labelled(member("x", "prd-02", "10.78.0.2", down), "n-2"), fleet.Node{}, goes},
		"one that is just joining has it":    {old, anyone, fleet.Node{ID: "n-3", Name: "prd-02"}, stays},
		"it is the one that is just joining": {old, anyone, fleet.Node{ID: "n-3", Name: "prd-04", Member: fleet.Member{NodeID: "old"}}, stays},
		"its own node is just joining again": {old, anyone, fleet.Node{ID: "n-1", Name: "prd-02"}, goes},
		"its label says whose it is":         {earlier, labelled(member("x", "prd-02", "10.78.0.2", ready), "n-2"), fleet.Node{ID: "n-3", Name: "prd-02"}, goes},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := roll{members: []swarm.Node{tt.m, tt.beside, now}, joining: []fleet.Node{tt.joining}}
			if got := r.fateOf(tt.m); got != tt.want {
				t.Errorf("fate = %d, want %d", got, tt.want)
			}
			if got := r.fateBeside(now, tt.m); got != tt.want {
				t.Errorf("fate beside its node's member = %d, want %d", got, tt.want)
			}
		})
	}
}

// A listing is a manager's list that changes with time.
type listing struct {
	t       *testing.T
	started time.Time
	at      map[time.Duration][]swarm.Node // what is new in it, from then on
	list    map[string]swarm.Node
	refuses string // a member that Docker will not remove
}

func (l *listing) ask(_ context.Context, _ fleet.NodeID, r fleet.DockerRequest) (fleet.DockerResponse, error) {
	for _, after := range slices.Sorted(maps.Keys(l.at)) {
		if time.Since(l.started) < after {
			break
		}
		for _, m := range l.at[after] {
			l.list[m.ID] = m
		}
		delete(l.at, after)
	}
	id, removes := strings.CutPrefix(r.Path, "/nodes/")
	_, there := l.list[id]
	switch {
	case r.Path == "/swarm":
		return answer(l.t, swarm.Swarm{ClusterInfo: swarm.ClusterInfo{Spec: swarm.Spec{Annotations: swarm.Annotations{Labels: map[string]string{LabelStage: "prd"}}}}}), nil
	case r.Path == "/nodes":
		return answer(l.t, slices.SortedFunc(maps.Values(l.list), func(a, b swarm.Node) int { return strings.Compare(a.ID, b.ID) })), nil
	case removes && r.Method == http.MethodDelete && id == l.refuses:
		return fleet.DockerResponse{Status: http.StatusBadRequest, Body: []byte(`{"message":"it is not down and can't be removed"}`)}, nil
	case removes && r.Method == http.MethodDelete && there:
		delete(l.list, id)
		return fleet.DockerResponse{Status: http.StatusOK}, nil
	}
	l.t.Errorf("asked %s %s", r.Method, r.Path)
	return fleet.DockerResponse{Status: http.StatusNotFound, Body: []byte(`{"message":"not found"}`)}, nil
}

func answer(t *testing.T, v any) fleet.DockerResponse {
	b, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
	}
	return fleet.DockerResponse{Status: http.StatusOK, Body: b}
}

func TestATidyUpWaitsForThoseInDoubt(t *testing.T) {
	const down, ready, unknown = swarm.NodeStateDown, swarm.NodeStateReady, swarm.NodeStateUnknown
	now := labelled(member("now", "prd-02", "10.78.0.2", ready), "n-1")
	old := func(s swarm.NodeState) swarm.Node { return member("old", "prd-02", "10.78.0.2", s) }
	tests := map[string]struct {
		at      map[time.Duration][]swarm.Node
		refuses string
		removed []string
		took    time.Duration
	}{
		"nothing to do":                     {map[time.Duration][]swarm.Node{0: {now}}, "", nil, 0},
		"one that is down":                  {map[time.Duration][]swarm.Node{0: {now, old(down)}}, "", []string{"old (prd-02)"}, 0},
		"one that Docker sees fall":         {map[time.Duration][]swarm.Node{0: {now, old(ready)}, 11 * time.Second: {old(down)}}, "", []string{"old (prd-02)"}, 11 * time.Second},
		"one that lives":                    {map[time.Duration][]swarm.Node{0: {now, old(ready)}}, "", nil, patience},
		"one that comes back":               {map[time.Duration][]swarm.Node{0: {now, old(down)}}, "old", nil, 0},
		"never heard for a minute":          {map[time.Duration][]swarm.Node{0: {now, member("x", "", "", unknown)}}, "", []string{"x (without a name)"}, patience},
		"a join under way":                  {map[time.Duration][]swarm.Node{0: {now, member("x", "", "", unknown)}, 3 * time.Second: {member("x", "prd-03", "10.78.0.3", ready)}}, "", nil, 3 * time.Second},
		"a join that begins while it waits": {map[time.Duration][]swarm.Node{0: {now, old(ready)}, 58 * time.Second: {member("x", "", "", unknown)}}, "", nil, patience},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &listing{t: t, started: time.Now(), at: tt.at, list: map[string]swarm.Node{}, refuses: tt.refuses}
				removed, err := New(l.ask, nobody).Tidy(t.Context(), fleet.Node{ID: "n-0", Stage: "prd"})
				if err != nil || !slices.Equal(removed, tt.removed) {
					t.Errorf("Tidy = %q, %v; want %q", removed, err, tt.removed)
				}
				if took := time.Since(l.started); took != tt.took {
					t.Errorf("it took %s, want %s", took, tt.took)
				}
			})
		})
	}
	foreign := &listing{t: t, at: map[time.Duration][]swarm.Node{0: {now, old(down)}}, list: map[string]swarm.Node{}}
	if removed, err := New(foreign.ask, nobody).Tidy(t.Context(), fleet.Node{ID: "n-0", Stage: "tst"}); fleet.CodeOf(err) != "E-CLUSTER-FOREIGN" || removed != nil {
		t.Errorf("Tidy of another stage's swarm = %q, %v; want E-CLUSTER-FOREIGN", removed, err)
	}
	spared := &listing{t: t, at: map[time.Duration][]swarm.Node{0: {now, old(down)}}, list: map[string]swarm.Node{}}
	joining := func() []fleet.Node { return []fleet.Node{{ID: "n-2", Member: fleet.Member{NodeID: "old"}}} }
	if removed, err := New(spared.ask, joining).Tidy(t.Context(), fleet.Node{ID: "n-0", Stage: "prd"}); err != nil || removed != nil {
		t.Errorf("Tidy while its node is just joining = %q, %v; want nothing removed", removed, err)
	}
}
