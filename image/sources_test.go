package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
)

func TestTheMirrorIsTheOneThatAptUses(t *testing.T) {
	const ring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	tests := map[string]struct {
		files map[string]string
		want  []string
	}{
		"deb822": {
			map[string]string{"sources.list.d/debian.sources": `Types: deb deb-src
# a comment, with a: colon
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
 bookworm-backports
Components: main contrib
Signed-By: /keys/a.gpg

Types: deb
URIs: http://security.example/debian-security/
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBGPL
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
`},
			[]string{
				`deb [signed-by="/keys/a.gpg"] http://mirror.example/debian bookworm main`,
				`deb [signed-by="/keys/a.gpg"] http://mirror.example/debian bookworm-updates main`,
				`deb [signed-by="` + ring + `"] http://security.example/debian-security/ bookworm-security main`,
			},
		},
		"one line each": {
			map[string]string{
				"sources.list": `# deb http://commented.example/debian bookworm main
deb [ arch=amd64 signed-by="/keys/b.gpg" ] http://mirror.example/debian bookworm main non-free # here
deb-src http://mirror.example/debian bookworm main
deb cdrom:[Debian 12]/ bookworm main
deb http://flat.example/ ./
deb https://other.example/ubuntu jammy main
`,
				"sources.list.d/more.list": "deb http://mirror.example/debian bookworm-security main\ndeb http://mirror.example/debian bookworm main\n",
				"sources.list.d/old.save":  "deb http://saved.example/debian bookworm main\n",
			},
			[]string{
				`deb [signed-by="/keys/b.gpg"] http://mirror.example/debian bookworm main`,
				`deb [signed-by="` + ring + `"] http://mirror.example/debian bookworm-security main`,
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			etc := t.TempDir()
			for file, content := range tt.files {
				file = filepath.Join(etc, file)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			found, err := debianSources(etc, "", bookworm)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range found {
				got = append(got, s.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("sources (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnotherReleaseComesFromTheSameMirror(t *testing.T) {
	have := []source{{URI: "http://s.example/security", Suite: "bookworm-security"}, {URI: "http://m.example/debian", Suite: "bookworm", SignedBy: "/k"}}
	got, err := otherRelease(have, trixie)
	if err != nil || got.String() != `deb [signed-by="/k"] http://m.example/debian trixie main` {
		t.Errorf("otherRelease = %v, %v", got, err)
	}
}

func TestAHostWithoutDebianIsToldToNameAMirror(t *testing.T) {
	_, err := debianSources(t.TempDir(), "", bookworm)
	if fleet.KindOf(err) != fleet.NotFound || !strings.Contains(fleet.HintOf(err), "--mirror") {
		t.Errorf("debianSources = %v, hint %q; want not_found with a hint", err, fleet.HintOf(err))
	}
	found, err := debianSources(t.TempDir(), "http://named.example/debian", bookworm)
	if err != nil || len(found) == 0 || found[0].URI != "http://named.example/debian" {
		t.Errorf("debianSources with a mirror = %v, %v", found, err)
	}
}
