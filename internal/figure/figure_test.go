package figure

import (
	"strings"
	"testing"
)

func TestAFigureSaysWhetherItsAimIsReached(t *testing.T) {
	tests := map[string]struct {
		figure Figure
		want   string
	}{
		"below an upper limit":  {Figure{Name: "size", Unit: "MiB", Aim: "<=36", Rounds: []float64{30, 20, 25}}, "FIGURE size 25 MiB - - aim <=36 OK"},
		"above an upper limit":  {Figure{Name: "size", Unit: "MiB", Aim: "<=36", Rounds: []float64{40}}, "FIGURE size 40 MiB - - aim <=36 SHORT"},
		"below a lower limit":   {Figure{Name: "rate", Unit: "rows/s", Aim: ">=10", Rounds: []float64{9}}, "FIGURE rate 9 rows/s - - aim >=10 SHORT"},
		"a large number":        {Figure{Name: "x", Unit: "/s", Rounds: []float64{31234.56}}, "FIGURE x 31235 /s - - aim - OK"},
		"no aim":                {Figure{Name: "x", Unit: "s", Rounds: []float64{1}}, "FIGURE x 1 s - - aim - OK"},
		"nothing was measured":  {Figure{Name: "x", Unit: "s", Aim: "<=1"}, "FIGURE x 0 s - - aim <=1 SHORT"},
		"faster than its peer":  {Figure{Name: "x", Unit: "/s", Aim: ">=3x", Rounds: []float64{30, 40, 90}, Peer: "kea", PeerRounds: []float64{10, 10, 20}}, "FIGURE x 40 /s 4x kea aim >=3x OK"},
		"half-way between two":  {Figure{Name: "x", Unit: "s", Rounds: []float64{1, 2}}, "FIGURE x 1.5 s - - aim - OK"},
		"once is too often":     {Figure{Name: "failed", Unit: "nodes", Aim: "<=0", Rounds: []float64{0, 1, 0}, Each: true}, "FIGURE failed 1 nodes - - aim <=0 SHORT"},
		"once is too little":    {Figure{Name: "x", Unit: "/s", Aim: ">=2x", Rounds: []float64{30, 10, 30}, Peer: "kea", PeerRounds: []float64{10, 10, 10}, Each: true}, "FIGURE x 30 /s 3x kea aim >=2x SHORT"},
		"each round by itself":  {Figure{Name: "x", Unit: "/s", Aim: ">=3x", Rounds: []float64{20, 40, 90}, Peer: "kea", PeerRounds: []float64{10, 30, 50}}, "FIGURE x 40 /s 1.8x kea aim >=3x SHORT"},
		"less work than a peer": {Figure{Name: "x", Unit: "us", Aim: "<=0.35x", Rounds: []float64{20}, Peer: "kea", PeerRounds: []float64{80}}, "FIGURE x 20 us 0.25x kea aim <=0.35x OK"},
		"a peer that is absent": {Figure{Name: "x", Unit: "/s", Aim: ">=3x", Rounds: []float64{20}, Missing: "kea is not installed"}, "FIGURE x 20 /s - - aim >=3x - (kea is not installed)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.figure.String(); got != tt.want {
				t.Errorf("line = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestATableHasAVerdictForEachAim(t *testing.T) {
	var out strings.Builder
	short, err := Table(&out, []Figure{
		{Name: "dhcp-durable-256", What: "DHCP exchanges", Unit: "exch/s", Aim: ">=3x", Rounds: []float64{30000, 40000, 90000}, Peer: "kea", PeerRounds: []float64{10000, 10000, 20000}},
		{Name: "restart", Unit: "s", Aim: "<=3", Rounds: []float64{4}},
		{Name: "cpu", Unit: "us", Rounds: []float64{4}},
		{Name: "http", Unit: "GB/s", Aim: ">=0.98x", Rounds: []float64{4}, Missing: "nginx is not installed"},
	})
	want := "figure          aim      measured               rounds    ok\n" +
		"DHCP exchanges  >=3x     4x kea (40000 exch/s)  3: 3-4.5  yes\n" +
		"restart         <=3      4 s                    1         NO\n" +
		"http            >=0.98x  -                      0         not measured: nginx is not installed\n"
	if err != nil || short != 2 || out.String() != want {
		t.Errorf("%d short, %v, table:\n%s\nwant 2, nil,\n%s", short, err, out.String(), want)
	}
}
