package templates

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/golden"
)

func example() Data {
	return DataFor(
		fleet.Node{ID: "n-0123456789", Name: "prd-01", MAC: "52:54:00:12:34:56", Stage: "prd", Pool: "prd"},
		fleet.Profile{
			Name: "docker", SSHKey: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample ops@example"},
			Kernel: []string{"mitigations=auto", "nomodeset"},
		}, "rack.example", "prd-7")
}

func TestEveryFamilyRendersAsReviewed(t *testing.T) {
	bare := example()
	bare.SSHKeys, bare.Kernel, bare.Domain = nil, nil, ""
	for _, family := range Families() {
		for name, d := range map[string]Data{"full": example(), "bare": bare} {
			t.Run(family+" "+name, func(t *testing.T) {
				seed, err := Render(family, d)
				if err != nil {
					t.Fatal(err)
				}
				var got bytes.Buffer
				for _, f := range seed {
					fmt.Fprintf(&got, "-- %s %o --\n%s", f.Path, f.Mode, f.Data)
				}
				golden.Check(t, filepath.Join(family, "testdata", name+".txt"), got.String())
				for _, odd := range []string{"<no value>", "map[", "%!"} {
					if strings.Contains(got.String(), odd) {
						t.Errorf("seed contains %q", odd)
					}
				}
			})
		}
	}
}

func TestAFamilyThatNobodyKnowsIsAnError(t *testing.T) {
	_, err := Render("plan9", example())
	if fleet.KindOf(err) != fleet.NotFound || !strings.Contains(fleet.HintOf(err), "debian") {
		t.Errorf("Render = %v, hint %q, want not found and the known families", err, fleet.HintOf(err))
	}
}

func TestWhatIsNoNameOrWordIsRefused(t *testing.T) {
	tests := map[string]func(*Data){
		"a host name with a newline":   func(d *Data) { d.Hostname = "a\nb" },
		"no host name":                 func(d *Data) { d.Hostname = "" },
		"a domain with a space":        func(d *Data) { d.Domain = "a b" },
		"a MAC that is none":           func(d *Data) { d.MAC = "x" },
		"a kernel argument with $":     func(d *Data) { d.Kernel = []string{"x=$(reboot)"} },
		"a kernel argument with quote": func(d *Data) { d.Kernel = []string{`x"y`} },
		"a kernel argument, two lines": func(d *Data) { d.Kernel = []string{"x\ny"} },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			d := example()
			change(&d)
			if seed, err := Render("debian", d); err == nil {
				t.Errorf("Render = %+v, want an error", seed)
			}
		})
	}
}

// userData is user-data as cloud-init reads it.
type userData struct {
	Hostname string `yaml:"hostname"`
	Users    []struct {
		Name string   `yaml:"name"`
		Keys []string `yaml:"ssh_authorized_keys"`
	} `yaml:"users"`
}

func FuzzAFactIsReadBackAsItWas(f *testing.F) {
	for _, s := range []string{
		"ssh-ed25519 AAAA me", "x\nruncmd: [reboot]", `"`, `\`, "'", "{{.}}", "#", ": ", "- a", "\u2028", "\x85", "\x7f", "null", "~", "é\U0001F600", "a\tb",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		d := example()
		d.SSHKeys, d.InstanceID = []string{key}, key
		seed, err := Render("debian", d)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.ToValidUTF8(key, "\ufffd")
		var u userData
		read(t, seed, "user-data", &u)
		if len(u.Users) != 1 || !slices.Equal(u.Users[0].Keys, []string{want}) || u.Users[0].Name != "admin" || u.Hostname != "prd-01" {
			t.Errorf("key %q is read back as %+v", key, u)
		}
		var meta map[string]string
		read(t, seed, "meta-data", &meta)
		if len(meta) != 2 || meta["instance-id"] != want {
			t.Errorf("instance id %q is read back as %q", key, meta)
		}
	})
}

func read(t *testing.T, seed []fleet.SeedFile, name string, v any) {
	t.Helper()
	i := slices.IndexFunc(seed, func(f fleet.SeedFile) bool { return filepath.Base(f.Path) == name })
	if i < 0 {
		t.Fatalf("no %s in the seed", name)
	}
	if err := yaml.Unmarshal(seed[i].Data, v); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, seed[i].Data)
	}
}
