package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

func BenchmarkSaveLeases(b *testing.B) {
	for _, rows := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			s, _ := fresh(b)
			batch := make([]fleet.Lease, rows)
			n := 0
			for b.Loop() {
				for i := range batch {
					batch[i] = lease(n % 65536)
					batch[i].Expires = when.Add(time.Duration(n))
					n++
				}
				if err := s.SaveLeases(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkSaveNewNodes(b *testing.B) {
	s, _ := fresh(b)
	n := 0
	for b.Loop() {
		var c fleet.Change
		for range 256 {
			c.Nodes = append(c.Nodes, node(n))
			n++
		}
		save(b, s, c)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

// One node of a run of a thousand goes on.
func BenchmarkSaveProgress(b *testing.B) {
	s, _ := fresh(b)
	r, n := run("prd-1", 1000), node(0)
	save(b, s, fleet.Change{Nodes: []fleet.Node{n}, Runs: []fleet.Run{r}})
	seq := int64(0)
	for b.Loop() {
		seq++
		n.Revision++
		r.Nodes[seq%1000].Attempt++
		save(b, s, fleet.Change{Nodes: []fleet.Node{n}, Runs: []fleet.Run{r}, Events: []fleet.Event{event(seq)}})
	}
}

// fill stores nodes, 2.4 kB each.
func fill(b *testing.B, s *store.Store, nodes int) {
	b.Helper()
	for from := 0; from < nodes; from += 1000 {
		var c fleet.Change
		for i := range 1000 {
			c.Nodes = append(c.Nodes, node(from+i))
		}
		save(b, s, c)
	}
}

func BenchmarkOpen10000(b *testing.B) {
	s, path := fresh(b)
	fill(b, s, 10_000)
	closeStore(b, s)
	for b.Loop() {
		closeStore(b, open(b, path))
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, nodes := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(nodes), func(b *testing.B) {
			s, _ := fresh(b)
			fill(b, s, nodes)
			for b.Loop() {
				if got := len(load(b, s).Nodes); got != nodes {
					b.Fatalf("%d nodes", got)
				}
			}
		})
	}
}

// What a hall that boots leaves behind.
func BenchmarkSaveEvents(b *testing.B) {
	s, _ := fresh(b)
	const each = 256
	seq := int64(0)
	for b.Loop() {
		var c fleet.Change
		for range each {
			seq++
			c.Events = append(c.Events, fleet.Event{
				Seq: seq, At: time.Unix(1_800_000_000, seq), Type: fleet.EventEvidence, Node: "n-0123456789", Pool: "prd", Actor: "node",
				Text: "script: GET script script from 10.77.0.11",
			})
		}
		save(b, s, c)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/each, "ns/event")
}
