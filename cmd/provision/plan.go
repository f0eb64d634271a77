package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// planClasses is the order in which a plan is told.
var planClasses = []fleet.Class{fleet.Keep, fleet.Add, fleet.Join, fleet.Skip, fleet.Replace, fleet.Remove}

// planWidth is where long lines of a plan are broken.
const planWidth = 110

// named is how many nodes of a class a plan names before it counts them.
const named = 6

type planStyle struct {
	server   string
	approved bool // held changes are approved already
	wide     bool // name every node
}

// writePlan tells a plan to a person: a line for each class of nodes.
func writePlan(w io.Writer, plan api.Plan, style planStyle) {
	head := "Plan for pool " + plan.Pool
	if style.server != "" {
		head += "   server " + style.server
	}
	if plan.Image != "" {
		head += "   image " + plan.Image + shortDigest(plan.Digest)
	}
	fmt.Fprintln(w, printable(head))
	for _, class := range planClasses {
		items := ofClass(plan, class)
		if len(items) == 0 {
			continue
		}
		text := printable(fmt.Sprintf("  %-8s %3d   %s", class, len(items), tellClass(class, items, style)))
		fmt.Fprintln(w, wrap(text, planWidth, strings.Repeat(" ", 17)))
	}
	for _, line := range tellBefore(plan, style.wide) {
		fmt.Fprintln(w, wrap(printable(line), planWidth, strings.Repeat(" ", 17)))
	}
	fmt.Fprintln(w, planSummary(plan, style.approved))
}

// tellBefore says what is done to firmware and BIOS settings before disks are
// touched, and to which nodes.
func tellBefore(plan api.Plan, wide bool) (lines []string) {
	var what []string
	by := map[string][]api.PlanItem{}
	for _, it := range plan.Items {
		it.Disk = "" // it is named already
		for _, b := range it.Before {
			if by[b] == nil {
				what = append(what, b)
			}
			by[b] = append(by[b], it)
		}
	}
	for _, b := range what {
		lines = append(lines, fmt.Sprintf("  %-8s %3d   %s:  %s", "first", len(by[b]), b, tellItems(by[b], wide)))
	}
	return lines
}

func ofClass(plan api.Plan, class fleet.Class) (items []api.PlanItem) {
	for _, it := range plan.Items {
		if it.Class == string(class) {
			items = append(items, it)
		}
	}
	return items
}

// tellClass says why nodes are in a class, and which ones where that matters.
func tellClass(class fleet.Class, items []api.PlanItem, style planStyle) string {
	if class == fleet.Keep {
		if !style.wide {
			return "active and as declared"
		}
		return "active and as declared: " + tellItems(items, true)
	}
	var reasons []string
	by := map[string][]api.PlanItem{}
	for _, it := range items {
		if by[it.Reason] == nil {
			reasons = append(reasons, it.Reason)
		}
		by[it.Reason] = append(by[it.Reason], it)
	}
	var parts []string
	for _, r := range reasons {
		parts = append(parts, tellItems(by[r], style.wide)+" "+r)
	}
	text := strings.Join(parts, "; ")
	if len(reasons) == 1 && len(items) > 1 {
		text = reasons[0] + ":  " + tellItems(items, style.wide)
	}
	if class.Destructive() && !style.approved {
		text += " — held, needs approval"
	}
	return text
}

func tellItems(items []api.PlanItem, all bool) string {
	var names []string
	for i, it := range items {
		if i == named && !all {
			names = append(names, fmt.Sprintf("… %d more", len(items)-i))
			break
		}
		names = append(names, tellItem(it))
	}
	return strings.Join(names, ", ")
}

// tellItem names a node and, where its disk would be written, that disk.
func tellItem(it api.PlanItem) string {
	name := it.Title
	if it.Name != "" && it.Name != it.Title {
		name += " → " + it.Name
	}
	if it.Disk != "" && fleet.Class(it.Class).Changes() {
		name += " (disk " + it.Disk + ")"
	}
	return name
}

// planSummary is the last line: what changes, what is held, how long.
func planSummary(plan api.Plan, approved bool) string {
	safe, held := planChanges(plan)
	if safe+held == 0 {
		return asDeclared(plan)
	}
	if approved {
		safe, held = safe+held, 0
	}
	text := plural(safe, "node") + " change"
	if safe == 1 {
		text += "s"
	}
	if held > 0 {
		text += fmt.Sprintf(", %d held", held)
	}
	text += "."
	if plan.Estimate > 0 && safe > 0 {
		text += " About " + about(time.Duration(plan.Estimate)*time.Second) + " (median of earlier boots)."
	}
	if slices.ContainsFunc(plan.Items, func(it api.PlanItem) bool { return len(it.Before) > 0 }) {
		text += " New firmware takes up to an hour more for each component, BIOS settings 20 min."
	}
	return text
}

// planChanges counts the safe changes and the destructive ones.
func planChanges(plan api.Plan) (safe, destructive int) {
	for _, it := range plan.Items {
		switch class := fleet.Class(it.Class); {
		case class.Destructive():
			destructive++
		case class.Changes():
			safe++
		}
	}
	return safe, destructive
}

// asDeclared says that there is nothing to do, and what was looked at.
func asDeclared(plan api.Plan) string {
	counts := fmt.Sprintf("%d keep", len(ofClass(plan, fleet.Keep)))
	if skip := len(ofClass(plan, fleet.Skip)); skip > 0 {
		counts += fmt.Sprintf(", %d skip", skip)
	}
	return printable(fmt.Sprintf("pool %s is as declared: %s. Nothing to do.", plan.Pool, counts))
}

func planListing(plan api.Plan) listing[api.PlanItem] {
	return listing[api.PlanItem]{
		items: plan.Items,
		name:  func(it api.PlanItem) string { return it.Title },
		columns: []column[api.PlanItem]{
			{"NODE", false, func(it api.PlanItem) string { return it.Title }},
			{"NAME", false, func(it api.PlanItem) string { return dash(it.Name) }},
			{"CLASS", false, func(it api.PlanItem) string { return it.Class }},
			{"ROLE", false, func(it api.PlanItem) string { return dash(it.Role) }},
			{"DISK", false, func(it api.PlanItem) string { return dash(it.Disk) }},
			{"REASON", false, func(it api.PlanItem) string { return it.Reason }},
			{"FIRST", true, func(it api.PlanItem) string { return dash(strings.Join(it.Before, "; ")) }},
		},
	}
}

func shortDigest(digest string) string {
	if digest == "" {
		return ""
	}
	if hex, ok := strings.CutPrefix(digest, "sha256:"); ok && len(hex) > 8 {
		digest = "sha256:" + hex[:8] + "…"
	}
	return "@" + digest
}

// about rounds a duration to what an estimate can promise.
func about(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
}
