package engine

import (
	"errors"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
)

// oldWorld has secrets of every place, sealed with an old key.
func oldWorld() fleet.World {
	site := testSite()
	site.Rules[0].BMC.SealedPassword = "old:rule"
	site.Factory = []fleet.FactoryAccount{{Username: "root", PasswordFile: "f", SealedPassword: "old:factory"}}
	return fleet.World{Site: site, Nodes: []fleet.Node{
		{ID: "n-1", MAC: "52:54:00:00:00:01", Revision: 1, BMC: fleet.BMC{SealedPassword: "old:rule"}},
		{ID: "n-2", MAC: "52:54:00:00:00:02", Revision: 1, BMC: fleet.BMC{Own: true, SealedPassword: "old:n-2", Next: fleet.BMCAccount{SealedPassword: "old:n-2"}}},
		{ID: "n-3", MAC: "52:54:00:00:00:03", Revision: 1},
	}}
}

// reseal opens what is sealed for its owner only.
func reseal(id fleet.NodeID, sealed string) (string, error) {
	if id != "" && !strings.HasSuffix(sealed, ":"+string(id)) || id == "" && strings.Contains(sealed, ":n-") {
		return "", errors.New("sealed for another place")
	}
	return strings.Replace(sealed, "old:", "new:", 1), nil
}

func keyOf(sealed string) string {
	key, _, _ := strings.Cut(sealed, ":")
	return key
}

func TestEverySecretIsSealedAnew(t *testing.T) {
	r := newRack(t.Context(), t, 0)
	s := &memoryStore{world: oldWorld()}
	e, kill := r.serve(s)
	defer kill()
	if got := e.Sealed(keyOf); got["old"] != 5 || len(got) != 1 {
		t.Fatalf("before: %v, want 5 old ones", got)
	}
	done, err := e.Reseal(t.Context(), "ada", reseal)
	if err != nil || done != 5 {
		t.Errorf("Reseal = %d, %v, want 5", done, err)
	}
	if got := e.Sealed(keyOf); got["new"] != 5 || len(got) != 1 {
		t.Errorf("after: %v, want 5 new ones", got)
	}
	if done, err := e.Reseal(t.Context(), "ada", reseal); err != nil || done != 0 {
		t.Errorf("again: %d, %v, want nothing to do", done, err)
	}
}

func TestASecretThatDoesNotOpenKeepsNoOtherFromBeingSealed(t *testing.T) {
	r := newRack(t.Context(), t, 0)
	s := &memoryStore{world: oldWorld()}
	s.world.Nodes[1].BMC.SealedPassword = "old:n-7"
	e, kill := r.serve(s)
	defer kill()
	done, err := e.Reseal(t.Context(), "ada", reseal)
	if err == nil || done != 4 {
		t.Errorf("Reseal = %d, %v, want 4 and an error", done, err)
	}
}

func TestSealingSurvivesAKillAtAnyMoment(t *testing.T) {
	for cut := 1; cut <= 3; cut++ {
		r := newRack(t.Context(), t, 0)
		s := &memoryStore{world: oldWorld(), pull: cut, onCut: func() {}}
		e, kill := r.serve(s)
		_, _ = e.Reseal(t.Context(), "ada", reseal) // nobody hears it
		kill()
		s.pull = 0
		e, kill = r.serve(s)
		if _, err := e.Reseal(t.Context(), "ada", reseal); err != nil {
			t.Errorf("killed at write %d: %v", cut, err)
		}
		if got := e.Sealed(keyOf); got["new"] != 5 || len(got) != 1 {
			t.Errorf("killed at write %d: %v, want 5 new ones", cut, got)
		}
		kill()
	}
}
