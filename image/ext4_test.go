package image

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// old is when a packaged file was made.
var old = time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)

// A tree with one of each kind that a Debian has.
func smallTree(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	for _, dir := range []string{"etc", "usr/bin", "usr/share/with space"} {
		if err := os.MkdirAll(filepath.Join(tree, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{
		"etc/shadow": "root:*:19500:0:99999:7:::\n", "usr/bin/su": "#!/bin/sh\n", "usr/bin/perl": "perl\n",
		`usr/share/with space/back\x2dslash.slice`: "x\n", "etc/empty": "",
	} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, do := range []error{
		os.Chmod(filepath.Join(tree, "usr/bin/su"), 0o755|os.ModeSetuid),
		os.Chown(filepath.Join(tree, "etc/shadow"), 0, 42),
		os.Chmod(filepath.Join(tree, "etc/shadow"), 0o640),
		os.Link(filepath.Join(tree, "usr/bin/perl"), filepath.Join(tree, "usr/bin/perl5.36")),
		os.Symlink("usr/bin", filepath.Join(tree, "bin")),
		os.Chtimes(filepath.Join(tree, "usr/bin/perl"), old, old),
		os.Chmod(tree, 0o755),
	} {
		if do != nil {
			t.Fatal(do)
		}
	}
	return tree
}

func makeSmallRoot(t *testing.T, tree string, began time.Time) string {
	t.Helper()
	b := debianBuild{work: t.TempDir(), tree: tree, began: began}
	if err := b.makeRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b.part("root.img")
}

func debugfs(t *testing.T, img, request string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "debugfs", "-R", request, img).CombinedOutput()
	if err != nil {
		t.Fatalf("debugfs %s: %v\n%s", request, err, out)
	}
	return string(out)
}

func TestTheRootFileSystemKeepsWhatATreeHas(t *testing.T) {
	began := time.Now().Add(-time.Second)
	img := makeSmallRoot(t, smallTree(t), began)
	tests := map[string]struct {
		request string
		want    []string
	}{
		"a setuid program stays one":          {"stat /usr/bin/su", []string{"Mode:  04755", "User:     0"}},
		"a group stays":                       {"stat /etc/shadow", []string{"Mode:  0640", "Group:    42"}},
		"a hard link has two names":           {"stat /usr/bin/perl5.36", []string{"Links: 2"}},
		"a link points where it pointed":      {"stat /bin", []string{`Fast link dest: "usr/bin"`}},
		"a packaged file keeps its time":      {"stat /usr/bin/perl", []string{fmt.Sprintf("mtime: 0x%x", old.Unix())}},
		"a file of this build gets the epoch": {"stat /etc/empty", []string{fmt.Sprintf("mtime: 0x%x", epoch.Unix()), fmt.Sprintf("ctime: 0x%x", epoch.Unix())}},
		"contents are there":                  {"cat /usr/bin/perl", []string{"perl"}},
		"spaces and backslashes are no harm":  {`cat "/usr/share/with space/back\x2dslash.slice"`, []string{"x"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := debugfs(t, img, tt.request)
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("debugfs %s\n%s\nlacks %q", tt.request, got, want)
				}
			}
		})
	}
}

func TestTheSameTreeGivesTheSameFileSystem(t *testing.T) {
	began := time.Now().Add(-time.Second)
	one, two := makeSmallRoot(t, smallTree(t), began), makeSmallRoot(t, smallTree(t), began)
	a, err := fileDigest(one)
	if err != nil {
		t.Fatal(err)
	}
	b, err := fileDigest(two)
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Errorf("two file systems of equal trees are %s and %s", a, b)
	}
}

func TestAFileWithCapabilitiesIsNotLostSilently(t *testing.T) {
	tree := smallTree(t)
	name := filepath.Join(tree, "usr/bin/su")
	if out, err := exec.CommandContext(t.Context(), "setcap", "cap_net_raw=ep", name).CombinedOutput(); err != nil {
		t.Fatalf("setcap: %v\n%s", err, out)
	}
	if _, _, err := fillScript(tree, time.Now()); err == nil || !strings.Contains(err.Error(), "capability") {
		t.Errorf("fillScript = %v, want an error about the capability", err)
	}
}

func TestTroubleInADebugfsScriptIsNoticed(t *testing.T) {
	b := debianBuild{work: t.TempDir(), tree: t.TempDir(), began: time.Now()}
	if err := b.makeRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := command{name: "debugfs", args: []string{"-R", "cat /nowhere", b.part("root.img")}}
	_, said, err := c.runBoth(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if debugfsTrouble(said) == nil {
		t.Errorf("debugfsTrouble(%q) = nil, want an error", said)
	}
}
