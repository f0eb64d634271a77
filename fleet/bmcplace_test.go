package fleet

import "testing"

func TestABMCIsTheSameHoweverItIsWritten(t *testing.T) {
	at := func(address string, ports ...int) BMC {
		b := BMC{Address: address}
		if len(ports) == 2 {
			b.Ports = BMCPorts{IPMI: ports[0], HTTPS: ports[1]}
		}
		return b
	}
	same := map[string][]BMC{
		"IPv4":            {at("10.0.0.4"), at("10.0.0.4:443"), at("10.0.0.4:623"), at("10.0.0.4", 623, 443), at("10.0.0.4", 0, 443), at("::ffff:10.0.0.4"), at("[::ffff:10.0.0.4]:443")},
		"IPv6":            {at("fd00::4"), at("[fd00::4]"), at("[FD00:0::4]:443"), at("fd00:0:0::4", 623, 0)},
		"a name":          {at("bmc4.example"), at("BMC4.example."), at("bmc4.example:443")},
		"another service": {at("10.0.0.4", 0, 8443), at("10.0.0.4:443", 623, 8443)},
		"another port":    {at("10.0.0.4:8443"), at("10.0.0.4:08443"), at("10.0.0.4", 8443, 8443)},
		"another machine": {at("10.0.0.5"), at("10.0.0.5:443")},
		"none":            {at("")},
	}
	seen := map[string]string{}
	for name, all := range same {
		for _, b := range all {
			if got, want := b.Place(), all[0].Place(); got != want {
				t.Errorf("%s: %+v is %q, want %q", name, b, got, want)
			}
		}
		if other, taken := seen[all[0].Place()]; taken {
			t.Errorf("%s is the same as %s: %q", name, other, all[0].Place())
		}
		seen[all[0].Place()] = name
	}
}
