package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// configured loads a configuration from a file's text, variables and flags.
func configured(t *testing.T, text string, env map[string]string, args ...string) (config, error) {
	t.Helper()
	a := &app{getenv: func(k string) string { return env[k] }}
	a.global.config = filepath.Join(t.TempDir(), "provision.yaml")
	if err := os.WriteFile(a.global.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	addSettings(flags, serverSettings()...)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return a.loadConfig(flags)
}

func TestFlagBeatsVariableBeatsFileBeatsDefault(t *testing.T) {
	file := "state_dir: /file\nlog_level: warn\nlisten: {dhcp: [eth1], https: ':1'}\n"
	env := map[string]string{"PROVISION_STATE_DIR": "/env", "PROVISION_LISTEN_HTTPS": ":2", "PROVISION_DEMO_LOGIN": "true", "PROVISION_SERVER": "pxe.example"}
	got, err := configured(t, file, env, "--state-dir", "/flag", "--listen-dhcp", "eth2,eth3")
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.StateDir = "/flag"                     // flag over variable and file
	want.Listen.DHCP = []string{"eth2", "eth3"} // flag over file
	want.Listen.HTTPS = ":2"                    // variable over file
	want.DemoLogin = true                       // variable over default
	want.LogLevel = "warn"                      // file over default
	want.Client.Server = "pxe.example"          // variable
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestEverySettingHasItsOwnKeyInTheFile(t *testing.T) {
	for _, s := range settings {
		var c config
		want, ok := map[string]string{"bool": "true", "duration": "2s", "int": "7"}[s.value(&c).Type()]
		if !ok {
			want = "/x"
		}
		if err := s.value(&c).Set(want); err != nil {
			t.Fatal(err)
		}
		text, outer, inner := "", s.key, ""
		if before, after, ok := strings.Cut(s.key, "."); ok {
			outer, inner = before, after+": "
		}
		value := want
		if s.value(&c).Type() == "list" {
			value = "[" + want + "]"
		}
		text = outer + ": " + value
		if inner != "" {
			text = outer + ": {" + inner + value + "}"
		}
		var read config
		if _, err := readDocument("f", []byte(text), &read); err != nil {
			t.Errorf("%s: %v", s.key, err)
		}
		if diff := cmp.Diff(c, read); diff != "" {
			t.Errorf("%s (-setting +file):\n%s", s.key, diff)
		}
	}
}

func TestConfigSaysWhatIsWrongAndWhereItCameFrom(t *testing.T) {
	tests := map[string]struct {
		file string
		env  map[string]string
		args []string
		want []string
	}{
		"an unknown key": {
			file: "state_dir: /x\nlisten:\n  htp: ':80'\n",
			want: []string{":3:3: unknown key \"htp\"", ">    3 |   htp: ':80'\n       |   ^", `did you mean "http"?`},
		},
		"a value of the wrong kind": {
			file: "demo_login: maybe\n",
			want: []string{`:1:13: "maybe" is not true or false`},
		},
		"a console for everybody, in the file": {
			file: "listen:\n  console: 0.0.0.0:8080\n",
			want: []string{":2:12: the plain console may listen on a loopback address only", "127.0.0.1:PORT"},
		},
		"a console for everybody, by a flag": {
			args: []string{"--listen-console", "0.0.0.0:8080"},
			want: []string{"--listen-console: the plain console may listen on a loopback address only"},
		},
		"a relative folder in a variable": {
			env:  map[string]string{"PROVISION_STATE_DIR": "state"},
			want: []string{`PROVISION_STATE_DIR: "state" is not an absolute path`},
		},
		"two faults": {
			file: "log_level: loud\nadvertise: {address: here}\n",
			want: []string{`"here" is not an IP address`, `unknown level "loud"`},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := configured(t, tt.file, tt.env, tt.args...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if got := exitCode(err); got != exitUsage {
				t.Errorf("exit code %d, want %d", got, exitUsage)
			}
		})
	}
}

func TestAFileInTheCurrentFolderSetsTheClientOnly(t *testing.T) {
	t.Chdir(t.TempDir())
	text := "state_dir: /somebody/elses\nclient: {server: pxe.example}\n"
	if err := os.WriteFile("provision.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{getenv: func(string) string { return "" }}
	got, err := a.loadConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.StateDir != defaultConfig().StateDir || got.Client.Server != "pxe.example" {
		t.Errorf("state_dir %q, server %q; want the default and pxe.example", got.StateDir, got.Client.Server)
	}
}
