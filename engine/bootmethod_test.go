package engine

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/rackstage/provision/fleet"
)

// oneLoader says where every node finds its loader; "": nowhere.
type oneLoader string

// LoaderURL implements Loaders.
func (l oneLoader) LoaderURL(fleet.Node) (string, error) {
	if l == "" {
		return "", &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeNoLoader, Err: errors.New("none")}
	}
	return string(l), nil
}

func TestARunBootsANodeInTheWayThatItsRuleSays(t *testing.T) {
	const url = "http://10.77.0.1/boot/snponly.efi"
	tests := map[string]struct {
		method  fleet.BootMethod
		loaders Loaders
		url     string
		want    fleet.RunState
	}{
		"from the network":                   {fleet.BootPXE, oneLoader(url), "", fleet.RunDone},
		"from our URL":                       {fleet.BootHTTP, oneLoader(url), url, fleet.RunDone},
		"from the URL that DHCP says":        {fleet.BootHTTP, nil, "", fleet.RunDone},
		"from a URL, and there is no loader": {fleet.BootHTTP, oneLoader(""), "", fleet.RunFailed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				r := newRack(ctx, t, 1)
				site := testSite()
				site.Rules[0].BMC.Boot = tt.method
				e, kill := r.serve(&memoryStore{world: fleet.World{Site: site}})
				e.Loaders = tt.loaders
				r.enrol(e)
				run := over(t, e, start(t, e).ID)
				if run.State != tt.want {
					t.Errorf("run is %s, want %s: %+v", run.State, tt.want, run.Nodes)
				}
				r.mu.Lock()
				if got := r.machines["52:54:00:00:00:01"].url; got != tt.url {
					t.Errorf("it was told to boot from %q, want %q", got, tt.url)
				}
				r.mu.Unlock()
				kill()
				stop()
				synctest.Wait()
			})
		})
	}
}
