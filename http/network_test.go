package http

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/fleet"
)

func TestAlarmsAreToldWithTheirFix(t *testing.T) {
	c, e := local(t)
	since := time.Unix(1_800_000_000, 0).UTC()
	e.alarms = []fleet.Alarm{{Code: fleet.CodeRogueDHCP, On: "subnet rack", Detail: "10.20.0.254 (52:54:00:9a:11:07)", Since: since, Seen: since, Count: 3}}
	got, err := c.Alarms(t.Context())
	if err != nil || len(got) != 1 {
		t.Fatalf("Alarms = %+v, %v; want one", got, err)
	}
	if a := got[0]; a.Code != "E-DHCP-ROGUE" || a.Title == "" || !strings.Contains(a.Fix, "subnet rack") || a.Count != 3 || !a.Since.Equal(since) {
		t.Errorf("alarm = %+v, want all that is known of it, and the fix", a)
	}
}

func TestCountersAreTold(t *testing.T) {
	c, _ := local(t)
	if got, err := c.Counters(t.Context()); err != nil || got["provision_dhcp_naks_total"] != 2 {
		t.Errorf("Counters = %v, %v; want what was counted", got, err)
	}
}

func TestASiteThatArmsBesideAnotherServerTakesForce(t *testing.T) {
	s, _ := newTestServer(t, func(o *Options) {
		o.Arming = func(context.Context, []fleet.Subnet, []fleet.Subnet) error {
			return &fleet.Error{Kind: fleet.Conflict, Code: fleet.CodeRogueDHCP, Hint: "use mode: proxy", Err: errors.New("another DHCP server answers: 10.20.0.254")}
		}
	})
	for body, want := range map[string]int{
		`{"yaml": "", "dry_run": true}`:                      http.StatusConflict,
		`{"yaml": "", "dry_run": false}`:                     http.StatusConflict,
		`{"yaml": "", "dry_run": false, "force_dhcp": true}`: http.StatusOK,
	} {
		got := ask(s, "POST", "/api/v1/site", "admin", body)
		if got.Code != want || want == http.StatusConflict && !strings.Contains(got.Body.String(), "10.20.0.254") {
			t.Errorf("%s: status %d, %s; want %d", body, got.Code, got.Body, want)
		}
	}
}
