package access

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
)

func sealer(t *testing.T, dir string) *Sealer {
	t.Helper()
	s, err := OpenSealer(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seal(t *testing.T, s *Sealer, text, place string) string {
	t.Helper()
	sealed, err := s.Seal([]byte(text), place)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestASealedValueOpensAfterARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	sealed := seal(t, sealer(t, dir), "calvin", "bmc of n-1")
	if strings.Contains(sealed, "calvin") {
		t.Errorf("sealed value %q shows what is in it", sealed)
	}
	got, err := sealer(t, dir).Open(sealed, "bmc of n-1")
	if string(got) != "calvin" || err != nil {
		t.Errorf("Open = %q, %v", got, err)
	}
	for name, want := range map[string]os.FileMode{".": 0o700, sealFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("mode of %s: %v, %v, want %v", name, info.Mode().Perm(), err, want)
		}
	}
}

func TestTheSameValueIsSealedDifferently(t *testing.T) {
	s := sealer(t, t.TempDir())
	if one, two := seal(t, s, "calvin", "x"), seal(t, s, "calvin", "x"); one == two {
		t.Error("whoever sees two sealed values sees that they are equal")
	}
}

func TestASealedValueOpensNowhereElse(t *testing.T) {
	s := sealer(t, t.TempDir())
	sealed := seal(t, s, "calvin", "bmc of n-1")
	id := strings.Split(sealed, ".")[1]
	last := sealed[len(sealed)-1:]
	flipped := sealed[:len(sealed)-2] + strings.Map(func(r rune) rune { return r ^ 1 }, sealed[len(sealed)-2:len(sealed)-1]) + last
	tests := map[string]struct{ sealed, place string }{
		"at another place":         {sealed, "bmc of n-2"},
		"at no place":              {sealed, ""},
		"when it was changed":      {flipped, "bmc of n-1"},
		"when it was cut":          {sealed[:len(sealed)-4], "bmc of n-1"},
		"when nothing is left":     {"s1." + id + ".", "bmc of n-1"},
		"with another key's id":    {strings.Replace(sealed, id, "00000000", 1), "bmc of n-1"},
		"when it is no such thing": {"calvin", "bmc of n-1"},
		"when it is empty":         {"", "bmc of n-1"},
		"in another version":       {"s2" + sealed[2:], "bmc of n-1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := s.Open(tt.sealed, tt.place)
			if fleet.CodeOf(err) != "E-SEAL" || got != nil {
				t.Errorf("Open = %q, %v, want E-SEAL", got, err)
			}
		})
	}
}

func TestANewKeySealsAndTheOldOneStillOpens(t *testing.T) {
	dir := t.TempDir()
	s := sealer(t, dir)
	old := seal(t, s, "old", "x")
	if err := s.Rotate(); err != nil {
		t.Fatal(err)
	}
	young := seal(t, s, "young", "x")
	if strings.Split(old, ".")[1] == strings.Split(young, ".")[1] {
		t.Error("both have the same key id")
	}
	restarted := sealer(t, dir)
	for want, sealed := range map[string]string{"old": old, "young": young} {
		if got, err := restarted.Open(sealed, "x"); string(got) != want || err != nil {
			t.Errorf("Open = %q, %v, want %q", got, err, want)
		}
	}
	again := seal(t, restarted, "x", "x")
	if strings.Split(again, ".")[1] != strings.Split(young, ".")[1] {
		t.Error("after a restart the old key seals again")
	}
}

func TestAKeyFileIsCheckedBeforeItIsUsed(t *testing.T) {
	tests := map[string]func(t *testing.T, dir string){
		"when others may read it": func(t *testing.T, dir string) {
			must(t, os.Chmod(filepath.Join(dir, sealFile), 0o640))
		},
		"when it is empty": func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, sealFile), nil, 0o600))
		},
		"when it is garbage": func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, sealFile), []byte("a b\n"), 0o600))
		},
		"when a key is short": func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, sealFile), []byte("00000000 AAAA\n"), 0o600))
		},
		"when it is gone but not what it sealed": func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, sealFile)))
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := OpenAuthority(dir, sealer(t, dir)); err != nil {
				t.Fatal(err)
			}
			spoil(t, dir)
			_, err := OpenSealer(dir)
			if fleet.CodeOf(err) != "E-KEY" || fleet.HintOf(err) == "" {
				t.Errorf("OpenSealer = %v, hint %q, want E-KEY and what to do", err, fleet.HintOf(err))
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDerivedKeysStayTheSame(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenSealer(dir)
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Derive("boot tickets")
	if err != nil || len(first) != 32 {
		t.Fatalf("Derive = %d bytes, %v", len(first), err)
	}
	if other, err := s.Derive("something else"); err != nil || bytes.Equal(first, other) {
		t.Errorf("two purposes have the same key, or %v", err)
	}
	if err := s.Rotate(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenSealer(dir)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := again.Derive("boot tickets"); err != nil || !bytes.Equal(first, after) {
		t.Errorf("after a rotation and a restart the key is another one, or %v", err)
	}
}
