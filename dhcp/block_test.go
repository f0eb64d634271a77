package dhcp

import "testing"

func TestEveryAddressHasAPlaceOfItsOwn(t *testing.T) {
	all := newBlocks()
	ips := []uint32{0, 1, 255, 256, 257, 511, 512, 10<<24 - 1, 10 << 24, 1<<32 - 1}
	for i := range uint32(1000) {
		ips = append(ips, 20<<24+i*7)
	}
	made := make(map[*place]uint32)
	for _, ip := range ips {
		if p := all.at(ip); p != nil {
			t.Fatalf("%x has the place of %x before it was made", ip, p.ip)
		}
		made[all.add(place{ip: ip})] = ip
	}
	for p, ip := range made {
		if p.ip != ip || all.at(ip) != p {
			t.Errorf("%x has place %+v", ip, all.at(ip))
		}
	}
	if len(made) != len(ips) || all.count != len(ips) {
		t.Errorf("%d places, counted as %d, want %d", len(made), all.count, len(ips))
	}
	seen := 0
	for p := range all.places() {
		delete(made, p)
		seen++
	}
	if len(made) > 0 || seen != len(ips) {
		t.Errorf("%d places are seen, and %d not", seen, len(made))
	}
}
