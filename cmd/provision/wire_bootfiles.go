package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/rackstage/provision/fleet"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe"
)

// checkBoot is how soon a boot file that has gone, or came, is noticed. It is
// more often than an alarm stands by itself.
const checkBoot = time.Minute

// A want is a file of the state folder that some machine will be told to load.
type want struct {
	code string
	on   string // "loader snponly.efi"
	file string // boot/snponly.efi
}

// loaderOn begins what the alarm about a loader of ours is about.
const loaderOn = "loader "

// An alarmKey names an alarm.
type alarmKey struct{ code, on string }

// followBootFiles raises an alarm for each boot file that is not there, and
// for each subnet whose machines cannot be given what it declares, until ctx
// is done: the machines find out at the worst of times.
func (st *station) followBootFiles(ctx context.Context) error {
	tick := time.NewTicker(checkBoot)
	defer tick.Stop()
	var site fleet.Site
	raised := map[alarmKey]string{}
	for again := true; ; {
		changed, moved := st.engine.Changed(), st.relays.Changed()
		if now := st.engine.Site(); again || !reflect.DeepEqual(now, site) {
			site, again = now, false
			raised = st.raiseBoot(site, raised)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-moved:
			again = true
		case <-tick.C:
			again = true
		}
	}
}

// raiseBoot raises what is wrong now, clears what was, and returns the first.
func (st *station) raiseBoot(site fleet.Site, before map[alarmKey]string) map[alarmKey]string {
	wrong := map[alarmKey]string{}
	for _, w := range st.missing(site) {
		wrong[alarmKey{w.code, w.on}] = w.file + " is not in " + st.conf.StateDir
	}
	for _, err := range st.insecure(site) {
		wrong[alarmKey{fleet.CodeNoBootHTTPS, "subnet " + err.subnet}] = err.why
	}
	for k := range before {
		if _, still := wrong[k]; !still {
			st.engine.Clear(k.code, k.on)
		}
	}
	for k, detail := range wrong {
		st.engine.Raise(k.code, k.on, detail)
	}
	return wrong
}

// missing returns the files that are wanted and not there, or empty.
func (st *station) missing(site fleet.Site) []want {
	return slices.DeleteFunc(wants(site), func(w want) bool {
		about, err := os.Stat(filepath.Join(st.conf.StateDir, w.file))
		return err == nil && about.Mode().IsRegular() && about.Size() > 0
	})
}

// absent says what is the matter with a boot file that a machine has asked for
// and that is not there, and what to do. It is "" for one that no machine is
// told to load: loaders ask for much that need not be there.
func (st *station) absent(file string) string {
	return absentOn(st.engine.Site(), st.conf.StateDir, file)
}

func absentOn(site fleet.Site, stateDir, file string) string {
	for _, w := range bootWants(site) {
		if w.file == "boot/"+file {
			if _, err := os.Stat(filepath.Join(stateDir, w.file)); err == nil {
				return "" // it was asked for where it is not
			}
			return fmt.Sprintf("%s is not in %s: %s", w.file, stateDir, fleet.Diagnose(w.code).FixFor(w.on))
		}
	}
	return ""
}

// wants returns the files that machines are told to load: ours, and those that
// site.yaml names.
func wants(site fleet.Site) []want {
	all := bootWants(site)
	for _, s := range site.Scripts {
		for _, name := range privateFiles(s) {
			all = append(all, want{fleet.CodeBootFile, fmt.Sprintf("%s of script %s", name, s.Name), "private/" + name})
		}
	}
	return all
}

// bootWants are those of them that are in the folder boot.
func bootWants(site fleet.Site) (all []want) {
	for _, name := range pxe.Loaders() {
		all = append(all, want{fleet.CodeNoLoader, loaderOn + name, "boot/" + name})
	}
	for _, name := range []string{"vmlinuz", "initrd.img"} {
		all = append(all, want{fleet.CodeBootFile, name, "boot/" + name})
	}
	for _, n := range site.Subnets {
		for _, c := range n.Classes {
			if c.BootFile != "" && !c.BootServer.IsValid() && !strings.Contains(c.BootFile, "://") {
				name := path.Base(path.Clean("/" + c.BootFile))
				all = append(all, want{fleet.CodeBootFile, fmt.Sprintf("%s of class %s on subnet %s", name, c.Name, n.Name), "boot/" + name})
			}
		}
	}
	for i, q := range site.Quirks {
		if q.Loader != "" && !pxe.IsLoader(q.Loader) {
			all = append(all, want{fleet.CodeBootFile, fmt.Sprintf("%s of quirks[%d]", q.Loader, i), "boot/" + q.Loader})
		}
	}
	return all
}

// privateFiles are those that a script links to, in either of its forms. A form
// that is not there, or that was refused when the site was applied, links to none.
func privateFiles(s fleet.Script) []string {
	names := map[string]bool{}
	if custom, err := ipxescripts.Compile(s.Name, s.IPXE); err == nil {
		maps.Copy(names, custom.PrivateFiles())
	}
	if custom, err := ipxescripts.CompileGRUB(s.Name, s.GRUB); err == nil {
		maps.Copy(names, custom.PrivateFiles())
	}
	return slices.Sorted(maps.Keys(names))
}

// A noHTTPS is a subnet that declares boot_url: https, and why its machines
// cannot be given that.
type noHTTPS struct{ at, subnet, why, hint string }

// insecure returns the subnets whose machines cannot boot by HTTPS as they
// are declared to. They get plain HTTP meanwhile.
func (st *station) insecure(site fleet.Site) (list []noHTTPS) {
	for i, n := range site.Subnets {
		at := fmt.Sprintf("subnets[%d].boot_url", i)
		switch {
		case !n.BootHTTPS:
		case st.conf.Listen.BootHTTPS == "":
			list = append(list, noHTTPS{at, n.Name, "this server does not serve boot files by HTTPS", "set listen.boot_https in provision.yaml and restart the server, or write boot_url: http"})
		case st.atRelay(n):
			list = append(list, noHTTPS{at, n.Name, "its boot files come from a relay, which has no HTTPS", "write boot_url: http, or name a server: that has HTTPS"})
		}
	}
	return list
}

// atRelay reports whether a subnet's machines fetch their boot files from a
// relay of ours.
func (st *station) atRelay(n fleet.Subnet) bool {
	return !n.Server.IsValid() && st.relays.AddrOn(n.Name).IsValid()
}

// canServe refuses a site that declares what this server cannot give.
func (st *station) canServe(site fleet.Site) error {
	var errs []error
	for _, e := range st.insecure(site) {
		errs = append(errs, fleet.Invalidf(e.at, e.hint, errors.New(e.why)))
	}
	return errors.Join(errs...)
}
