package archtest_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rackstage/provision/internal/archtest"
)

// house is a small one in which everything is in order.
func house() map[string]string {
	return map[string]string{
		"fleet/node.go":         `import "strings"`,
		"fleet/node_test.go":    `import "example.com/house/store"; import "example.org/cmp"`,
		"store/open.go":         `import "example.com/house/fleet"; import "example.org/gorm/clause"`,
		"store/open_test.go":    `import "example.com/house/store"; import "example.com/house/store/storetest"`,
		"store/storetest/st.go": `import "example.com/house/store"; import "example.org/cmp/opts"`,
		"cmd/house/main.go":     `import "example.com/house/store"`,
		"cmd/house/e2e_test.go": `import "example.com/house/fleet"`,
		"deps/deps.go":          `import _ "example.org/unknown"`,
	}
}

var houseRules = archtest.Rules{
	Module: "example.com/house",
	Allowed: map[string][]string{
		"fleet": {}, "store": {"fleet"}, "store/storetest": {"store"}, "cmd/house": {"..."}, "deps": {},
	},
	Leaves:      []string{"cmd/...", "deps"},
	Holds:       "deps",
	TestSupport: []string{"store/storetest"},
	StdOnly:     []string{"fleet"},
	OnlyIn:      map[string][]string{"example.org/gorm": {"store"}, "example.org/gorm/tools": {"cmd/..."}, "example.org/anywhere": {"..."}},
	OnlyInTests: []string{"example.org/cmp"},
}

func TestCheck(t *testing.T) {
	tests := map[string]struct {
		file, imports string
		want          string // start of the one complaint; "" for none
	}{
		"a house in order":                        {"fleet/a.go", `import "fmt"`, ""},
		"an arrow that points up":                 {"fleet/a.go", `import "example.com/house/store"`, "fleet/a.go imports example.com/house/store: not in the table"},
		"a line that is missing in the table":     {"store/a.go", `import "example.com/house/store/sub"`, "store/a.go imports example.com/house/store/sub: not in the table"},
		"a new package":                           {"image/a.go", `import "fmt"`, "image: a new package"},
		"a new package with tests only":           {"image/a_test.go", `import "fmt"`, "image: a new package"},
		"a main package that is imported":         {"store/a.go", `import "example.com/house/cmd/house"`, "store/a.go imports example.com/house/cmd/house: nobody may"},
		"a main package that a test imports":      {"store/a_test.go", `import "example.com/house/cmd/house"`, "store/a_test.go imports example.com/house/cmd/house: nobody may"},
		"a main package that another imports":     {"cmd/house/a.go", `import "example.com/house/deps"`, "cmd/house/a.go imports example.com/house/deps: nobody may"},
		"test support outside of tests":           {"cmd/house/a.go", `import "example.com/house/store/storetest"`, "cmd/house/a.go imports example.com/house/store/storetest: it is for tests"},
		"a library away from home":                {"cmd/house/a.go", `import "example.org/gorm"`, "cmd/house/a.go imports example.org/gorm: example.org/gorm is only in store"},
		"a library away from home in a test":      {"cmd/house/a_test.go", `import "example.org/gorm/clause"`, "cmd/house/a_test.go imports example.org/gorm/clause: example.org/gorm is only in store"},
		"a library in a package of the bottom":    {"fleet/a.go", `import "example.org/anywhere"`, "fleet/a.go imports example.org/anywhere: this package imports the standard library only"},
		"a library in a test of the bottom":       {"fleet/a_test.go", `import "example.org/anywhere"`, ""},
		"a part of a library with its own home":   {"cmd/house/a.go", `import "example.org/gorm/tools/x"`, ""},
		"a part of a library that has moved":      {"store/a.go", `import "example.org/gorm/tools"`, "store/a.go imports example.org/gorm/tools: example.org/gorm/tools is only in cmd/..."},
		"a library whose name only starts so":     {"store/a.go", `import "example.org/gormless"`, "store/a.go imports example.org/gormless: a new library"},
		"a new library":                           {"store/a.go", `import "example.org/new"`, "store/a.go imports example.org/new: a new library"},
		"a library for tests":                     {"store/a.go", `import "example.org/cmp"`, "store/a.go imports example.org/cmp: it is for tests"},
		"an import by another name":               {"fleet/a.go", `import s "example.com/house/store"`, "fleet/a.go imports example.com/house/store"},
		"an import for its effects":               {"fleet/a.go", `import _ "example.com/house/store"`, "fleet/a.go imports example.com/house/store"},
		"an import in raw quotes":                 {"fleet/a.go", "import `example.com/house/store`", "fleet/a.go imports example.com/house/store"},
		"an import that is built elsewhere":       {"fleet/a_windows.go", `import "example.com/house/store"`, "fleet/a_windows.go imports example.com/house/store"},
		"a package whose name only starts so":     {"store/a.go", `import "example.com/house/fleetwood"`, "store/a.go imports example.com/house/fleetwood: not in the table"},
		"a comment that looks like an import":     {"fleet/a.go", `// import "example.com/house/store"`, ""},
		"what the go command leaves out":          {"fleet/testdata/a.go", `import "example.com/house/store"`, ""},
		"what the go command leaves out as well":  {"_old/a.go", `import "example.com/house/store"`, ""},
		"code in C":                               {"store/a.go", `import "C"`, "store/a.go imports C: nobody may"},
		"the house itself":                        {"store/a.go", `import "example.com/house"`, "store/a.go imports example.com/house: nobody may"},
		"a package that tests its own outer side": {"fleet/a_test.go", `import "example.com/house/fleet"`, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			files := house()
			files[tt.file] = tt.imports
			got := check(t, files, houseRules)
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %q, want no complaint", got)
			case tt.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], tt.want)):
				t.Errorf("got %q, want one that starts with %q", got, tt.want)
			}
		})
	}
}

func TestBuildTagsHideNothing(t *testing.T) {
	tree := fstest.MapFS{"fleet/a.go": {Data: []byte("//go:build never\n\npackage fleet\n\nimport \"example.com/house/store\"\n")}}
	got, err := archtest.Check(tree, archtest.Rules{Module: "example.com/house", Allowed: map[string][]string{"fleet": {}}})
	if err != nil || len(got) != 1 {
		t.Errorf("got %q, %v, want one complaint", got, err)
	}
}

func TestAModuleWithinTheModuleIsItsOwnAffair(t *testing.T) {
	files := house()
	files["tools/go.mod"] = ""
	files["tools/a.go"] = `import "example.org/new"`
	if got := check(t, files, houseRules); len(got) > 0 {
		t.Errorf("got %q, want no complaint", got)
	}
}

func TestALineForAPackageThatIsGoneIsFound(t *testing.T) {
	files := house()
	delete(files, "deps/deps.go")
	want := []string{"deps: is in the rules of internal/archtest, but not in the tree"}
	if got := check(t, files, houseRules); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAFileThatCannotBeReadIsAnError(t *testing.T) {
	tree := fstest.MapFS{"fleet/a.go": {Data: []byte("package fleet\nimport fmt")}}
	if got, err := archtest.Check(tree, houseRules); err == nil {
		t.Errorf("got %q, want an error", got)
	}
}

func check(t *testing.T, files map[string]string, r archtest.Rules) []string {
	t.Helper()
	tree := fstest.MapFS{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := "package p\n" + files[name] + "\n"
		if strings.HasSuffix(name, "go.mod") {
			text = files[name]
		}
		tree[name] = &fstest.MapFile{Data: []byte(text)}
	}
	got, err := archtest.Check(tree, r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
