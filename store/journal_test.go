package store

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rackstage/provision/fleet"
)

func someLease(i int) fleet.Lease {
	return fleet.Lease{
		Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Subnet: "rack",
		MAC: fleet.MAC(fmt.Sprintf("52:54:00:%02x:%02x:%02x", i>>16, i>>8&255, i&255)), Hostname: fmt.Sprintf("host-%d", i),
		State: fleet.LeaseBound, Expires: time.Unix(1_800_000_000, int64(i)).UTC(),
	}
}

var byValue = cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()}

// perBatch leases take three blocks.
const perBatch = 300

// written makes a journal with some batches, and returns its path.
func written(t *testing.T, batches int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "j")
	j, err := createJournal(path, 7)
	if err != nil {
		t.Fatal(err)
	}
	for i := range batches {
		var some []fleet.Lease
		for k := range perBatch {
			some = append(some, someLease(i*perBatch+k))
		}
		if err := j.append(some); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// contents opens a journal and reads it.
func contents(path string, least uint64) (all []fleet.Lease, err error) {
	j, err := openJournal(path, 7, least)
	if err != nil {
		return nil, err
	}
	defer j.f.Close()
	return all, j.each(j.end, func(r *record) { all = append(all, r.lease(map[string]string{})) })
}

func TestAJournalGivesBackWhatWasStored(t *testing.T) {
	got, err := contents(written(t, 5), 5)
	if err != nil || len(got) != 5*perBatch {
		t.Fatalf("%d leases, %v", len(got), err)
	}
	for i, l := range got {
		if diff := cmp.Diff(someLease(i), l, byValue); diff != "" {
			t.Fatalf("lease %d (-want +got):\n%s", i, diff)
		}
	}
}

// Whatever was being written when the power went is no batch: those before it
// are whole.
func TestATornBatchIsLeftOut(t *testing.T) {
	path := written(t, 3)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(path, 7, 3)
	if err != nil {
		t.Fatal(err)
	}
	last := j.end - (j.end-journalBlock)/3 // where the last batch begins
	_ = j.f.Close()
	for _, cut := range []int64{0, 1, 31, 32, 33, 700, 4095, 4096, 4097, 5000} {
		for how, torn := range map[string][]byte{
			"zeros":    append(bytes.Clone(whole[:last+cut]), make([]byte, int64(len(whole))-last-cut)...),
			"cut off":  bytes.Clone(whole[:last+cut]),
			"old data": append(bytes.Clone(whole[:last+cut]), bytes.Repeat([]byte{0xa5}, int(int64(len(whole))-last-cut))...),
		} {
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := contents(path, 2)
			if err != nil || len(got) != 2*perBatch {
				t.Errorf("%s after %d bytes: %d leases, %v, want those of two batches", how, cut, len(got), err)
			}
			if _, err := contents(path, 3); err == nil {
				t.Errorf("%s after %d bytes: nobody notices that batch 3 is gone, which was acknowledged", how, cut)
			}
		}
	}
}

func TestDamageInTheMiddleIsNoticed(t *testing.T) {
	path := written(t, 10)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(path, 7, 10)
	if err != nil {
		t.Fatal(err)
	}
	_ = j.f.Close()
	last := int(j.end - (j.end-journalBlock)/10) // that one could be torn as well
	for at := 0; at < last; at += 293 {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := contents(path, 0)
		if err == nil && len(got) != 10*perBatch { // a flipped bit between batches harms nobody
			t.Errorf("a bit flipped at %d: %d leases and no error", at, len(got))
		}
	}
}

func TestAJournalGoesOnBehindATornBatch(t *testing.T) {
	path := written(t, 2)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	j, err := openJournal(path, 7, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte("SAEL"), 3000), j.end); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if err := j.append([]fleet.Lease{someLease(900)}); err != nil {
		t.Fatal(err)
	}
	_ = j.f.Close()
	got, err := contents(path, 3)
	if err != nil || len(got) != 2*perBatch+1 || got[2*perBatch].Hostname != "host-900" {
		t.Errorf("%d leases, %v, want one more", len(got), err)
	}
}

// Any bytes give an error or a part of what was stored; never a panic, never a
// lease that was not.
func FuzzAJournalIsNeverBelievedTooMuch(f *testing.F) {
	f.Add(0, []byte{1}, 0)
	f.Add(4096, bytes.Repeat([]byte{0}, 4096), 20000)
	f.Add(4100, []byte("\x00\x00\x00\x00"), 9000)
	f.Add(5000, []byte("host-"), 12288)
	f.Fuzz(func(t *testing.T, at int, patch []byte, cut int) {
		path := written(t, 3)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if at >= 0 && at < len(b) {
			copy(b[at:], patch)
		}
		if cut > 0 && cut < len(b) {
			b = b[:cut]
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := contents(path, 0)
		if err != nil {
			return
		}
		for i, l := range got {
			if !cmp.Equal(l, someLease(i), byValue) {
				t.Fatalf("lease %d = %+v, which was never stored", i, l)
			}
		}
	})
}

func FuzzALeaseIsReadAsItWasWritten(f *testing.F) {
	l := someLease(1)
	f.Add(appendLease(nil, &l))
	l.ClientID, l.State = "01525400", fleet.LeaseDeclined
	f.Add(appendLease(nil, &l))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := cutRecord(b)
		if err != nil {
			return
		}
		l := r.lease(map[string]string{})
		if checkLease(&l) != nil {
			return
		}
		r, more, err := cutRecord(appendLease(nil, &l))
		again := r.lease(map[string]string{})
		if err != nil || len(more) != 0 || !cmp.Equal(l, again, byValue) {
			t.Errorf("%+v is read back as %+v, %v (%d bytes were left)", l, again, err, len(rest))
		}
	})
}

func TestASetOfLeasesKeepsTheLastOfEachAddressAndClient(t *testing.T) {
	at := func(client, addr int) fleet.Lease {
		l := someLease(client)
		l.Addr = someLease(addr).Addr
		return l
	}
	set := newLeaseSet(0)
	for _, l := range []fleet.Lease{at(1, 1), at(1, 2), at(2, 1), at(3, 3), at(3, 1)} {
		r := recordOf(&l)
		set.put(&r)
	}
	got := set.leases()
	gone := func(addr, client int) fleet.Lease {
		return fleet.Lease{Addr: someLease(addr).Addr, MAC: someLease(client).MAC}
	}
	want := []fleet.Lease{gone(3, 3), at(3, 1), at(1, 2)}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !slices.IsSortedFunc(got[1:], func(a, b fleet.Lease) int { return a.Addr.Compare(b.Addr) }) {
		t.Error("not in order of address")
	}
}
