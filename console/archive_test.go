package console

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func openArchive(t *testing.T, dir string, l Limits) *Archive {
	t.Helper()
	a, err := OpenArchive(dir, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func writeRecord(t *testing.T, a *Archive, node fleet.NodeID, at time.Time, pieces ...string) *writer {
	t.Helper()
	w, err := a.begin(node, string(Switched), at)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range pieces {
		if _, err := w.write([]byte(p), at.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// ended ends a record.
func ended(t *testing.T, w *writer) {
	t.Helper()
	if err := w.end(); err != nil {
		t.Errorf("end record: %v", err)
	}
}

// search looks through the records of n-1.
func search(t *testing.T, a *Archive, s Search) []string {
	t.Helper()
	lines, _, err := a.Search(t.Context(), "n-1", s)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range lines {
		out = append(out, l.At.Format("15:04:05 ")+l.Text)
	}
	return out
}

func TestWhatAMachineWroteIsFound(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, Limits{})
	w := writeRecord(t, a, "n-1", noon, "SeaBIOS\r\n", "Booting", " from disk\r\n", "\x1b[31mKernel panic\x1b[0m\r\n")
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	open := writeRecord(t, a, "n-1", noon.Add(time.Hour), "second boot\r\n", "login: ")
	defer func() { _ = open.end() }() // its folder is gone then
	ended(t, writeRecord(t, a, "n-2", noon, "another machine\r\n"))
	tests := map[string]struct {
		s    Search
		want []string
	}{
		"all":                        {Search{}, []string{"12:00:00 SeaBIOS", "12:00:01 Booting from disk", "12:00:03 Kernel panic", "13:00:00 second boot", "13:00:01 login:"}},
		"what matches":               {Search{Match: "(?i)PANIC|login"}, []string{"12:00:03 Kernel panic", "13:00:01 login:"}},
		"what came later":            {Search{Since: noon.Add(2 * time.Second)}, []string{"12:00:03 Kernel panic", "13:00:00 second boot", "13:00:01 login:"}},
		"one record":                 {Search{Record: newID(noon)}, []string{"12:00:00 SeaBIOS", "12:00:01 Booting from disk", "12:00:03 Kernel panic"}},
		"the last two":               {Search{Limit: 2}, []string{"13:00:00 second boot", "13:00:01 login:"}},
		"the last three, both":       {Search{Limit: 3}, []string{"12:00:03 Kernel panic", "13:00:00 second boot", "13:00:01 login:"}},
		"of nothing":                 {Search{Match: "windows"}, nil},
		"in one record, and no more": {Search{Record: newID(noon), Match: "login"}, nil},
	}
	check := func(t *testing.T, a *Archive) {
		for name, tt := range tests {
			t.Run(name, func(t *testing.T) {
				if diff := cmp.Diff(tt.want, search(t, a, tt.s)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
	t.Run("while it goes on", func(t *testing.T) { check(t, a) })
	again, err := OpenArchive(dir, Limits{}, nil) // as after a crash: nobody closed the last one
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	t.Run("after a crash", func(t *testing.T) { check(t, again) })
	var raw bytes.Buffer
	if err := again.Raw(t.Context(), &raw, "n-1", newID(noon)); err != nil || raw.String() != "SeaBIOS\r\nBooting from disk\r\n\x1b[31mKernel panic\x1b[0m\r\n" {
		t.Errorf("the record itself is %q, %v", raw.String(), err)
	}
	for name, s := range map[string]Search{"no record": {Record: "x"}, "no expression": {Match: "("}, "an endless one": {Match: strings.Repeat("a", 999)}} {
		if _, _, err := again.Search(t.Context(), "n-1", s); fleet.HintOf(err) == "" {
			t.Errorf("%s: %v comes without a hint", name, err)
		}
	}
}

func TestARecordSaysWhatItIs(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, Limits{})
	ended(t, writeRecord(t, a, "n-1", noon, "one\n", "two\n"))
	ended(t, writeRecord(t, a, "n-1", noon.Add(time.Minute))) // in which nothing stands
	want := []Record{{ID: newID(noon), Began: noon, Ended: noon.Add(time.Second), Why: "power", Bytes: 8}}
	if diff := cmp.Diff(want, a.Records("n-1")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want, openArchive(t, dir, Limits{}).Records("n-1")); diff != "" {
		t.Error("read again: " + diff)
	}
}

func TestTheOldestRecordsGo(t *testing.T) {
	noise := func(i int) string { // which does not compress
		b := make([]byte, 3000)
		for j := range b {
			b[j] = byte('!' + (i*7919+j*j*31+j*(i+3))%90)
		}
		return string(b)
	}
	tests := map[string]struct {
		limits Limits
		nodes  []fleet.NodeID
		left   int // of eight
	}{
		"too many of one node": {Limits{Records: 3}, []fleet.NodeID{"n-1"}, 3},
		"too much of one node": {Limits{Node: 5000}, []fleet.NodeID{"n-1"}, 0},
		"too much in all":      {Limits{Total: 9000}, []fleet.NodeID{"n-1", "n-2"}, 0},
		"room for all":         {Limits{}, []fleet.NodeID{"n-1", "n-2"}, 8},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := openArchive(t, dir, tt.limits)
			for i := range 8 {
				at := noon.Add(time.Duration(i) * time.Hour)
				if err := writeRecord(t, a, tt.nodes[i%len(tt.nodes)], at, noise(i)).end(); err != nil {
					t.Fatal(err)
				}
			}
			var size int64
			left := 0
			err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
				if info, _ := d.Info(); d.Type().IsRegular() {
					size += info.Size()
					left++
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if tt.left > 0 && left != tt.left {
				t.Errorf("%d records are left, want %d", left, tt.left)
			}
			if most := max(tt.limits.Node, tt.limits.Total); most > 0 && size > most || left == 0 {
				t.Errorf("%d bytes in %d records are left, want at most %d", size, left, most)
			}
			if list := a.Records(tt.nodes[7%len(tt.nodes)]); len(list) == 0 || !list[0].Began.Equal(noon.Add(7*time.Hour)) {
				t.Errorf("the newest is gone: %+v", list)
			}
		})
	}
}

func TestADamagedRecordIsReadAsFarAsItGoes(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, Limits{})
	w := writeRecord(t, a, "n-1", noon, "one\n", "two\n", "three\n")
	whole, err := os.ReadFile(filepath.Join(dir, w.k.file))
	if err != nil {
		t.Fatal(err)
	}
	ended(t, w)
	damages := map[string]struct {
		file []byte
		want []string
	}{
		"torn in its last piece":  {whole[:len(whole)-3], []string{"12:00:00 one", "12:00:01 two"}},
		"torn in its first line":  {whole[:5], nil},
		"torn in its second line": {whole[:len(recordMagic)+9], nil},
		"empty":                   {nil, nil},
		"of somebody else":        {[]byte("hello\nworld\n"), nil},
	}
	for name, tt := range damages {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "n-1"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "n-1", newID(noon)+openSuffix), tt.file, 0o600); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, search(t, openArchive(t, dir, Limits{}), Search{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAClockThatIsSetBackTakesNoRecordAway(t *testing.T) {
	a := openArchive(t, t.TempDir(), Limits{})
	ended(t, writeRecord(t, a, "n-1", noon, "before\n"))
	ended(t, writeRecord(t, a, "n-1", noon.Add(-time.Hour), "after\n"))
	if list := a.Records("n-1"); len(list) != 2 || !list[0].Began.Before(list[1].Began) {
		t.Errorf("records are %+v, want the later one first", list)
	}
}

func TestSecretsDoNotReachTheDisk(t *testing.T) {
	dir := t.TempDir()
	a := openArchive(t, dir, Limits{})
	w := writeRecord(t, a, "n-1", noon, "Command line: provision.tic", "ket=abcdef0123 quiet\r\n", "SWMTKN-1-very-", "secret\n")
	raw, err := os.ReadFile(filepath.Join(dir, w.k.file))
	if err != nil || bytes.Contains(raw, []byte("abcdef")) || bytes.Contains(raw, []byte("secret")) {
		t.Errorf("the file has a secret in it: %q, %v", raw, err)
	}
	ended(t, w)
	if got := search(t, a, Search{Match: "hidden"}); len(got) != 2 {
		t.Errorf("found %q", got)
	}
}

func TestARecordOfNoNodeIsRefused(t *testing.T) {
	a := openArchive(t, t.TempDir(), Limits{})
	for _, node := range []fleet.NodeID{"", "..", "a/b", "../x", ".hidden", "a b"} {
		if _, err := a.begin(node, "x", noon); err == nil {
			t.Errorf("%q was recorded", node)
		}
	}
}

func FuzzReadRecord(f *testing.F) {
	head, err := appendHead(nil, Record{ID: newID(noon), Began: noon, Why: "power"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(appendPiece(appendPiece(head, 0, []byte("SeaBIOS\r\n")), time.Second, []byte("login: ")))
	f.Add(append(head, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 5, 'x'))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readRecord(bytes.NewReader(b))
		if err != nil {
			return
		}
		total := 0
		for at := r.rec.Began; ; {
			next, piece, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || next.Before(at) {
				t.Fatalf("%s after %s, %v", next, at, err)
			}
			total += len(piece)
		}
		if total > len(b) {
			t.Fatalf("%d bytes came of %d", total, len(b))
		}
	})
}

// While the disk is busy with records that are over, other consoles go on.
func TestNobodyWaitsForRecordsThatEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := OpenArchive(t.TempDir(), Limits{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		begin := func(node fleet.NodeID) *writer {
			w, err := a.begin(node, "power", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.write([]byte("hello\n"), time.Now()); err != nil {
				t.Fatal(err)
			}
			return w
		}
		one, other := begin("n-1"), begin("n-2")
		for range endAtOnce { // the disk has enough to do
			a.ending <- struct{}{}
		}
		ended := make(chan error, 1)
		go func() { ended <- one.end() }()
		synctest.Wait() // it waits for the disk
		if _, err := other.write([]byte("world\n"), time.Now()); err != nil {
			t.Error(err)
		}
		if list := a.Records("n-1"); len(list) != 1 || list[0].Bytes != 6 {
			t.Errorf("records %+v, want one of 6 bytes", list)
		}
		for range endAtOnce {
			<-a.ending
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := other.end(); err != nil {
			t.Error(err)
		}
	})
}
