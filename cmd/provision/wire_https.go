package main

import (
	"crypto/tls"
)

// openBootHTTPS adds the listener that UEFI HTTP boot fetches from with TLS.
func (st *station) openBootHTTPS(d *doors) error {
	addr := st.conf.Listen.BootHTTPS
	if addr == "" {
		return nil
	}
	names, ips, err := st.names()
	if err != nil {
		return err
	}
	secure, err := st.authority.BootTLS(names, ips)
	if err != nil {
		return err
	}
	l, err := listenTCP(addr, "listen.boot_https")
	if err != nil {
		return err
	}
	d.http.Boot = append(d.http.Boot, tls.NewListener(l, secure))
	return nil
}
