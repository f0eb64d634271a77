package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/engine"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

// Whatever trouble is raised, the doctor says what it is about and what to do,
// until it is over.
func TestTheDoctorTellsEveryAlarm(t *testing.T) {
	st := &station{engine: engine.New(engine.Options{}), conf: config{StateDir: t.TempDir()}}
	for _, d := range fleet.Diagnoses() {
		if d.Code == fleet.CodeBootFile {
			continue // the doctor looks for itself: below
		}
		st.engine.Raise(d.Code, "the thing", "as it was seen")
		found := checkAlarms(t.Context(), st)
		if len(found) != 1 || found[0].State == checkOK || found[0].Code != d.Code || !strings.Contains(found[0].Text, "the thing (as it was seen)") || found[0].Fix != d.FixFor("the thing") {
			t.Errorf("%s: the doctor finds %+v", d.Code, found)
		}
		st.engine.Clear(d.Code, "the thing")
	}
	if found := checkAlarms(t.Context(), st); len(found) != 1 || found[0].State != checkOK {
		t.Errorf("the doctor finds %+v when all is over", found)
	}
}

func TestTheDoctorNamesLoadersThatAreMissing(t *testing.T) {
	st := stationFor(t)
	for _, name := range []string{"boot/vmlinuz", "boot/initrd.img"} {
		st.put(t, name)
	}
	boot := filepath.Join(st.conf.StateDir, "boot")
	loaders := pxe.Loaders()
	for i, name := range loaders {
		found := checkLoaderFiles(t.Context(), st)
		last := found[len(found)-1]
		if last.State != checkFailed || last.Code != fleet.CodeNoLoader || !strings.Contains(last.Text, name) || len(found) != min(i, 1)+1 {
			t.Fatalf("with %d loaders the doctor finds %+v", i, found)
		}
		if err := os.WriteFile(filepath.Join(boot, name), []byte("MZ"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	found := checkLoaderFiles(t.Context(), st)
	if slices.ContainsFunc(found, func(c api.Check) bool { return c.State != checkOK }) {
		t.Errorf("with all loaders the doctor finds %+v", found)
	}
	if err := os.Remove(filepath.Join(boot, "vmlinuz")); err != nil {
		t.Fatal(err)
	}
	if found := checkLoaderFiles(t.Context(), st); found[0].State != checkFailed || found[0].Code != fleet.CodeBootFile || !strings.Contains(found[0].Text, "boot/vmlinuz") {
		t.Errorf("without a kernel the doctor finds %+v", found)
	}
}

func TestTheDoctorLooksAtDiskAndDemoLogin(t *testing.T) {
	st := &station{conf: config{StateDir: t.TempDir(), DemoLogin: true, Listen: listenConfig{HTTPS: ":8443"}}}
	if found := checkDemo(t.Context(), st); len(found) != 1 || found[0].State != checkWarning {
		t.Errorf("demo login on all addresses: %+v", found)
	}
	st.conf.Listen.HTTPS = "127.0.0.1:8443"
	if found := checkDemo(t.Context(), st); found[0].State != checkOK {
		t.Errorf("demo login on this machine: %+v", found)
	}
	if found := checkDisk(t.Context(), st); len(found) != 1 || !strings.Contains(found[0].Text, "free in") {
		t.Errorf("free space: %+v", found)
	}
	st.conf.StateDir = "/nowhere/at/all"
	if found := checkDisk(t.Context(), st); found[0].State != checkFailed {
		t.Errorf("free space of a folder that is not there: %+v", found)
	}
}
