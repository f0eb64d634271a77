package store

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gorm.io/gorm"

	"github.com/rackstage/provision/fleet"
)

// crash lets a store go as kill -9 does: nothing is merged, nothing noted.
func crash(t *testing.T, s *Store) {
	t.Helper()
	s.leases.stop()
	<-s.leases.done
	if err := s.leases.closeFiles(); err != nil {
		t.Fatal(err)
	}
	s.leases = nil
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func openAgain(t *testing.T, path string) (*Store, error) {
	t.Helper()
	s, err := Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err == nil {
		s.leases.now = allOver
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return s, err
}

// churn saves leases of 300 clients that move about on 500 addresses, in
// batches, and returns what must be there then.
func churn(t *testing.T, s *Store, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		var some []fleet.Lease
		for k := range 20 {
			l := someLease((i*7 + k*13) % 300)
			l.Addr = someLease((i*11 + k*17) % 500).Addr
			l.Expires = l.Expires.AddDate(0, 0, i)
			some = append(some, l)
		}
		if err := s.SaveLeases(t.Context(), some); err != nil {
			t.Fatal(err)
		}
	}
}

// wanted is what [churn] leaves.
func wanted(t *testing.T, to int) []fleet.Lease {
	t.Helper()
	s := openFresh(t)
	churn(t, s, 0, to)
	return leasesOf(t, s)
}

func leasesOf(t *testing.T, s *Store) []fleet.Lease {
	t.Helper()
	all, err := s.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func rowsOf(t *testing.T, s *Store) (all []fleet.Lease) {
	t.Helper()
	noError(t, s.eachRow(func(r *record) { all = append(all, r.lease(map[string]string{})) }))
	return all
}

// The table, after all journals were merged, the journals over the table, and
// the journals alone must all say the same, however often we are killed.
func TestMergingChangesNothing(t *testing.T) {
	const rounds = 120
	want := wanted(t, rounds)
	s := openFresh(t)
	path := s.path
	s.leases.limit = 8 * journalBlock
	for i := range rounds {
		churn(t, s, i, i+1)
		switch i % 30 {
		case 10:
			if err := s.leases.mergeAll(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
		case 20:
			crash(t, s)
			var err error
			if s, err = openAgain(t, path); err != nil {
				t.Fatal(err)
			}
			s.leases.limit = 8 * journalBlock
		}
	}
	if diff := cmp.Diff(want, leasesOf(t, s), byValue); diff != "" {
		t.Errorf("with journals (-want +got):\n%s", diff)
	}
	if err := s.leases.mergeAll(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, rowsOf(t, s), byValue); diff != "" {
		t.Errorf("in the table (-want +got):\n%s", diff)
	}
	if files, _ := filepath.Glob(path + "-leases-*"); len(files) != 0 {
		t.Errorf("merged journals stay: %v", files)
	}
}

func TestMergingHalfAJournalDoesNoHarm(t *testing.T) {
	want := wanted(t, 40)
	s := openFresh(t)
	churn(t, s, 0, 40)
	set := newLeaseSet(0)
	j := s.leases.journals[0]
	if err := j.each(j.end, set.put); err != nil {
		t.Fatal(err)
	}
	w, err := s.openLeaseWriter()
	noError(t, err)
	half := set.sort()
	m := merge{ll: s.leases, j: j, w: w, now: toNano(s.leases.now()), held: map[uint32]record{}}
	noError(t, s.inTurn(t.Context(), w.c, func() error { return m.put(set, half[:len(half)/2]) }))
	noError(t, w.close())
	crash(t, s)
	if s, err = openAgain(t, s.path); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, leasesOf(t, s), byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// When merging cannot keep up, storing waits for it and goes on.
func TestStoringWaitsForMerging(t *testing.T) {
	s := openFresh(t)
	s.leases.limit = 2 * journalBlock
	churn(t, s, 0, 60)
	s.leases.mu.Lock()
	n := len(s.leases.journals)
	s.leases.mu.Unlock()
	if n > maxJournals {
		t.Errorf("%d journals", n)
	}
	if diff := cmp.Diff(wanted(t, 60), leasesOf(t, s), byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A copy of the database that is made before a migration has all leases.
func TestTheCopyBeforeAMigrationHasTheLeases(t *testing.T) {
	s := openFresh(t)
	churn(t, s, 0, 10)
	want := leasesOf(t, s)
	if err := s.migrate(t.Context(), false, withNext(func(*gorm.DB) error { return nil })); err != nil {
		t.Fatal(err)
	}
	copied, err := openAgain(t, s.path+".schema-"+lastOf(migrations()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, rowsOf(t, copied), byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAJournalThatCannotBeBelievedIsRefused(t *testing.T) {
	tests := map[string]struct {
		spoil func(t *testing.T, journal string)
		want  fleet.Code
	}{
		"one that is whole":           {func(*testing.T, string) {}, ""},
		"one that is gone":            {func(t *testing.T, p string) { noError(t, os.Remove(p)) }, "E-DB-DAMAGED"},
		"one that is empty":           {func(t *testing.T, p string) { noError(t, os.Truncate(p, 0)) }, "E-DB-DAMAGED"},
		"one whose head is zeros":     {func(t *testing.T, p string) { patch(t, p, 0, make([]byte, 64)) }, "E-DB-DAMAGED"},
		"one whose second is zeros":   {func(t *testing.T, p string) { patch(t, p, 2*journalBlock, make([]byte, journalBlock)) }, "E-DB-DAMAGED"},
		"one of another database":     {func(t *testing.T, p string) { noError(t, os.WriteFile(p, must(os.ReadFile(written(t, 9))), 0o600)) }, "E-DB-DAMAGED"},
		"one that was cut after half": {func(t *testing.T, p string) { noError(t, os.Truncate(p, 4*journalBlock)) }, ""}, // as if the power had gone then
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := openFresh(t)
			churn(t, s, 0, 8)
			journal := s.leases.journals[0].f.Name()
			crash(t, s)
			tt.spoil(t, journal)
			_, err := openAgain(t, s.path)
			if got := fleet.CodeOf(err); got != tt.want {
				t.Fatalf("Open = %v, want code %q", err, tt.want)
			}
			if err != nil && fleet.HintOf(err) == "" {
				t.Errorf("%v does not say what to do", err)
			}
		})
	}
}

// After an orderly end, and in journals that are full, it is known how long
// they are: not even their ends can get lost.
func TestACutJournalIsNoticedAfterAnOrderlyEnd(t *testing.T) {
	s := openFresh(t)
	churn(t, s, 0, 8)
	s.leases.journals[0].leases = mergeAtClose + 1 // as if there were many
	journal := s.leases.journals[0].f.Name()
	noError(t, s.Close())
	noError(t, os.Truncate(journal, 4*journalBlock))
	if _, err := openAgain(t, s.path); fleet.CodeOf(err) != "E-DB-DAMAGED" {
		t.Errorf("Open = %v, want E-DB-DAMAGED", err)
	}
}

func TestAnOlderDatabaseDoesNotEraseNewerLeases(t *testing.T) {
	s := openFresh(t)
	noError(t, s.write.Exec("VACUUM INTO ?", s.path+".backup").Error)
	churn(t, s, 0, 8)
	crash(t, s)
	for _, ext := range []string{"-wal", "-shm"} {
		noError(t, os.RemoveAll(s.path+ext))
	}
	noError(t, os.Rename(s.path+".backup", s.path))
	if _, err := openAgain(t, s.path); fleet.CodeOf(err) != "E-DB-DAMAGED" || fleet.HintOf(err) == "" {
		t.Errorf("Open = %v, want E-DB-DAMAGED and what to do", err)
	}
	if files, _ := filepath.Glob(s.path + "-leases-*"); len(files) != 1 {
		t.Error("the evidence is gone")
	}
}

// A journal of the future is deleted only if nothing was ever stored in it.
func TestAJournalOfTheFutureIsDeletedOnlyWhenEmpty(t *testing.T) {
	tests := map[string]struct {
		spoil func(t *testing.T, journal string)
		gone  bool
	}{
		"one that was just made":   {func(*testing.T, string) {}, true},
		"one without a head yet":   {func(t *testing.T, p string) { patch(t, p, 0, make([]byte, 64)) }, true},
		"one that is empty":        {func(t *testing.T, p string) { noError(t, os.Truncate(p, 0)) }, true},
		"one with leases":          {func(t *testing.T, p string) { copyOver(t, written(t, 2), p) }, false},
		"one whose head was lost":  {func(t *testing.T, p string) { copyOver(t, written(t, 2), p); patch(t, p, 0, make([]byte, 64)) }, false},
		"one with a damaged batch": {func(t *testing.T, p string) { copyOver(t, written(t, 2), p); patch(t, p, journalBlock+99, []byte("x")) }, false},
		"one that is no journal":   {func(t *testing.T, p string) { noError(t, os.WriteFile(p, bytes.Repeat([]byte("?"), 9000), 0o600)) }, false},
		"one that cannot be read":  {func(t *testing.T, p string) { noError(t, os.Remove(p)); noError(t, os.Mkdir(p, 0o700)) }, false},
		"one that ends in the middle": {func(t *testing.T, p string) {
			copyOver(t, written(t, 2), p)
			noError(t, os.Truncate(p, journalBlock+100))
		}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := openFresh(t)
			crash(t, s)
			path := s.journalPath(7)
			j, err := createJournal(path, 7)
			noError(t, err)
			noError(t, j.f.Close())
			tt.spoil(t, path)
			_, err = openAgain(t, s.path)
			if got := fleet.CodeOf(err); (got == "") != tt.gone || got != "" && got != "E-DB-DAMAGED" {
				t.Errorf("Open = %v", err)
			}
			if err != nil && !strings.Contains(fleet.HintOf(err), path) {
				t.Errorf("the hint %q does not name the file", fleet.HintOf(err))
			}
			if _, err := os.Stat(path); os.IsNotExist(err) != tt.gone {
				t.Errorf("the file is gone: %v, want %v", !tt.gone, tt.gone)
			}
		})
	}
}

// When nothing can be merged, whoever stores is told so at once, and why.
func TestStoringFailsAtOnceWhenMergingDoes(t *testing.T) {
	s := openFresh(t)
	s.leases.limit = 2 * journalBlock
	const forbid = "CREATE TRIGGER forbid BEFORE INSERT ON leases BEGIN SELECT RAISE(ABORT, 'no more'); END"
	noError(t, s.write.Exec(forbid).Error)
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		err = s.SaveLeases(t.Context(), []fleet.Lease{someLease(i)})
	}
	if fleet.CodeOf(err) != "E-DB" || !strings.Contains(err.Error(), "no more") {
		t.Fatalf("SaveLeases = %v, want what merging failed of", err)
	}
	noError(t, s.write.Exec("DROP TRIGGER forbid").Error)
	noError(t, s.MergeLeases(t.Context()))
	noError(t, s.SaveLeases(t.Context(), []fleet.Lease{someLease(1000)}))
}

func copyOver(t *testing.T, from, to string) {
	t.Helper()
	noError(t, os.WriteFile(to, must(os.ReadFile(from)), 0o600))
}

// An address has one holder, whatever the program does: a lease that would take
// it from him is refused when it comes to the table, told, and keeps no other
// from being stored.
func TestTheTableRefusesASecondHolder(t *testing.T) {
	const one, two = 1, 2 // clients
	on := func(addr, client int) fleet.Lease {
		l := someLease(client)
		l.Addr = someLease(addr).Addr
		return l
	}
	as := func(l fleet.Lease, state fleet.LeaseState) fleet.Lease { l.State = state; return l }
	later := func(l fleet.Lease) fleet.Lease { l.Expires, l.Hostname = l.Expires.Add(time.Hour), "renamed"; return l }
	elsewhere := func(l fleet.Lease) fleet.Lease { l.Subnet = "elsewhere"; return l }
	tests := map[string]struct {
		table, journal []fleet.Lease
		want           []fleet.Lease
		refused        int64
	}{
		"of an address that is held": {
			[]fleet.Lease{on(1, one)},
			[]fleet.Lease{on(1, two), on(3, 3)},
			[]fleet.Lease{on(1, one), on(3, 3)},
			1,
		},
		"twice in one journal": {
			nil,
			[]fleet.Lease{on(1, one), on(1, two), on(3, 3)},
			[]fleet.Lease{on(1, one), on(3, 3)},
			1,
		},
		"who keeps the address that he had": {
			[]fleet.Lease{on(1, one), on(2, two)},
			[]fleet.Lease{on(1, two)},
			[]fleet.Lease{on(1, one), on(2, two)},
			1,
		},
		"who keeps the address that he had in the journal": {
			[]fleet.Lease{on(1, one)},
			[]fleet.Lease{on(2, two), on(1, two)},
			[]fleet.Lease{on(1, one), on(2, two)},
			1,
		},
		"who goes on to another address": {
			[]fleet.Lease{on(1, one)},
			[]fleet.Lease{on(1, two), on(2, two)},
			[]fleet.Lease{on(1, one), on(2, two)},
			1,
		},
		"but not after the first one released it": {
			[]fleet.Lease{on(1, one)},
			[]fleet.Lease{as(on(1, one), fleet.LeaseReleased), on(1, two)},
			[]fleet.Lease{on(1, two)},
			0,
		},
		"but not after the first one went elsewhere": {
			[]fleet.Lease{on(1, one)},
			[]fleet.Lease{on(2, one), on(1, two)},
			[]fleet.Lease{on(1, two), on(2, one)},
			0,
		},
		"but not when two change places by way of a third": {
			[]fleet.Lease{on(1, one), on(2, two)},
			[]fleet.Lease{on(3, one), on(1, two), on(2, one)},
			[]fleet.Lease{on(1, two), on(2, one)},
			0,
		},
		"but not who renews, by another name": {
			[]fleet.Lease{on(1, one), on(2, two)},
			[]fleet.Lease{later(on(1, one)), later(on(2, two)), on(3, 3)},
			[]fleet.Lease{later(on(1, one)), later(on(2, two)), on(3, 3)},
			0,
		},
		"but not who comes back to what he released": {
			[]fleet.Lease{as(on(1, one), fleet.LeaseReleased)},
			[]fleet.Lease{later(on(1, one))},
			[]fleet.Lease{later(on(1, one))},
			0,
		},
		"but not who releases what he has": {
			[]fleet.Lease{on(1, one)},
			[]fleet.Lease{as(on(1, one), fleet.LeaseReleased)},
			[]fleet.Lease{as(on(1, one), fleet.LeaseReleased)},
			0,
		},
		"but not who has the address on another subnet now": {
			[]fleet.Lease{on(1, one)},
			[]fleet.Lease{elsewhere(on(1, one))},
			[]fleet.Lease{elsewhere(on(1, one))},
			0,
		},
		"who releases what is not his": {
			[]fleet.Lease{on(1, one)},
			[]fleet.Lease{as(on(1, two), fleet.LeaseReleased)},
			[]fleet.Lease{on(1, one)},
			1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := openFresh(t)
			s.leases.now = func() time.Time { return someLease(0).Expires.Add(-time.Hour) }
			told := alarms{}
			s.SetAlarms(told)
			for _, some := range [][]fleet.Lease{tt.table, tt.journal} {
				noError(t, s.SaveLeases(t.Context(), some))
				noError(t, s.MergeLeases(t.Context()))
			}
			if diff := cmp.Diff(tt.want, rowsOf(t, s), byValue); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := s.RefusedLeases(); got != tt.refused {
				t.Errorf("%d leases refused, want %d", got, tt.refused)
			}
			if got := told[fleet.CodeLeaseTwice]; (got != "") != (tt.refused > 0) {
				t.Errorf("alarm of %q", got)
			}
			noError(t, s.SaveLeases(t.Context(), []fleet.Lease{on(9, 9)}))
			noError(t, s.MergeLeases(t.Context()))
			if len(told) > 0 {
				t.Errorf("the alarm stands when it is over: %v", told)
			}
		})
	}
}

// A lease that has ended is nobody's.
func TestTheTableLetsGoOfALeaseThatHasEnded(t *testing.T) {
	s := openFresh(t)
	second := someLease(2)
	second.Addr = someLease(1).Addr
	s.leases.now = func() time.Time { return someLease(1).Expires }
	noError(t, s.SaveLeases(t.Context(), []fleet.Lease{someLease(1)}))
	noError(t, s.MergeLeases(t.Context()))
	noError(t, s.SaveLeases(t.Context(), []fleet.Lease{second}))
	noError(t, s.MergeLeases(t.Context()))
	if diff := cmp.Diff([]fleet.Lease{second}, rowsOf(t, s), byValue); diff != "" || s.RefusedLeases() != 0 {
		t.Errorf("%d refused (-want +got):\n%s", s.RefusedLeases(), diff)
	}
}

// alarms are what stands, by code.
type alarms map[string]string

func (a alarms) Raise(code, on, _ string) { a[code] = on }

func (a alarms) Clear(code, _ string) { delete(a, code) }

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func patch(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	noError(t, err)
	_, err = f.WriteAt(b, at)
	noError(t, err)
	noError(t, f.Close())
}
