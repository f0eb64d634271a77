package archtest_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link    = regexp.MustCompile(`\]\(([^)]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^\w\- ]`) // of a heading, in its anchor
)

// linksOf returns where the links of a page lead, from the top of the tree.
func linksOf(t *testing.T, tree fs.FS, page string) (places []string) {
	t.Helper()
	text, err := fs.ReadFile(tree, page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range link.FindAllStringSubmatch(string(text), -1) {
		switch to, anchor, _ := strings.Cut(m[1], "#"); {
		case strings.Contains(m[1], "://"):
		case to == "":
			places = append(places, page+"#"+anchor)
		default:
			places = append(places, strings.TrimSuffix(path.Join(path.Dir(page), to)+"#"+anchor, "#"))
		}
	}
	return places
}

func TestNoLinkOfTheDocumentationIsDead(t *testing.T) {
	tree := os.DirFS("../..")
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("pages: %q, %v", pages, err)
	}
	for _, page := range append(pages, "../../README.md") {
		page = strings.TrimPrefix(page, "../../")
		for _, place := range linksOf(t, tree, page) {
			file, anchor, _ := strings.Cut(place, "#")
			if _, err := fs.Stat(tree, file); err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if anchor != "" && !hasAnchor(t, tree, file, anchor) {
				t.Errorf("%s: %s has no heading %q", page, file, anchor)
			}
		}
	}
}

func hasAnchor(t *testing.T, tree fs.FS, page, anchor string) bool {
	t.Helper()
	text, err := fs.ReadFile(tree, page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
		if strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}

// Each package, or a folder that it is in, is where a newcomer looks for it.
func TestEveryPackageIsOnTheMap(t *testing.T) {
	mapped := map[string]bool{}
	for _, place := range linksOf(t, os.DirFS("../.."), "README.md") {
		mapped[place] = true
	}
	for pkg := range rules.Allowed {
		on := false
		for dir := pkg; dir != "."; dir = path.Dir(dir) {
			on = on || mapped[dir]
		}
		if !on {
			t.Errorf("README.md's map does not lead to %s", pkg)
		}
	}
}
