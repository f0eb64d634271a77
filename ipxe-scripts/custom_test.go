package ipxescripts

import (
	"errors"
	"strings"
	"testing"
)

func TestACustomScriptIsRefusedWhenItIsRead(t *testing.T) {
	tests := map[string]struct{ source, says string }{
		"an unknown fact":          {"#!ipxe\necho {{.Password}}\n", "Password"},
		"no first line":            {"echo hello\n", "#!ipxe"},
		"an unknown function":      {"#!ipxe\n{{exec \"id\"}}\n", "exec"},
		"a function that prints":   {"#!ipxe\n{{printf \"%1000000000d\" 1}}\n", "known are"},
		"a loop":                   {"#!ipxe\n{{range 1000000000}}x{{end}}\n", "only facts"},
		"another template":         {"#!ipxe\n{{define \"x\"}}x{{end}}\n", "one template"},
		"a variable":               {"#!ipxe\n{{$x := .Pool}}\n{{$x}}\n", "only facts"},
		"a function as a fact":     {"#!ipxe\n{{.Private}}\n", "print"},
		"a call of that":           {"#!ipxe\n{{call .Private \"x\"}}\n", "known are"},
		"an end that is not there": {"#!ipxe\n{{if .Pool}}\n", "EOF"},
		"too much":                 {"#!ipxe\n" + strings.Repeat("#", maxSource), "bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Compile("custom", tt.source)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Compile = %v, want an error about %q", err, tt.says)
			}
		})
	}
}

func TestACustomScriptIsFilledIn(t *testing.T) {
	c, err := Compile("custom", `#!ipxe
echo {{.Name}} in {{.Pool}}: {{.Vendor}}
{{if eq .Pool "prd"}}kernel {{.Files}}vmlinuz ks={{private "prd.cfg"}}{{else}}exit{{end}}
set mac {{hexhyp .MAC}} {{lower .Serial}}{{if hasPrefix .Product "Power"}} dell{{end}}
chain {{.Agent}}
`)
	if err != nil {
		t.Fatal(err)
	}
	f := example()
	f.Vendor, f.Product, f.Serial = "x\n${net0/mac} && {{.Pool}}", "PowerEdge", "ABC"
	f.Private = func(name string) (string, error) { return "http://192.0.2.1/boot/t/one/" + name, nil }
	got, err := c.Render(f)
	want := `#!ipxe
echo prd-01 in prd: x %24%7Bnet0/mac%7D %26%26 %7B%7B.Pool%7D%7D
kernel http://192.0.2.1/boot/vmlinuz ks=http://192.0.2.1/boot/t/one/prd.cfg
set mac 52-54-00-12-34-56 abc dell
chain http://192.0.2.1/boot/ipxe
`
	if err != nil || string(got) != want {
		t.Errorf("Render = %v\n%s\nwant\n%s", err, got, want)
	}
	f.Private = func(string) (string, error) { return "", errors.New("no such file") }
	if _, err := c.Render(f); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("Render without the file = %v", err)
	}
}

func FuzzNoFactBecomesACommandOfACustomScript(f *testing.F) {
	for _, s := range []string{"x\nchain http://evil/", "${net0/mac}", "a && b", "||", ";", "{{.}}", "\u2028", "#!ipxe"} {
		f.Add(s)
	}
	c, err := Compile("custom", "#!ipxe\necho {{.Name}} {{.Vendor}} x\nset serial {{lower .Serial}}\nset mac {{hexhyp .MAC}}\nexit\n")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, fact string) {
		got, err := c.Render(Facts{Name: Fact(fact), Vendor: Fact(fact), Serial: Fact(fact), MAC: Fact(fact)})
		if err != nil {
			t.Fatal(err)
		}
		lines := words(got)
		if len(lines) != 5 || lines[1][0] != "echo" || lines[2][0] != "set" || lines[3][0] != "set" {
			t.Errorf("%q makes\n%s", fact, got)
		}
		if strings.ContainsAny(string(got), "${}&|;") {
			t.Errorf("%q leaves signs of iPXE's in\n%s", fact, got)
		}
	})
}
