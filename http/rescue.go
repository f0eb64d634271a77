package http

import (
	"context"
	"errors"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	ipxescripts "github.com/rackstage/provision/ipxe-scripts"
	"github.com/rackstage/provision/pxe"
)

// rescueFile is the ramdisk with a shell for an architecture.
func rescueFile(a pxe.Arch) string {
	if a == pxe.EFIARM64 {
		return "rescue-arm64.img"
	}
	return "rescue.img"
}

func (s *Server) hasRescue(a pxe.Arch) bool {
	info, err := s.bootDir.Stat(rescueFile(a))
	return err == nil && info.Mode().IsRegular()
}

// offersRescue reports whether the menu of a machine may lead to the rescue
// system. One that an operator has put there needs no menu for it.
func (b boot) offersRescue(v *visit) bool {
	return b.hasRescue(v.ask.Arch) && (v.plan.File == pxe.ScriptRescue || v.plan.File == pxe.ScriptAgent && v.node.MayRescueItself())
}

// maxKeyArgs bounds the keys on a kernel command line, of which x86 reads 2048
// bytes.
const maxKeyArgs = 1200

// rescueRamdisk is what a machine needs to boot the rescue system. Whoever has
// the shell reads the kernel's command line: nothing on it is secret.
func (b boot) rescueRamdisk(v *visit) (a ipxescripts.Agent, fault string) {
	if !b.hasRescue(v.ask.Arch) {
		return a, "the server has no " + rescueFile(v.ask.Arch) + ": provision images build ramdisk"
	}
	kernel, _ := bootFiles(v.ask.Arch)
	args := []string{strings.Replace(v.front.args[0], api.ArgServer, api.ArgRescue, 1), api.ArgMAC + "=01-" + dashed(v.ask.MAC)}
	room := maxKeyArgs
	for _, key := range keysOf(v.site, v.node) {
		if arg := keyArg(key); arg != "" && len(arg) < room {
			args, room = append(args, arg), room-len(arg)-1
		}
	}
	return ipxescripts.Agent{
		Title: v.title, Server: v.front.name, Kernel: v.front.files + kernel, Initrd: v.front.files + rescueFile(v.ask.Arch), Args: args,
	}, ""
}

// keysOf are the keys of those who may sign in to a node's own system too.
func keysOf(site fleet.Site, n fleet.Node) []string {
	pool, ok := site.Pool(n.Pool)
	if !ok || !n.Approved {
		return nil
	}
	profile, _ := site.Profile(pool.Profile)
	return profile.SSHKey
}

// keyArg writes an authorized key as a kernel argument: "ssh-ed25519 AAAA… anna"
// becomes provision.key=ssh-ed25519:AAAA….
func keyArg(key string) string {
	words := strings.Fields(key)
	if len(words) < 2 || ipxescripts.Escape(words[0]+words[1]) != words[0]+words[1] || strings.Contains(key, "%") {
		return ""
	}
	return api.ArgKey + "=" + words[0] + ":" + words[1]
}

type rescueNode struct {
	Ref  string `path:"ref" maxLength:"128" doc:"id, name or MAC"`
	Body api.RescueRequest
}

func (s *Server) rescueNode(ctx context.Context, in *rescueNode) (*reply[api.Node], error) {
	n, err := s.setRescue(ctx, in.Ref, !in.Body.End, in.Body.Restart)
	if err != nil {
		return nil, err
	}
	return &reply[api.Node]{Body: s.node(n)}, nil
}

func (s *Server) setRescue(ctx context.Context, ref string, begin, restart bool) (fleet.Node, error) {
	if !begin {
		return s.o.Engine.EndRescue(ctx, actorOf(ctx), ref, restart)
	}
	n, err := s.o.Engine.Node(ref)
	if err != nil {
		return n, err
	}
	if file := rescueFile(archOfNode(n)); !s.hasRescue(archOfNode(n)) {
		part := "ramdisk"
		if archOfNode(n) == pxe.EFIARM64 {
			part = "ramdisk-arm64"
		}
		return n, &fleet.Error{
			Kind: fleet.Conflict, Code: "E-RESCUE", Op: "rescue", On: "node " + n.Title(), Err: errors.New(file + " is not in the folder boot"),
			Hint: "build it: provision images build " + part,
		}
	}
	return s.o.Engine.Rescue(ctx, actorOf(ctx), ref, restart)
}

// rescueForm begins or ends the rescue of a node, from a form of the console.
func (s *Server) rescueForm(c echo.Context) error {
	ctx := c.Request().Context()
	if _, err := s.setRescue(ctx, c.FormValue("ref"), c.FormValue("end") == "", true); err != nil {
		return err
	}
	return formDone(c)
}
