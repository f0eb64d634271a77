package bmc_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

func TestAnImageIsPutIntoTheDriveOfTheRightMachine(t *testing.T) {
	t.Parallel()
	one, two := &redfish.Memory{}, &redfish.Memory{}
	target, _ := startRedfish(t, redfish.Options{Systems: []redfish.System{{ID: "Blade1", Machine: one}, {ID: "Blade2", Machine: two}}})
	target.System = "Blade2"
	target = probed(t, target)
	c := quick()
	for _, image := range []string{"http://10.0.0.1/a.iso", "http://10.0.0.1/b.iso?once=1", "http://10.0.0.1/b.iso?once=1"} {
		if err := c.InsertMedia(t.Context(), target, image); err != nil {
			t.Fatalf("insert %s: %v", image, err)
		}
		if got, _ := two.Media(t.Context()); got != image {
			t.Errorf("in the drive is %q, want %q", got, image)
		}
	}
	if err := c.SetNextBoot(t.Context(), target, bmc.Boot{Device: bmc.CDROM, Once: true}); err != nil {
		t.Error(err)
	}
	for range 2 { // an empty drive stays so
		if err := c.EjectMedia(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		if got, _ := two.Media(t.Context()); got != "" {
			t.Errorf("in the drive is %q", got)
		}
	}
	if got, _ := one.Media(t.Context()); got != "" {
		t.Errorf("in the other drive is %q", got)
	}
}

func TestAnImageThatCannotBeHadIsNamed(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(gone.Close)
	ipmi, _ := startReference(t)
	ipmi.Driver = fleet.DriverIPMI
	fetching, _ := startRedfish(t, redfish.Options{Fetch: func(context.Context, string) (string, error) { return "", errors.New("no such image") }})
	fetching = probed(t, fetching)
	fetching.Quirks.Settle = longEnough
	fine, _ := startRedfish(t, redfish.Options{})
	tests := map[string]struct {
		target bmc.Target
		image  string
		want   error
		kind   fleet.Kind
	}{
		"a BMC that has no virtual media":    {ipmi, gone.URL + "/x.iso", bmc.ErrNoMedia, fleet.Conflict},
		"an image that it does not reach":    {fetching, gone.URL + "/x.iso", bmc.ErrRejected, fleet.Unreachable},
		"an image that is no URL":            {fine, "/srv/x.iso", nil, fleet.Invalid},
		"an image that is a file of the BMC": {fine, "file:///etc/passwd", nil, fleet.Invalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := quick().InsertMedia(t.Context(), tt.target, tt.image)
			if fleet.KindOf(err) != tt.kind || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("InsertMedia = %v (%s), want %v", err, fleet.KindOf(err), tt.want)
			}
		})
	}
}
