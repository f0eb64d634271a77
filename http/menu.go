package http

import (
	"fmt"

	"github.com/rackstage/provision/fleet"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe"
)

// memTests are the files of Debian's memtest86+ package for each firmware.
func memTests(a pxe.Arch) string {
	switch a {
	case pxe.BIOS:
		return "memtest86+x64.bin"
	case pxe.EFIX64:
		return "memtest86+x64.efi"
	default:
		return ""
	}
}

// memTest returns the URL of the memory test for a machine, "" when there is
// none for it.
func (b boot) memTest(ask pxe.Request) string {
	name := memTests(ask.Arch)
	if name == "" {
		return ""
	}
	if info, err := b.bootDir.Stat(name); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return ask.BaseURL() + pxe.PathFiles + name
}

// menuFor says what a machine's menu shows and offers.
func (b boot) menuFor(v *visit) ipxescripts.Menu {
	local := v.plan.File == pxe.ScriptLocal
	m := ipxescripts.Menu{
		Title: v.title, MAC: string(v.ask.MAC), Pool: string(v.node.Pool), State: string(v.node.State),
		Status: b.status(v.node), Next: "Go on: boot the agent", URL: v.front.menu + dashed(v.ask.MAC), MemTest: b.memTest(v.ask),
		Enrol: v.plan.File == pxe.ScriptAgent, Rescue: b.offersRescue(v), Shell: v.site.IPXEShell,
	}
	switch script, ok := v.script(); {
	case v.plan.File == pxe.ScriptRescue:
		m.Next = "Go on: boot the rescue system"
	case local:
		m.Next = "Go on: boot the system on its disk"
	case ok:
		m.Next = "Go on: script " + script.Name
	}
	if m.Pool == "" {
		m.Pool = "-"
	}
	if m.State == "" {
		m.State = "unknown to the server"
	}
	return m
}

// status is one line about what the server does with a node now.
func (b boot) status(n fleet.Node) string {
	switch {
	case n.Failure.Code != "":
		return fmt.Sprintf("stopped in %s: %s", n.Phase, n.Failure.Code)
	case n.State == fleet.Rescue:
		return fmt.Sprintf("in the rescue system since %s UTC, was %s", n.Rescue.Since.UTC().Format("2006-01-02 15:04"), n.Rescue.From)
	case n.Run != "" && n.Progress > 0:
		return fmt.Sprintf("run %s: %s, %d %%", n.Run, n.Phase, n.Progress)
	case n.Run != "":
		return fmt.Sprintf("run %s: %s", n.Run, n.Phase)
	case n.State == "":
		return "It becomes known when its agent has said hello"
	case !n.Approved:
		return "It waits for approval"
	default:
		return "No run works on it"
	}
}
