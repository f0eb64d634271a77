package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc/bmctest"
	"github.com/rackstage/provision/internal/browser"
)

const pageSite = `
stages: [{name: dev}]
profiles: [{name: docker, image: debian-12}]
pools: [{name: dev, stage: dev, profile: docker}]
rules:
  - {name: alive, match: {mac: "52:54:00"}, pool: dev, approve: true, bmc: {driver: ipmi, cipher_suite: 3, username: admin, password_file: DIR/bmc, address: 127.0.0.1, ipmi_port: PORT}}
  - {name: dead, match: {mac: "52:54:01"}, pool: dev, approve: true, bmc: {driver: ipmi, cipher_suite: 3, username: admin, password_file: DIR/bmc, address: 127.0.0.1, ipmi_port: DEAD}}
`

// What a machine writes while it boots, and then it asks for a name.
const bootText = "\x1b[2J\x1b[H[    0.000000] Linux version 6.1.0-31-amd64 (Debian 6.1.128-1)\r\n" +
	"[    1.204711] ixgbe 0000:03:00.0 eno1: NIC Link is Up 10 Gbps\r\n" +
	"[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mmulti-user.target\x1b[0m - Multi-User System.\r\n" +
	"[\x1b[0;1;31mFAILED\x1b[0m] Failed to start \x1b[0;1;39msmartd.service\x1b[0m.\r\n\r\nDebian GNU/Linux 12 dev-1 ttyS1\r\n\r\ndev-1 login: "

// A person opens the console page of a machine in a browser: what the machine
// writes to its serial port is seen there, and what is typed there gets to the
// serial port; all by way of the real server and a BMC's SOL.
func TestTheConsolePageCarriesAMachinesSerialPort(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser takes 20 s: make test runs it")
	}
	serial := bmctest.OpenSerialPort(t)
	bmc := bmctest.StartIPMI(t, bmctest.IPMIOptions{On: true, Serial: serial})
	s := newServer(t, strings.NewReplacer("PORT", bmc.Port(), "DEAD", bmctest.FreePort(t)).Replace(pageSite), "demo_login: true\n",
		map[string]string{"bmc": bmctest.Password, "person": lifePassword + "\n"})
	s.addUser(t, "ada", "operator", "person")
	s.start(t)
	alive, dead := s.meet(t, lifeMAC, "C0FFEE", "ipmi").id, s.meet(t, "52:54:01:00:00:02", "C0FFEF", "ipmi").id
	p := &pictures{Page: browser.Start(t).Page(), dir: t.ArtifactDir()}
	p.See(1280, 800, false)

	s.logIn(p.Page, "demo", "demo")
	p.Await(`document.body.innerText.includes("Demo account") && document.querySelectorAll("#rows tr").length == 2`)
	p.take(t, "nodes")
	p.Open(s.page(alive))
	if text := p.Text("body"); !strings.Contains(text, "operator") {
		t.Errorf("who may only look is not told which role it takes:\n%s", text)
	}
	p.take(t, "denied")
	s.logIn(p.Page, "ada", lifePassword)

	if _, err := s.client.Examine(t.Context(), alive); err != nil {
		t.Fatal(err)
	}
	p.Open("https://" + s.https + "/?node=" + alive)
	p.Await(`document.querySelector("#panel .health")`)
	p.take(t, "node")
	p.Open(s.page(alive))
	p.Await(`document.getElementById("serial-state").classList.contains("on")`)
	until(t, 30*time.Second, "the BMC reads the serial port", func(context.Context) (bool, error) { return serial.Print(bootText), nil })
	p.Await(`document.querySelector(".xterm-rows").textContent.includes("dev-1 login:")`)
	p.Click("#keyboard")
	p.Await(`document.getElementById("serial-state").textContent == "typing: ada"`)
	p.Type("root ~&<>$\r")
	until(t, 30*time.Second, "the machine has the line", func(context.Context) (bool, error) {
		if got := serial.Typed(); got != "root ~&<>$\r" {
			return false, fmt.Errorf("it has %q", got)
		}
		return true, nil
	})
	serial.Print("root\r\nPassword: ")
	p.Await(`document.querySelector(".xterm-rows").textContent.includes("Password:")`)
	p.take(t, "console")

	p.Open(s.page(dead))
	p.Await(`document.getElementById("serial-note").textContent.includes("E-BMC-")`)
	if state := p.Text("#serial-state"); state != "not connected" {
		t.Errorf("the console of a dead BMC is %q, want it not connected", state)
	}
	p.take(t, "dead")
	if faults := p.Faults(); len(faults) != 1 || !strings.Contains(faults[0], "403") {
		t.Errorf("faults of the pages are %q, want only the refusal", faults)
	}
}

func (s *ownServer) page(node string) string {
	return "https://" + s.https + "/nodes/" + node + "/console"
}

// logIn signs a person in, in place of whoever was signed in before.
func (s *ownServer) logIn(p *browser.Page, name, password string) {
	p.Open("https://" + s.https + "/login")
	p.Click("#user")
	p.Type(name)
	p.Click("#password")
	p.Type(password + "\r")
	p.Await(`location.pathname == "/"`)
}

// pictures keep what pages look like: go test -artifacts says where.
type pictures struct {
	*browser.Page
	dir string
}

// take takes a page's picture as it is on wide and narrow screens, light and dark.
func (p *pictures) take(t *testing.T, name string) {
	t.Helper()
	for suffix, width := range map[string]int{"wide": 1280, "narrow": 390} {
		for scheme, dark := range map[string]bool{"light": false, "dark": true} {
			p.See(width, 800, dark)
			file := filepath.Join(p.dir, fmt.Sprintf("%s-%s-%s.png", name, suffix, scheme))
			if err := os.WriteFile(file, p.Picture(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.See(1280, 800, false)
}
