package store_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/fleet"
)

func TestTheNewestLessonAboutAModelIsKept(t *testing.T) {
	s, _ := fresh(t)
	acme := fleet.Lesson{Model: fleet.Quirk{Vendor: "Acme", Product: "R1", Platform: "uefi-x64"}, Good: []string{"snponly.efi"}}
	cards := fleet.Lesson{
		Model:    fleet.Quirk{MACPrefix: "52:54:00", Platform: "bios"},
		Failures: []fleet.LoaderFailure{{Loader: "undionly.kpxe", MAC: "52:54:00:00:00:01", At: when}},
	}
	must(t, s.SaveLesson(t.Context(), cards))
	must(t, s.SaveLesson(t.Context(), acme))
	acme.Good = []string{"snponly.efi", "shimx64.efi"}
	must(t, s.SaveLesson(t.Context(), acme))
	got, err := s.Lessons(t.Context())
	must(t, err)
	if diff := cmp.Diff([]fleet.Lesson{cards, acme}, got); diff != "" {
		t.Errorf("lessons (-want +got):\n%s", diff)
	}
}
