package bmc

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/bougou/go-ipmi/pkg/types"

	"github.com/rackstage/provision/fleet"
)

// clean fails the test where a text of a BMC could do harm.
func clean(t *testing.T, texts ...string) {
	t.Helper()
	for _, s := range texts {
		if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\x07\x1b\r\n") || utf8.RuneCountInString(s) > 256 {
			t.Errorf("text %q", s)
		}
	}
}

// FuzzRedfishCheckup reads what a service may say of a machine.
func FuzzRedfishCheckup(f *testing.F) {
	f.Add(`{"PowerState":"On","Manufacturer":"Contoso\u001b[31m","Status":{"Health":"Critical","State":"Enabled"},"MemorySummary":{"TotalSystemMemoryGiB":64.5},"Links":{"Chassis":[{"@odata.id":"/redfish/v1/Chassis/1"}]}}`)
	f.Add(`{"PowerState":7,"Manufacturer":[],"Status":"ok","MemorySummary":{"TotalSystemMemoryGiB":"1e999"},"Links":[]}`)
	f.Add(`{"Attributes":{"FanOffset":20,"Boot":"Uefi","Quiet":true,"Nothing":null,"a\u0000b":"x"},"@Redfish.Settings":{"SupportedApplyTimes":["OnReset"]}}`)
	f.Fuzz(func(t *testing.T, raw string) {
		var c computer
		_ = json.Unmarshal([]byte(raw), &c) // what can be read counts
		s := &survey{}
		s.describe(c)
		s.judge("part", c.Status, string(c.Model))
		h := s.found.Hardware
		clean(t, h.Vendor, h.Model, h.Serial, h.Part, h.UUID, h.AssetTag)
		for _, fault := range s.found.Faults {
			clean(t, fault.Part, fault.Detail)
		}
		var b biosResource
		_ = json.Unmarshal([]byte(raw), &b)
		for name, value := range words(b.Attributes) {
			clean(t, name, value)
		}
		if _, err := b.request(words(b.Attributes)); err != nil && len(b.Attributes) == 0 {
			t.Errorf("nothing to change: %v", err)
		}
	})
}

// FuzzIPMIRecords reads what a BMC may send as sensors, log entries and FRU.
func FuzzIPMIRecords(f *testing.F) {
	// ipmi_sim's: a temperature above its limit, and a FRU's product area.
	f.Add([]byte{1, 0, 2, 0, 0, 0, 0, 0x20, 0, 4, 1, 1, 1, 0x59, 0x60, 0x5a})
	f.Add([]byte{1, 3, 0x19, 0xc7, 'C', 'o', 'n', 't', 'o', 's', 'o', 0xc2, 0x1b, 7, 0xc0, 0xc0, 0xc0, 0xc0, 0xc0, 0xc1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		_ = safely(func() error {
			sel, err := types.ParseSEL(raw)
			if err == nil {
				clean(t, logEntry(sel).Text)
			}
			return err
		})
		_ = safely(func() error {
			sdr, err := types.ParseSDR(raw, 0)
			if err == nil {
				s, _ := statefulOf(sdr)
				clean(t, s.name)
			}
			return err
		})
		_ = safely(func() error {
			product := new(types.FRUProductInfoArea)
			if err := product.Unpack(raw); err != nil {
				return err
			}
			var h fleet.Hardware
			describeFRU(&h, &types.FRU{ProductInfoArea: product})
			clean(t, h.Vendor, h.Model, h.Part, h.Serial, h.AssetTag)
			return nil
		})
	})
}
