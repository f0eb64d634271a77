package figure

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Table writes a line for each figure that has an aim: what, aim, measured,
// the rounds' spread, and whether the aim is reached. It returns how many are
// short of their aim or have nothing to be compared with.
func Table(w io.Writer, all []Figure) (short int, err error) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "figure\taim\tmeasured\trounds\tok")
	for _, f := range all {
		if f.Aim == "" {
			continue
		}
		verdict := map[string]string{"OK": "yes", "SHORT": "NO"}[f.Verdict()]
		if verdict == "" {
			verdict = "not measured: " + f.Missing
		}
		if verdict != "yes" {
			short++
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", f.what(), f.Aim, f.measured(), f.spread(), verdict)
	}
	return short, t.Flush()
}

func (f Figure) what() string {
	if f.What == "" {
		return f.Name
	}
	return f.What
}

// measured is what is compared with the aim, and the value that it comes from.
func (f Figure) measured() string {
	v, ok := f.value()
	switch {
	case !ok:
		return "-"
	case f.isRatio():
		return fmt.Sprintf("%.3gx %s (%s %s)", v, f.Peer, plain(Median(f.Rounds)), f.Unit)
	}
	return plain(v) + " " + f.Unit
}

// spread says how far the rounds are apart.
func (f Figure) spread() string {
	values := f.compared()
	if len(values) < 2 {
		return fmt.Sprintf("%d", len(values))
	}
	return fmt.Sprintf("%d: %.3g-%.3g", len(values), slices.Min(values), slices.Max(values))
}
