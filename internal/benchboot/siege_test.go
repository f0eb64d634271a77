package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What attackers hold, and what they are refused, does not add up to a wait for
// anybody else.
func TestASiegeOfAllKindsAtOnceStopsNobody(t *testing.T) {
	d := newDrillWith(t, t.TempDir(), func(d *drill) error {
		if err := startMutants(d); err != nil {
			return err
		}
		f := filepath.Join(d.state, "boot", siegeFile)
		return errors.Join(os.WriteFile(f, nil, 0o600), os.Truncate(f, siegeFileSize))
	})
	addV6(t, d.l)
	if err := d.l.stormRoutes(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.start()
	before := resident(t, d.p)
	a := siegeArgs{
		Server: dhcpServerAddr.Addr(), GoodRelay: goodRelay(t, d.l),
		HalfOpen: 5120, Readers: 1300, Talkers: 300, For: 28 * time.Second, // more than a half-open transfer has
	}
	var res besieged
	loaded := make(chan error, 1)
	go func() { loaded <- d.l.load(t.Context(), 2*time.Minute, "siege", a, &res) }()
	high, all := d.watch(loaded)
	after := resident(t, d.p)
	t.Logf("the siege was at its height in %d of %d readings; memory %d MiB, then %d MiB", high, all, before>>10, after>>10)
	if high < 20 {
		t.Errorf("%d of %d readings show 5,000 half-open transfers and 1,000 slow readers, want 20", high, all)
	}
	for name, n := range res.Sent {
		t.Logf("%s: %d, %d of them while a good client waited", name, n, res.Meanwhile[name])
		if res.Meanwhile[name] == 0 {
			t.Errorf("no %s came while a good client waited", name)
		}
	}
	for _, protocol := range []string{"dhcp4", "dhcp6", "tftp", "http"} {
		r := res.Good[protocol]
		t.Logf("%s: %d good clients, the slowest took %.3f s", protocol, r.Good, r.Slowest)
		if r.Good < 10 || r.Slowest > 1 {
			t.Errorf("%s: %d good clients, the slowest took %.2f s, want 10 within a second each", protocol, r.Good, r.Slowest)
		}
	}
	d.refused(map[string]int64{
		"provision_tftp_capped_total":                 int64(a.HalfOpen / halfOpenOfOne), // the ninth of each address
		"provision_tftp_unheard_total":                int64(a.HalfOpen * 9 / 10),
		"provision_tftp_stray_total":                  10_000,
		"provision_http_boot_headers_too_large_total": int64(a.Talkers),
		"provision_http_boot_conns_pushed_out_total":  int64(a.Readers - 1024), // of one address
	})
	if after-before > 256<<10 {
		t.Errorf("the server took %d MiB more", (after-before)>>10)
	}
	if err := d.p.alive(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("the server said: %s", d.p.said)
	}
}

// watch reads what the server holds until the load is over, and returns how many
// of the readings, after the first of them, show the whole siege.
func (d *drill) watch(loaded <-chan error) (high, all int) {
	d.Helper()
	client := d.api()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-loaded:
			if err != nil {
				d.Fatalf("%v; counted: %s; the server said: %s", err, (&station{d.p, d.state}).counted(d.Context()), d.p.said)
			}
			return high, all
		case <-tick.C:
			c, err := client.Counters(d.Context())
			if err != nil {
				d.Error(err)
				continue
			}
			all++
			if c["provision_tftp_running"] >= 5000 && c["provision_http_boot_conns"] >= 1000 {
				high++
			}
		}
	}
}

// refused sees that the server counted at least so much, and nothing that made
// it fail.
func (d *drill) refused(least map[string]int64) {
	d.Helper()
	counted, err := d.api().Counters(d.Context())
	if err != nil {
		d.Fatal(err)
	}
	for name, least := range least {
		d.Logf("%s %d", name, counted[name])
		if counted[name] < least {
			d.Errorf("%s is %d, want %d at least", name, counted[name], least)
		}
	}
	for _, name := range []string{
		"provision_dhcp_panics_total", "provision_dhcp6_panics_total", "provision_tftp_panics_total", "provision_http_boot_panics_total",
	} {
		if n, there := counted[name]; n != 0 || !there {
			d.Errorf("%s is %d, %v", name, n, there)
		}
	}
}
