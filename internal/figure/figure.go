// Package figure is one measured thing as `make bench`, `make bench-boot` and
// `make bench-bmc` print it:
//
//	FIGURE <name> <value> <unit> <ratio>x <peer> aim <aim> OK|SHORT
//
// with "-" for ratio and peer where there is no peer. The value is the median
// of all rounds, or the worst where the aim is for each. The ratio is the median of the ratios of each round, since
// only what ran side by side can be compared.
package figure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A Figure is one thing that is measured.
type Figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Aim    string    `json:"aim"` // "<=36" or ">=1000" for the value, ">=3x" for the ratio; "" for none
	Rounds []float64 `json:"rounds"`

	Peer       string    `json:"peer,omitempty"`        // what it is compared with
	PeerRounds []float64 `json:"peer_rounds,omitempty"` // of the peer, in the same rounds
	Missing    string    `json:"missing,omitempty"`     // why there is no peer

	What string `json:"what,omitempty"` // in the words of a [Table]; "": the name says it
	Each bool   `json:"each,omitempty"` // the aim is for each round: one that misses it is not made good by the others
}

// Median returns the median, 0 of nothing.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[half-1] + sorted[half]) / 2
	}
	return sorted[half]
}

// Ratio returns the median of the rounds' ratios to the peer; ok is false
// without a peer.
func (f Figure) Ratio() (ratio float64, ok bool) {
	ratios := f.ratios()
	return Median(ratios), len(ratios) > 0
}

func (f Figure) ratios() (ratios []float64) {
	for i, v := range f.Rounds[:min(len(f.Rounds), len(f.PeerRounds))] {
		if f.PeerRounds[i] != 0 {
			ratios = append(ratios, v/f.PeerRounds[i])
		}
	}
	return ratios
}

// value is what is held against the aim; ok is false when there is nothing.
func (f Figure) value() (v float64, ok bool) {
	values := f.compared()
	if len(values) == 0 {
		return 0, false
	}
	switch {
	case f.Each && strings.HasPrefix(f.Aim, "<="):
		return slices.Max(values), true
	case f.Each:
		return slices.Min(values), true
	}
	return Median(values), true
}

// compared are the rounds' ratios or values, as the aim wants it.
func (f Figure) compared() []float64 {
	if f.isRatio() {
		return f.ratios()
	}
	return f.Rounds
}

func (f Figure) isRatio() bool { return strings.HasSuffix(f.Aim, "x") }

// Verdict is OK, SHORT, or "-" for a ratio that could not be taken.
func (f Figure) Verdict() string {
	if f.Aim == "" {
		return "OK"
	}
	got, ok := f.value()
	if !ok && f.isRatio() {
		return "-"
	}
	want, err := strconv.ParseFloat(strings.Trim(f.Aim, "<>=x"), 64)
	switch {
	case err != nil, !ok,
		strings.HasPrefix(f.Aim, "<=") && got > want,
		strings.HasPrefix(f.Aim, ">=") && got < want:
		return "SHORT"
	}
	return "OK"
}

// String is the figure's line.
func (f Figure) String() string {
	ratio, peer, aim := "-", "-", "-"
	if r, ok := f.Ratio(); ok {
		ratio, peer = fmt.Sprintf("%.3gx", r), f.Peer
	}
	if f.Aim != "" {
		aim = f.Aim
	}
	value := Median(f.Rounds)
	if f.Each && !f.isRatio() {
		value, _ = f.value()
	}
	line := fmt.Sprintf("FIGURE %s %s %s %s %s aim %s %s", f.Name, plain(value), f.Unit, ratio, peer, aim, f.Verdict())
	if f.Missing != "" {
		line += " (" + f.Missing + ")"
	}
	return line
}

// plain writes four digits, and large numbers without an exponent.
func plain(v float64) string {
	if v >= 1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// Save writes figures with all their rounds to a file.
func Save(name string, all []Figure) error {
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false) // ">=3x" for people
	enc.SetIndent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	return os.WriteFile(name, raw.Bytes(), 0o644)
}
