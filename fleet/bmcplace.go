package fleet

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// The ports at which BMCs listen.
const (
	BMCPortIPMI  = 623
	BMCPortHTTPS = 443
)

// Place says which BMC it is, however its address is written: with or without the
// usual ports, an IPv6 address with or without brackets. It is for comparing. A name
// and its address are two: names are not looked up for it.
func (b BMC) Place() string {
	host, port := b.Address, 0
	if h, p, err := net.SplitHostPort(b.Address); err == nil {
		n, _ := strconv.ParseUint(p, 10, 16)
		host, port = h, int(n)
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	if port == BMCPortIPMI || port == BMCPortHTTPS {
		port = 0
	}
	return fmt.Sprintf("%s %d %d", host, unusual(cmp.Or(b.Ports.IPMI, port), BMCPortIPMI), unusual(cmp.Or(b.Ports.HTTPS, port), BMCPortHTTPS))
}

func unusual(port, usual int) int {
	if port == usual {
		return 0
	}
	return port
}
