package ramdisk

import (
	"bufio"
	"io"
	"strings"
)

// An aliasIndex finds the modules for a device's modalias. There are ten
// thousand patterns and a hundred devices, so the patterns lie in drawers:
// by their first bytes where these are plain text, else by their bus.
type aliasIndex map[string][]aliasLine

type aliasLine struct {
	pattern, module string
}

// drawer is long enough for "pci:v00008086" and "usb:v0BDAp815".
const drawer = 13

func readAliases(r io.Reader) (aliasIndex, error) {
	index := aliasIndex{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) != 3 || f[0] != "alias" {
			continue
		}
		key := bus(f[1])
		if plain := strings.IndexAny(f[1], "*?["); plain >= drawer || (plain < 0 && len(f[1]) >= drawer) {
			key = f[1][:drawer]
		}
		index[key] = append(index[key], aliasLine{f[1], f[2]})
	}
	return index, lines.Err()
}

func bus(s string) string {
	head, _, found := strings.Cut(s, ":")
	if !found || strings.ContainsAny(head, "*?[") {
		return "" // crypto-crc32c, fs-ext4, and the few that match any bus
	}
	return head
}

// find returns the modules for a modalias, each once.
func (index aliasIndex) find(modalias string) []string {
	keys := []string{bus(modalias), ""}
	if len(modalias) >= drawer {
		keys = append(keys, modalias[:drawer])
	}
	seen := map[string]bool{}
	var out []string
	for _, key := range keys {
		for _, a := range index[key] {
			if !seen[a.module] && match(a.pattern, modalias) {
				seen[a.module] = true
				out = append(out, a.module)
			}
		}
	}
	return out
}

// match is fnmatch(3) without flags: "*" takes slashes too, which path.Match
// does not let it.
func match(pattern, s string) bool {
	p, i := 0, 0
	star, from := -1, 0
	for i < len(s) {
		if p < len(pattern) {
			if pattern[p] == '*' {
				star, from = p, i
				p++
				continue
			}
			if n, ok := matchOne(pattern[p:], s[i]); ok {
				p, i = p+n, i+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++ // the star takes one more
		p, i = star+1, from
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchOne matches one byte against the head of a pattern, and says how long
// that head is.
func matchOne(pattern string, c byte) (int, bool) {
	switch pattern[0] {
	case '?':
		return 1, true
	case '[':
		end := strings.IndexByte(pattern, ']')
		if end < 2 {
			return 1, c == '['
		}
		return end + 1, inClass(pattern[1:end], c)
	default:
		return 1, pattern[0] == c
	}
}

func inClass(class string, c byte) bool {
	not := class[0] == '!' || class[0] == '^'
	if not {
		class = class[1:]
	}
	for i := 0; i < len(class); i++ {
		if i+2 < len(class) && class[i+1] == '-' {
			if class[i] <= c && c <= class[i+2] {
				return !not
			}
			i += 2
			continue
		}
		if class[i] == c {
			return !not
		}
	}
	return not
}
