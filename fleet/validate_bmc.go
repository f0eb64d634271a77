package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// PDUModels are the kinds of PDU whose outlets can be switched.
func PDUModels() []string { return []string{"apc", "apc-rpdu2", "raritan"} }

const mostOutlets = 8 // of one machine

// validateBMC checks what a rule says about its machines' BMCs.
func validateBMC(on string, a BMCAccess) error {
	var errs []error
	bad := func(key, hint, format string, args ...any) {
		errs = append(errs, Invalidf(on+"."+key, hint, fmt.Errorf(format, args...)))
	}
	if a.Driver != "" && !slices.Contains(BMCDrivers(), a.Driver) {
		bad("driver", didYouMean(string(a.Driver), driverNames()), "unknown driver %q", a.Driver)
	}
	for key, port := range map[string]int{"ipmi_port": a.Ports.IPMI, "https_port": a.Ports.HTTPS} {
		if port < 0 || port > 65535 {
			bad(key, "", "port %d is not a number from 1 to 65535", port)
		}
	}
	if strings.ContainsAny(a.Address, " /\\@\r\n\t") {
		bad("address", "write a host name or an IP address, with :port where it is not the usual one", "address %q", clip(a.Address, 80))
	}
	if (a.Driver == DriverPDU || a.Driver == DriverAMT) && a.PasswordFile == "" {
		bad("password_file", "give the path of a file on the server", "driver %s signs in, and nobody can make an account for us there", a.Driver)
	}
	if a.CA.File != "" && a.Driver != "" && !a.Driver.Web() {
		bad("ca", "take it out, or use driver: redfish", "driver %s shows no certificate", a.Driver)
	}
	switch {
	case a.Boot != BootPXE && a.Boot != BootHTTP && a.Boot != BootMedia:
		bad("boot", "use http or media, or leave it out for PXE", "unknown way to boot %q", clip(string(a.Boot), 80))
	case a.Boot == BootMedia && a.Driver != "" && !a.Driver.ShowsMedia():
		bad("boot", "use driver: redfish, or leave boot: media out", "driver %s cannot show a machine a CD image", a.Driver)
	}
	if a.System != "" && !strings.HasPrefix(a.System, "/redfish/") {
		bad("system", "write its path: /redfish/v1/Systems/1", "system %q", clip(a.System, 80))
	}
	return errors.Join(append(errs, validatePDU(on+".pdu", a))...)
}

func validatePDU(on string, a BMCAccess) error {
	o := a.Outlets
	switch {
	case a.Driver != DriverPDU && (o.Model != "" || len(o.Outlets) > 0):
		return Invalidf(on, "add driver: pdu, or take it out", errors.New("outlets without the driver that switches them"))
	case a.Driver != DriverPDU:
		return nil
	case a.Address == "":
		return Invalidf(on, "add address: of the PDU", errors.New("no PDU"))
	case !slices.Contains(PDUModels(), o.Model):
		return Invalidf(on+".model", "use one of "+strings.Join(PDUModels(), ", "), fmt.Errorf("unknown PDU %q", clip(o.Model, 80)))
	case len(o.Outlets) == 0 || len(o.Outlets) > mostOutlets:
		return Invalidf(on+".outlets", "", fmt.Errorf("%d outlets; a machine has 1 to %d", len(o.Outlets), mostOutlets))
	}
	for _, n := range o.Outlets {
		if n < 1 || n > 255 {
			return Invalidf(on+".outlets", "outlets are counted from 1", fmt.Errorf("no PDU has an outlet %d", n))
		}
	}
	return nil
}

func driverNames() (names []string) {
	for _, d := range BMCDrivers() {
		names = append(names, string(d))
	}
	return names
}
