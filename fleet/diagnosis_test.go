package fleet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rackstage/provision/internal/golden"
)

// The page in docs is the table, and nothing else.
func TestTheDocumentIsTheTable(t *testing.T) {
	var want strings.Builder
	want.WriteString(`# Diagnoses

What the server finds wrong by itself: an alarm stands for as long as its cause is seen. ` + "`provision alarms list`" + `,
` + "`provision doctor`" + ` and the console show them, with what is filled in for {on}. Made from the table in fleet/diagnosis.go by
` + "`go test ./fleet -update`" + `.

| code | what is the matter | what to do |
|---|---|---|
`)
	seen := map[string]bool{}
	for _, d := range Diagnoses() {
		if seen[d.Code] || !strings.HasPrefix(d.Code, "E-") || d.Title == "" || d.Fix == "" {
			t.Errorf("diagnosis %+v is there twice, or not whole", d)
		}
		seen[d.Code] = true
		fmt.Fprintf(&want, "| %s | %s | %s |\n", d.Code, d.Title, strings.ReplaceAll(d.Fix, "|", "\\|"))
	}
	golden.Check(t, "../docs/diagnoses.md", want.String())
}

func TestADiagnosisThatNobodyKnowsHasItsCode(t *testing.T) {
	if d := Diagnose("E-NEW"); d.Title != "E-NEW" || d.FixFor("x") != "" {
		t.Errorf("Diagnose = %+v", d)
	}
	if got := Diagnose(CodeRogueDHCP).FixFor("10.20.0.254"); !strings.HasSuffix(got, "10.20.0.254") {
		t.Errorf("FixFor = %q", got)
	}
}

// Who reads a fix has one sentence to read, and knows what to do.
func TestEachFixIsOneSentence(t *testing.T) {
	for _, d := range Diagnoses() {
		fix := d.FixFor("X")
		if strings.Contains(fix, ". ") || strings.HasSuffix(fix, ".") || !strings.Contains(d.Fix, "{on}") || strings.Contains(d.Title, ". ") {
			t.Errorf("%s: %q, fix %q: want a clause, and one sentence that says where", d.Code, d.Title, d.Fix)
		}
	}
}
