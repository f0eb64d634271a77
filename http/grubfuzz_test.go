package http

import (
	"path"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// FuzzGRUBPath reads what GRUB may ask for: what names a machine's script is in
// the folder of them, and has a MAC address that can be read again or none.
func FuzzGRUBPath(f *testing.F) {
	for _, name := range capturedURLs(f, "") {
		f.Add(name)
	}
	for _, s := range []string{
		"/grub.cfg", "/EFI/debian/grub.cfg-01-52-54-00-00-00-99", "/boot/grub/x86_64/52:54:00:00:00:99.cfg", "/boot/grub/arm64/52:54:00:00:00:99.menu.cfg",
		"/boot/grub/x86_64/.cfg", "/boot/grub//x.cfg", "/boot/grub/x86_64/../../etc/passwd.cfg", "/boot/grub/x86_64", "", "/", "/boot/grub/x86_64/a.b.c.cfg\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		p, ok := grubPath(name)
		switch {
		case !ok:
			if p != (grubName{}) {
				t.Errorf("%q is none of GRUB's, and yet %+v", name, p)
			}
		case p.first:
			if !strings.HasPrefix(path.Base(name), grubFirst) || p != (grubName{first: true}) {
				t.Errorf("%q is the first script: %+v", name, p)
			}
		default:
			if !strings.HasPrefix(name, pxe.PathGRUB) || !strings.HasSuffix(name, ".cfg") || strings.Count(name, "/") != strings.Count(pxe.PathGRUB, "/")+1 {
				t.Errorf("%q is a machine's script: %+v", name, p)
			}
			if again, err := fleet.ParseMAC(string(p.mac)); p.mac != "" && (err != nil || again != p.mac) {
				t.Errorf("%q is of the machine %q: %v", name, p.mac, err)
			}
			if strings.ContainsAny(string(p.do), "/") || p.arch != pxe.EFIX64 && p.arch != pxe.EFIARM64 {
				t.Errorf("%q wants %q of %v", name, p.do, p.arch)
			}
		}
	})
}
