package porthold

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/rackstage/provision/fleet"
)

// CannotListen says why a port cannot be listened on, to whoever can mend it;
// taken is what to do when another process has the port.
func CannotListen(network string, port int, taken string, err error) error {
	e := &fleet.Error{Kind: fleet.Internal, Op: "listen on", On: fmt.Sprintf("%s %d", strings.ToUpper(network), port), Err: err}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		// The sentence says which port it is.
		e.Kind, e.Code, e.Op, e.On, e.Err, e.Hint = fleet.Conflict, "E-PORT", "", "", Explain(network, port, err), taken
	case errors.Is(err, syscall.EACCES):
		e.Kind, e.Hint = fleet.Denied, "run as root, or give the program CAP_NET_BIND_SERVICE"
	}
	return e
}
