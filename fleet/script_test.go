package fleet

import (
	"strings"
	"testing"
)

func TestAMachineGetsTheScriptThatIsForIt(t *testing.T) {
	site := Site{Scripts: []Script{{Name: "pool", Pools: []PoolName{"prd"}}, {Name: "node", Nodes: []string{"prd-7", "52:54:00:00:00:09"}}}}
	tests := map[string]struct {
		node Node
		mac  MAC
		want string
	}{
		"of its pool":                       {Node{Name: "prd-1", Pool: "prd"}, "52:54:00:00:00:01", "pool"},
		"by its name, before its pool's":    {Node{Name: "prd-7", Pool: "prd"}, "52:54:00:00:00:07", "node"},
		"by its MAC, before it is a node":   {Node{}, "52:54:00:00:00:09", "node"},
		"none, of another pool":             {Node{Name: "dev-1", Pool: "dev"}, "52:54:00:00:00:01", ""},
		"none, when nothing is known of it": {Node{}, "52:54:00:00:00:01", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := site.ScriptFor(tt.node, tt.mac)
			if got.Name != tt.want || ok != (tt.want != "") {
				t.Errorf("ScriptFor = %q, %v; want %q", got.Name, ok, tt.want)
			}
		})
	}
}

func TestScriptsAreChecked(t *testing.T) {
	tests := map[string]struct {
		scripts []Script
		says    string
	}{
		"a good one":             {[]Script{{Name: "a", Pools: []PoolName{"prd"}, Nodes: []string{"52:54:00:00:00:01", "prd-1"}}}, ""},
		"no name":                {[]Script{{Pools: []PoolName{"prd"}}}, "scripts[0].name"},
		"twice":                  {[]Script{{Name: "a", Pools: []PoolName{"prd"}}, {Name: "a", Nodes: []string{"x"}}}, "declared twice"},
		"nothing in it":          {[]Script{{Name: "a", Nodes: []string{"x"}}}, "empty"},
		"for nobody":             {[]Script{{Name: "a"}}, "for nobody"},
		"a pool that is not":     {[]Script{{Name: "a", Pools: []PoolName{"dev"}}}, "no pool"},
		"a node that is no name": {[]Script{{Name: "a", Nodes: []string{"A B"}}}, "neither"},
		"a MAC in another form":  {[]Script{{Name: "a", Nodes: []string{"52-54-00-00-00-0A"}}}, "neither"},
		"two for one pool":       {[]Script{{Name: "a", Pools: []PoolName{"prd"}}, {Name: "b", Pools: []PoolName{"prd"}}}, "already"},
		"two for one node":       {[]Script{{Name: "a", Nodes: []string{"x"}}, {Name: "b", Nodes: []string{"x"}}}, "already"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for i := range tt.scripts {
				tt.scripts[i].IPXE += " "
			}
			if name == "nothing in it" {
				tt.scripts[0].IPXE = ""
			}
			err := Site{Pools: []Pool{{Name: "prd"}}, Scripts: tt.scripts}.validateScripts()
			if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("validateScripts = %v, want %q", err, tt.says)
			}
		})
	}
}
