package bmc_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

func TestFirmwareIsUpdatedByATask(t *testing.T) {
	t.Parallel()
	images := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/bios-2.1.bin" {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(images.Close)
	target, _ := startRedfish(t, redfish.Options{Task: 100 * time.Millisecond, Faults: redfish.Faults{FetchesURLs: true}})
	target = probed(t, target)
	ipmi := startSim(t).target()
	ipmi.Driver = fleet.DriverIPMI
	tests := map[string]struct {
		target bmc.Target
		change fleet.FirmwareChange
		want   error
	}{
		"to the version of the image":   {target, fleet.FirmwareChange{Component: "bios", URL: images.URL + "/bios-2.1.bin"}, nil},
		"not when the image is missing": {target, fleet.FirmwareChange{Component: "BMC", URL: images.URL + "/bmc-3.0.bin"}, bmc.ErrRejected},
		"not of what is not there":      {target, fleet.FirmwareChange{Component: "GPU", URL: images.URL + "/gpu-1.bin"}, bmc.ErrUnsupported},
		"not by IPMI":                   {ipmi, fleet.FirmwareChange{Component: "BIOS", URL: images.URL + "/bios-2.1.bin"}, bmc.ErrUnsupported},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			told := -1
			err := quick().Update(t.Context(), tt.target, tt.change, func(percent int) { told = percent })
			if !errors.Is(err, tt.want) {
				t.Errorf("Update = %v, want %v", err, tt.want)
			}
			if err == nil && told != 100 {
				t.Errorf("told %d %%, want 100", told)
			}
		})
	}
	got, err := quick().Examine(t.Context(), target, true)
	versions := map[string]string{}
	for _, f := range got.Hardware.Firmware {
		versions[f.ID] = f.Version
	}
	if err != nil || versions["BIOS"] != "2.1" || versions["BMC"] != "1.0" {
		t.Errorf("versions %v, %v; want BIOS 2.1, BMC 1.0", versions, err)
	}
}
