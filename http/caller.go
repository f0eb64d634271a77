package http

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"syscall"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/fleet"
)

// A door is the listener that a request came in by.
type door string

const (
	doorTLS   door = "tls"   // agents, API and console
	doorPlain door = "plain" // API and console, on a loopback address only
	doorLocal door = "local" // API on the Unix socket
	doorBoot  door = "boot"  // boot files and scripts; no API
)

// A caller is who made a request, once it is known.
type caller struct {
	addr     netip.Addr
	local    netip.Addr // that the request came in on
	identity access.Identity
	cookie   bool // a browser's: state-changing requests need a matching origin

	node  fleet.NodeID // an agent's
	stage fleet.StageName

	relay fleet.Relay // a relay's
}

type contextKey string

const (
	keyDoor   contextKey = "door"
	keyPeer   contextKey = "peer" // uid of the other end of a Unix socket
	keyCaller contextKey = "caller"
)

func doorOf(ctx context.Context) door { d, _ := ctx.Value(keyDoor).(door); return d }

func callerOf(ctx context.Context) caller { c, _ := ctx.Value(keyCaller).(caller); return c }

// actorOf is the name that events and runs carry.
func actorOf(ctx context.Context) string { return callerOf(ctx).identity.User }

// localUser returns who is on the other end of our Unix socket. Only root
// and the user that the server runs as are let in.
func localUser(ctx context.Context) (access.Identity, error) {
	uid, ok := ctx.Value(keyPeer).(uint32)
	if !ok || (uid != 0 && int(uid) != os.Geteuid()) {
		return access.Identity{}, newProblem(http.StatusForbidden, "E-PEER", "this socket is for root and the server's own user", "use sudo, or sign in over https")
	}
	return access.Identity{User: fmt.Sprintf("local/%d", uid), Role: access.Admin}, nil
}

// peerContext notes the credentials of a Unix socket's other end.
func peerContext(ctx context.Context, conn net.Conn) context.Context {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *syscall.Ucred
	if err := raw.Control(func(fd uintptr) {
		cred, _ = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || cred == nil {
		return ctx
	}
	return context.WithValue(ctx, keyPeer, cred.Uid)
}

// remoteAddr is the address that a request's packets came from. Headers that
// claim another one are not looked at.
func remoteAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// localAddr is the address that a request came in on.
func localAddr(r *http.Request) netip.Addr {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if addr == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
