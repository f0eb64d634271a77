package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// before says what a run does to a machine's firmware and BIOS settings before
// it touches the machine's disk, and what of that cannot be done. It goes by
// what the BMC has said last, and asks nobody.
func (e *Engine) before(pool fleet.Pool, n fleet.Node) []string {
	lines := e.firmwareBefore(pool.Firmware, n)
	want := e.biosWanted(n)
	if pool.BIOS == fleet.SetupLeave || len(want) == 0 {
		return lines
	}
	if err := cannot(n, "change BIOS settings", e.Setup != nil); err != nil {
		return append(lines, left(pool.BIOS, "BIOS settings", err))
	}
	return append(lines, "BIOS settings "+some(slices.Sorted(maps.Keys(want)))+", where they differ, with a restart")
}

func (e *Engine) firmwareBefore(policy fleet.SetupPolicy, n fleet.Node) (lines []string) {
	targets := e.firmwareWanted(n)
	if policy == fleet.SetupLeave || len(targets) == 0 {
		return nil
	}
	if err := cannot(n, "update firmware", e.Updater != nil && e.Examiner != nil); err != nil {
		return []string{left(policy, "firmware", err)}
	}
	var update, compare []string
	unread := e.rounds.get(n.ID).Hardware.At.IsZero()
	for _, c := range e.firmwareDiff(n) {
		switch {
		case unread:
			compare = append(compare, c.Component+" "+c.Want)
		case c.Missing:
			lines = append(lines, left(policy, "firmware", lacksComponent(n, c)))
		default:
			update = append(update, fmt.Sprintf("%s %s to %s", c.Component, cmp.Or(c.Is, "unknown"), c.Want))
		}
	}
	if len(update) > 0 {
		lines = append([]string{"firmware " + some(update) + ", with restarts where they need one"}, lines...)
	}
	if len(compare) > 0 {
		lines = append(lines, "firmware "+some(compare)+", where it has other versions; its BMC has not said yet")
	}
	return lines
}

// left says what becomes of what cannot be done.
func left(policy fleet.SetupPolicy, what string, err error) string {
	fate := "will fail"
	if policy == fleet.SetupPossible {
		fate = "left as it is"
	}
	cause := err.Error()
	if e, ok := err.(*fleet.Error); ok && e.Err != nil { //nolint:errorlint // one of ours, made here
		cause = e.Err.Error()
	}
	return fmt.Sprintf("%s %s, unsupported: %s (%s)", what, fate, cause, fleet.CodeOf(err))
}

// some are the first of a list.
func some(all []string) string {
	const most = 6
	if more := len(all) - most; more > 0 {
		return strings.Join(all[:most], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(all, ", ")
}
