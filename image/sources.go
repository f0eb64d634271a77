package image

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// A source is one place that apt takes packages from.
type source struct {
	URI        string
	Suite      string
	Components []string
	SignedBy   string // a keyring file; empty for apt's trusted ones
}

// String is the source as one line of a sources.list.
func (s source) String() string {
	options := ""
	if s.SignedBy != "" {
		options = fmt.Sprintf("[signed-by=%q] ", s.SignedBy)
	}
	return fmt.Sprintf("deb %s%s %s %s", options, s.URI, s.Suite, strings.Join(s.Components, " "))
}

// archiveKeyring is where Debian's own keys are.
const archiveKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// debianSources are the sources to build a Debian of the given suite from: the
// mirror when one is named, otherwise what the apt configuration below etc
// (/etc/apt) uses. No mirror is known to us by name.
func debianSources(etc, mirror, suite string) ([]source, error) { //nolint:unparam // trixie is next
	if mirror != "" {
		return mirrorSources(mirror, suite), nil
	}
	all, err := readSources(etc)
	if err != nil {
		return nil, err
	}
	var found []source
	for _, s := range all {
		if releaseOf(s.Suite) != suite || !slices.Contains(s.Components, "main") {
			continue
		}
		s.Components = []string{"main"}
		if s.SignedBy == "" {
			s.SignedBy = archiveKeyring
		}
		if !slices.ContainsFunc(found, func(f source) bool { return f.URI == s.URI && f.Suite == s.Suite }) {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return nil, &fleet.Error{
			Kind: fleet.NotFound, Op: "find a mirror for", On: suite,
			Err:  fmt.Errorf("%s has no source of suite %s with component main", etc, suite),
			Hint: "name a mirror: --mirror http://HOST/debian",
		}
	}
	return found, nil
}

// mirrorSources are the suites of a release as mirrors lay them out; the
// security suite is beside the main one on every mirror that carries it.
func mirrorSources(mirror, suite string) []source {
	return []source{
		{URI: mirror, Suite: suite, Components: []string{"main"}, SignedBy: archiveKeyring},
		{URI: mirror, Suite: suite + "-updates", Components: []string{"main"}, SignedBy: archiveKeyring},
	}
}

// otherRelease is the main source of another release, on the mirror of the
// first of the given sources that is a main suite.
func otherRelease(have []source, suite string) (source, error) {
	for _, s := range have {
		if s.Suite == releaseOf(s.Suite) {
			return source{URI: s.URI, Suite: suite, Components: []string{"main"}, SignedBy: s.SignedBy}, nil
		}
	}
	return source{}, &fleet.Error{
		Kind: fleet.NotFound, Op: "find a mirror for", On: suite,
		Hint: "name a mirror: --mirror http://HOST/debian",
	}
}

// releaseOf is the release that a suite belongs to: bookworm for
// bookworm-security. Backports and proposed updates are not part of it.
func releaseOf(suite string) string {
	for _, suffix := range []string{"-updates", "-security"} {
		if rest, ok := strings.CutSuffix(suite, suffix); ok {
			return rest
		}
	}
	return suite
}

// readSources reads sources.list and sources.list.d below etc.
func readSources(etc string) ([]source, error) {
	names := []string{filepath.Join(etc, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		more, err := filepath.Glob(filepath.Join(etc, "sources.list.d", pattern))
		if err != nil {
			return nil, fmt.Errorf("look for apt sources: %w", err)
		}
		names = append(names, more...)
	}
	var all []source
	for _, name := range names {
		text, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read apt sources: %w", err)
		}
		if strings.HasSuffix(name, ".sources") {
			all = append(all, parseDeb822(string(text))...)
			continue
		}
		all = append(all, parseOneLine(string(text))...)
	}
	return all, nil
}

// parseOneLine reads the old format, sources.list(5). Lines that we cannot use
// (deb-src, cdrom, flat repositories) are passed over, as they may be apt's.
func parseOneLine(text string) []source {
	var found []source
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		rest = strings.TrimSpace(rest)
		signedBy := ""
		if strings.HasPrefix(rest, "[") {
			options, after, ok := strings.Cut(rest[1:], "]")
			if !ok {
				continue
			}
			for option := range strings.FieldsSeq(options) {
				if v, ok := strings.CutPrefix(option, "signed-by="); ok {
					signedBy = strings.Trim(v, `"`)
				}
			}
			rest = after
		}
		f := strings.Fields(rest)
		if len(f) < 3 || !usableURI(f[0]) {
			continue
		}
		found = append(found, source{URI: f[0], Suite: f[1], Components: f[2:], SignedBy: keyringFile(signedBy)})
	}
	return found
}

// parseDeb822 reads the new format: stanzas of fields, a continued line starts
// with a space, a comment with "#" in the first column.
func parseDeb822(text string) []source {
	var found []source
	fields := map[string]string{}
	last := ""
	flush := func() {
		found = append(found, stanzaSources(fields)...)
		fields, last = map[string]string{}, ""
	}
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.TrimSpace(line) == "":
			flush()
		case strings.HasPrefix(line, "#"):
		case line[0] == ' ' || line[0] == '\t':
			fields[last] += "\n" + strings.TrimSpace(line)
		default:
			key, value, _ := strings.Cut(line, ":")
			last = strings.ToLower(strings.TrimSpace(key))
			fields[last] = strings.TrimSpace(value)
		}
	}
	flush()
	return found
}

func stanzaSources(fields map[string]string) []source {
	if !slices.Contains(strings.Fields(fields["types"]), "deb") || strings.EqualFold(fields["enabled"], "no") {
		return nil
	}
	var found []source
	for uri := range strings.FieldsSeq(fields["uris"]) {
		if !usableURI(uri) {
			continue
		}
		for suite := range strings.FieldsSeq(fields["suites"]) {
			found = append(found, source{
				URI: uri, Suite: suite,
				Components: strings.Fields(fields["components"]),
				SignedBy:   keyringFile(fields["signed-by"]),
			})
		}
	}
	return found
}

// keyringFile drops a key given inline or by fingerprint: such sources fall
// back on Debian's own keyring.
func keyringFile(signedBy string) string {
	if !filepath.IsAbs(signedBy) || strings.ContainsAny(signedBy, " \t\n,\"") {
		return ""
	}
	return signedBy
}

func usableURI(uri string) bool {
	if strings.ContainsAny(uri, "\"[] \t") {
		return false
	}
	scheme, _, ok := strings.Cut(uri, ":")
	return ok && slices.Contains([]string{"http", "https", "file", "copy", "mirror", "mirror+file", "mirror+http", "mirror+https"}, scheme)
}
