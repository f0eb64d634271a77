package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// took writes a duration as people say it: 12s, 1m50s, 2h05m.
func took(d time.Duration) string {
	d = max(0, d).Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}

// since writes how long ago something was; never is a dash.
func since(now, t time.Time) string {
	if t.IsZero() {
		return dash("")
	}
	return took(now.Sub(t))
}

// bytesOf writes a size in binary units.
func bytesOf(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	if u == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[u])
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}

// plural is "1 node" or "3 nodes".
func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// wrap breaks a long line after commas.
func wrap(s string, width int, indent string) string {
	var b strings.Builder
	used := 0
	for part := range strings.SplitAfterSeq(s, ", ") {
		n := utf8.RuneCountInString(part)
		if used > 0 && used+n > width {
			b.WriteString("\n" + indent)
			used = len(indent)
		}
		b.WriteString(part)
		used += n
	}
	return strings.ReplaceAll(b.String(), " \n", "\n")
}
