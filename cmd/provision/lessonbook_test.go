package main

import (
	"fmt"
	"testing"

	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/pxe"
)

func TestStrangersTeachNobodyElseAndStoreNothing(t *testing.T) {
	b := newLessonBook()
	for i := range 2 * maxAlone {
		mac := fleet.MAC(fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&0xff))
		n := fleet.Node{Inventory: fleet.Inventory{Vendor: "Acme", Product: "R1"}} // as it says
		b.keep(fleet.Lesson{Model: pxe.ModelOf(mac, n, pxe.PlatformX64), Good: []string{"x"}})
	}
	if len(b.alone) > maxAlone || len(b.models) != 0 || len(b.take()) != 0 {
		t.Errorf("%d machines, %d models and %d lessons to store; want at most %d, none and none", len(b.alone), len(b.models), len(b.take()), maxAlone)
	}
	approved := fleet.Node{Approved: true, Inventory: fleet.Inventory{Vendor: "Acme", Product: "R1"}}
	if l, known := b.of(pxe.ModelOf("52:54:00:00:00:01", approved, pxe.PlatformX64)); known {
		t.Errorf("a model has learned %+v from strangers", l)
	}
}

func TestAModelThatBootsAThousandTimesIsStoredOnce(t *testing.T) {
	b := newLessonBook()
	for i := range 1000 {
		b.keep(fleet.Lesson{Model: fleet.Quirk{Product: fmt.Sprintf("R%d", i%2)}, Failures: []fleet.LoaderFailure{{Loader: fmt.Sprint(i)}}})
	}
	got := b.take()
	if len(got) != 2 || got[0].Failures[0].Loader < "998" || len(b.take()) != 0 {
		t.Errorf("to be stored: %+v, want the last of both models, once", got)
	}
	for i := range 2 * maxLessons {
		b.keep(fleet.Lesson{Model: fleet.Quirk{Product: fmt.Sprintf("R%d", i)}})
	}
	if len(b.models) > maxLessons || len(b.take()) != lessonsAt {
		t.Errorf("%d models are kept, want at most %d, and %d stored at a time", len(b.models), maxLessons, lessonsAt)
	}
}
