package main

import (
	"strings"
	"testing"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/internal/golden"
)

func rackPlan() api.Plan {
	plan := api.Plan{Pool: "prd", Hash: "h", Image: "debian-12", Digest: "sha256:9f2c77aa00112233", Estimate: 540, Items: []api.PlanItem{
		{Title: "prd-1", Class: "keep"},
		{Title: "prd-2", Class: "keep"},
		{Title: "prd-3", Class: "join", Reason: "installed, not in swarm"},
		{Title: "prd-4", Class: "skip", Reason: "maintenance"},
		{Title: "prd-5", Class: "skip", Reason: "BMC does not answer (E-BMC-TIMEOUT)"},
		{Title: "prd-6", Class: "replace!", Reason: "has debian-11 on disk LAB6\x1b[2J", Disk: "LAB6"},
	}}
	for _, n := range []string{"7", "8", "9", "a", "b", "c", "d", "e"} {
		plan.Items = append(plan.Items, api.PlanItem{
			Title: "52:54:00:00:00:0" + n, Name: "prd-" + n, Class: "add", Reason: "blank, approved", Disk: "LAB" + n,
		})
	}
	return plan
}

func TestPlanTellsClassesReasonsAndDisks(t *testing.T) {
	var out strings.Builder
	writePlan(&out, rackPlan(), planStyle{server: "https://pxe.example:8443"})
	golden.Check(t, "testdata/plan.golden", out.String())
}

func TestPlanTellsWhatIsDoneBeforeTheDisk(t *testing.T) {
	plan := rackPlan()
	for i := range plan.Items {
		switch plan.Items[i].Class {
		case "add":
			plan.Items[i].Before = []string{"firmware BIOS 1.0 to 2.1, with restarts where they need one", "BIOS settings SysProfile, where they differ, with a restart"}
		case "replace!":
			plan.Items[i].Before = []string{"firmware will fail, unsupported: by driver ipmi\x1b[2J (E-BMC-UNSUPPORTED)"}
		}
	}
	var out strings.Builder
	writePlan(&out, plan, planStyle{})
	golden.Check(t, "testdata/plan-before.golden", out.String())
}

func TestPlanWideNamesEveryNode(t *testing.T) {
	var out strings.Builder
	writePlan(&out, rackPlan(), planStyle{wide: true, approved: true})
	golden.Check(t, "testdata/plan-wide.golden", out.String())
}
