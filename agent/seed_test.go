package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

func TestSeedStaysInsideOfTheNewSystem(t *testing.T) {
	tests := map[string]struct {
		links map[string]string // in the image: name to target
		path  string
		ok    bool
	}{
		"a new file in a new folder":           {nil, "/etc/cloud/seed/meta-data", true},
		"a folder that is a link inside":       {map[string]string{"etc/cloud": "../var"}, "/etc/cloud/meta-data", true},
		"a folder that is a link to outside":   {map[string]string{"etc/cloud": "../../outside"}, "/etc/cloud/meta-data", false},
		"a folder that is an absolute link":    {map[string]string{"etc/cloud": "/tmp"}, "/etc/cloud/meta-data", false},
		"a file that is a link to outside":     {map[string]string{"etc/hostname": "../../outside/victim"}, "/etc/hostname", true},
		"a path that climbs out":               {nil, "/../outside/victim", false},
		"a path that is not absolute":          {nil, "etc/hostname", false},
		"a path that is not clean":             {nil, "/etc//hostname", false},
		"the root itself":                      {nil, "/", false},
		"a leftover of an interrupted attempt": {map[string]string{"etc/.new-hostname": "../../outside/victim"}, "/etc/hostname", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			root, outside := filepath.Join(top, "root"), filepath.Join(top, "outside")
			for _, dir := range []string{filepath.Join(root, "etc"), filepath.Join(root, "var"), outside} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(outside, "victim"), []byte("untouched"), 0o644); err != nil {
				t.Fatal(err)
			}
			for link, target := range tt.links {
				if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
					t.Fatal(err)
				}
			}
			err := writeTree(root, []api.SeedFile{{Path: tt.path, Mode: 0o4640, Data: []byte("seed")}})
			if (err == nil) != tt.ok || !tt.ok && fault.CodeOf(err) != fault.Seed {
				t.Fatalf("writeTree = %v, want it to work: %v", err, tt.ok)
			}
			if b, err := os.ReadFile(filepath.Join(outside, "victim")); err != nil || string(b) != "untouched" {
				t.Errorf("the file outside holds %q (%v)", b, err)
			}
			if found, _ := os.ReadDir(outside); len(found) != 1 {
				t.Errorf("files appeared outside: %v", found)
			}
			if !tt.ok {
				return
			}
			info, err := os.Stat(filepath.Join(root, tt.path))
			if err != nil || info.Mode() != 0o640 || info.Size() != 4 {
				t.Errorf("the file is %v (%v), want 4 bytes with mode 0640", info, err)
			}
		})
	}
}

func TestBestLoaderIsFound(t *testing.T) {
	esp := t.TempDir()
	if got := findLoader(esp); got != "" {
		t.Errorf("findLoader of an empty ESP = %q", got)
	}
	for _, name := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/debian/shimx64.efi"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(esp, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(esp, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := findLoader(esp); got != name {
			t.Errorf("findLoader = %q, want %q", got, name)
		}
	}
}

func TestBootEntryIsForTheDiskThatWasWritten(t *testing.T) {
	in := &installer{last: "last"}
	tests := map[string]struct {
		step api.Step
		want string
	}{
		"the disk of the steps before":    {api.Step{}, "last"},
		"the disk that the step names":    {api.Step{Disk: &api.DiskOrder{ID: "a"}}, "a"},
		"the disk of its seed":            {api.Step{Seed: &api.SeedOrder{DiskID: "b"}}, "b"},
		"the disk of what it would write": {api.Step{Write: &api.WriteOrder{DiskID: "c"}}, "c"},
	}
	for name, tt := range tests {
		if got := in.orderedDisk(&tt.step); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}
