package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

var formats = []string{"table", "wide", "json", "jsonl", "yaml", "csv", "name"}

// addOutput adds -o to a command.
func addOutput(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "output", "o", "table", "output `format`: "+strings.Join(formats, ", "))
	complete(cmd, "output", formats...)
}

func checkFormat(format string) error {
	if slices.Contains(formats, format) {
		return nil
	}
	return usagef("unknown output format %q; use one of: %s", format, strings.Join(formats, ", "))
}

// A column of a listing of T.
type column[T any] struct {
	title string
	wide  bool // only with -o wide and csv
	cell  func(T) string
}

// A listing is things that can be printed in every format.
type listing[T any] struct {
	columns []column[T]
	name    func(T) string
	items   []T
}

// write prints the listing.
func (l listing[T]) write(w io.Writer, format string) error {
	switch format {
	case "json":
		return writeJSON(w, nonNil(l.items))
	case "jsonl":
		enc := json.NewEncoder(w)
		for _, it := range l.items {
			if err := enc.Encode(it); err != nil {
				return fmt.Errorf("write output: %w", err)
			}
		}
		return nil
	case "yaml":
		return writeYAML(w, nonNil(l.items))
	case "name":
		for _, it := range l.items {
			fmt.Fprintln(w, printable(l.name(it)))
		}
		return nil
	case "csv":
		return l.writeCSV(w)
	default:
		head, rows := l.cells(format == "wide")
		writeTable(w, head, rows)
		return nil
	}
}

func (l listing[T]) cells(wide bool) (head []string, rows [][]string) {
	for _, c := range l.columns {
		if wide || !c.wide {
			head = append(head, c.title)
		}
	}
	for _, it := range l.items {
		row := make([]string, 0, len(head))
		for _, c := range l.columns {
			if wide || !c.wide {
				row = append(row, c.cell(it))
			}
		}
		rows = append(rows, row)
	}
	return head, rows
}

func (l listing[T]) writeCSV(w io.Writer) error {
	head, rows := l.cells(true)
	for i := range head {
		head[i] = strings.ToLower(head[i])
	}
	out := csv.NewWriter(w)
	for _, row := range append([][]string{head}, rows...) {
		for i, cell := range row {
			row[i] = plainCell(cell)
		}
		if err := out.Write(row); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	out.Flush()
	return out.Error()
}

// plainCell keeps a spreadsheet from taking what a machine said of itself for
// a formula.
func plainCell(s string) string {
	s = strings.ReplaceAll(printable(s), "\n", " ")
	if s != "" && strings.ContainsRune("=+-@\t", rune(s[0])) {
		return "'" + s
	}
	return s
}

func nonNil[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func writeYAML(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	text, err := yaml.JSONToYAML(raw)
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	_, err = w.Write(text)
	return err
}

// writeOne prints one thing: as data, or by show for people.
func writeOne(w io.Writer, format string, v any, name string, show func(io.Writer)) error {
	switch format {
	case "json":
		return writeJSON(w, v)
	case "jsonl":
		return json.NewEncoder(w).Encode(v)
	case "yaml":
		return writeYAML(w, v)
	case "name":
		fmt.Fprintln(w, printable(name))
		return nil
	default:
		show(w)
		return nil
	}
}

// writeTable prints columns of the width that they need, two spaces apart.
func writeTable(w io.Writer, head []string, rows [][]string) {
	all := rows
	if head != nil {
		all = append([][]string{head}, rows...)
	}
	var width []int
	for _, row := range all {
		for i, cell := range row {
			row[i] = strings.ReplaceAll(printable(cell), "\n", " ")
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(pad(cell, width[i]) + "  ")
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// dash stands for what is not known.
func dash(s string) string {
	if s == "" {
		return "—"
	}
	return s
}
