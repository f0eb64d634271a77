package fleet

import (
	"slices"
	"strings"
)

// A Diagnosis is a kind of trouble that we know: what it is, and what to do.
// The table of them is what the console, `provision doctor`, error codes and
// docs/diagnoses.md show.
type Diagnosis struct {
	Code  string // stable: "E-DHCP-ROGUE"
	Title string // what is the matter, a clause: "another DHCP server answers"
	Fix   string // what to do, one sentence in the imperative; {on} stands for what the alarm is about
}

// CodeConsoleSpeed is of consoles whose two ends do not agree.
const CodeConsoleSpeed = "E-SOL-BAUD"

// Codes of diagnoses of the network.
const (
	CodeRogueDHCP     = "E-DHCP-ROGUE"
	CodeRogueProxy    = "E-DHCP-ROGUE-PROXY"
	CodeRogueRouter   = "E-RA-ROGUE"
	CodeArmBlind      = "E-DHCP-ARM-BLIND"
	CodePoolForecast  = "E-DHCP-POOL-LOW"
	CodePoolExhausted = "E-DHCP-POOL-EXHAUSTED"
	CodeUnknownRelay  = "E-DHCP-RELAY-UNKNOWN"
	CodeRelaySilent   = "E-RELAY-AWAY"
	CodeRelayNoIPv6   = "E-RELAY-NO-IPV6"
	CodeRelayDisk     = "E-RELAY-DISK"
	CodeUnknownShare  = "E-DHCP-UNKNOWN-SHARE"
	CodeReservedHeld  = "E-DHCP-RESERVED-HELD"
	CodeConflict      = "E-DHCP-ADDRESS-CONFLICT"
	CodeDeclines      = "E-DHCP-DECLINES"
	CodeNoIPv6        = "E-DHCP-NO-IPV6"
	CodeLeasesUnsaved = "E-DHCP-LEASES-UNSAVED"
	CodeLeaseTwice    = "E-DHCP-LEASE-TWICE"
	CodeNoLoader      = "E-BOOT-NO-LOADER"
	CodeBootFile      = "E-BOOT-FILE"
	CodeNoBootHTTPS   = "E-BOOT-NO-HTTPS"
	CodeTFTPUnheard   = "E-TFTP-UNHEARD"
	CodeTFTPStranger  = "E-TFTP-STRANGER"
)

// Codes of diagnoses of BMCs and of what is kept secret.
const (
	CodeBMCEnrol      = "E-BMC-ENROL"
	CodeBMCNoAddress  = "E-BMC-NO-ADDRESS"
	CodeBMCPassword   = "E-BMC-PASSWORD"
	CodeBMCShape      = "E-BMC-SHAPE"
	CodeBMCStranger   = "E-BMC-STRANGER"
	CodeBMCCipherZero = "E-BMC-CIPHER-ZERO"
	CodeBMCAnonymous  = "E-BMC-ANONYMOUS"
	CodeBMCFactory    = "E-BMC-FACTORY"
	CodeSealKey       = "E-SEAL-KEY"
)

var diagnoses = []Diagnosis{
	{CodeRogueDHCP, "another DHCP server answers", "turn that server off, or stand beside it with mode: proxy (IPv4 only), or add it to known_dhcp in site.yaml: {on}"},
	{CodeRogueProxy, "another proxyDHCP server gives boot information", "turn its boot service off, or add it to the subnet's known_dhcp in site.yaml: {on}"},
	{CodeRogueRouter, "another router's advertisements are against what this server serves", "have that router say what site.yaml says (M flag on, this subnet's prefix, the router of site.yaml) or nothing at all, or add it to known_dhcp in site.yaml: {on}"},
	{CodeArmBlind, "whether another DHCP server answers cannot be seen", "give the server CAP_NET_RAW, as its systemd unit does: {on}"},
	{CodePoolForecast, "more than 80 % of the addresses are in use", "add a range to the subnet in site.yaml: {on}"},
	{CodePoolExhausted, "no address is free", "add a range to the subnet in site.yaml, or make its lease time shorter: {on}"},
	{CodeUnknownRelay, "a relay forwards requests from a network that is not declared", "declare a subnet that contains the relay's address in site.yaml, or take the helper address off that router: {on}"},
	{CodeRelaySilent, "a relay of ours is not heard", "see that provision relay runs there and reaches the https port of this server, or take it off the list: provision relays remove NAME; known nodes there go on meanwhile, all others wait: {on}"},
	{CodeRelayNoIPv6, "a relay of ours does not serve all of IPv6 on its networks", "mend on that machine what the detail names: stop the program that has UDP port 547, let its kernel have IPv6, take an address away that another machine has too, or name the server's address with --dhcp6-server where its name has none of IPv6: {on}"},
	{CodeRelayDisk, "a relay of ours cannot write to its disk", "make room in its state folder, or mend that disk: it goes on with what it knows, serves from memory and cache what is there, and forgets the rest when it is restarted: {on}"},
	{CodeUnknownShare, "machines that nobody has approved use up their share of the addresses", "approve the machines that are yours, or raise unknown_share of the subnet in site.yaml; if you know none of them, somebody makes up MAC addresses: {on}"},
	{CodeReservedHeld, "an address that is reserved is in another's hands", "take it off the machine that has it, or change the reservation in site.yaml: {on}"},
	{CodeConflict, "a machine without a lease uses an address of the ranges", "give that machine another address, or add this one to exclude: of the subnet in site.yaml: {on}"},
	{CodeDeclines, "many addresses are found in use by others", "find the machines with addresses of their own and put those addresses under exclude: in site.yaml, or look for somebody who declines what he is given: {on}"},
	{CodeNoIPv6, "an IPv6 subnet is declared and cannot be served", "stop the program that has UDP port 547, or let the kernel have IPv6 (no ipv6.disable=1): {on}"},
	{CodeLeasesUnsaved, "leases cannot be stored, so that no new ones are given", "mend what the detail names; when the disk is full, make room in the state folder: {on}"},
	{CodeLeaseTwice, "an address was given to a second machine while the first one held it; the first lease stands", "see that no other server uses this database, let the second machine ask anew (provision power cycle), and report it with the server's log: {on}"},
	{CodeTFTPUnheard, "machines ask for boot files by TFTP, and again and again no packet of an answer is ever acknowledged", "let UDP from this server's high ports pass the firewall between it and the machines; only where that cannot be had, set tftp.single_port: true in provision.yaml, which is slower and lets anyone have this server flood a machine in whose name he asks: {on}"},
	{CodeTFTPStranger, "a machine asks for boot files by TFTP again and again, and hears nothing: nobody here has given it its address", "reserve its address in site.yaml, or name the DHCP server that gave it in known_dhcp of the subnet, or declare the subnet (mode: proxy or observe where another server gives all addresses); if no machine of yours has that address, somebody sends in its name: {on}"},
	{CodeNoLoader, "a loader is missing", "fetch it: provision images build loaders (for 32-bit UEFI there is none: set such a machine to BIOS): {on}"},
	{CodeBootFile, "a file that machines are told to load is missing", "put it into the folder that the detail names (kernel and ramdisk come from provision images build debian-12), or take it out of site.yaml: {on}"},
	{CodeBMCEnrol, "no account of ours could be made on a BMC; what it had before stands", "see what the detail names, then boot the machine from the network once more; or give its rule an account in site.yaml, bmc: {username, password_file}, or bmc: {enrol: false} to leave the BMC alone: {on}"},
	{CodeBMCNoAddress, "a BMC has no LAN address", "plug in its network port and let it ask for an address by DHCP, or set one in its setup, then boot the machine from the network once more: {on}"},
	{CodeBMCPassword, "it is not known which of two passwords a BMC has; both are kept", "see that the BMC answers, then: provision bmc rotate NODE; if it takes neither, reset its account by hand and boot the machine from the network: {on}"},
	{CodeBMCShape, "the BMC takes no password of ours", "relax the rules for passwords in the settings of the BMC of {on}, or give its rule an account in site.yaml: bmc: {username, password_file}"},
	{CodeBMCStranger, "a BMC got an address and none of our accounts lets us in, or nobody knows its machine", "add what it came with to bmc_accounts in site.yaml, or boot its machine from the network once: {on}"},
	{CodeBMCCipherZero, "a BMC accepts cipher suite 0: whoever knows a user name is let in without a password", "switch cipher suite 0 off in the BMC's settings (ipmitool lan set 1 cipher_privs), and keep its network to this server: {on}"},
	{CodeBMCAnonymous, "a BMC lets in users without a name", "disable user 1, the one without a name, in the BMC's settings: {on}"},
	{CodeBMCFactory, "a BMC still takes a password that it came with", "change or disable that account in the BMC's settings: {on}"},
	{CodeSealKey, "secrets are sealed with a key that is missing", "put the key back that the detail names, or set those secrets again: {on}"},
	{CodeNoBootHTTPS, "boot_url: https is declared and cannot be given, so that machines get plain HTTP", "set listen.boot_https in provision.yaml and restart the server, or, behind a relay, write boot_url: http: {on}"},
	{CodeConsoleSpeed, "a serial console shows garbage: the machine writes at another speed than its BMC reads", "set the same speed in the machine's firmware, its kernel's console= argument and the BMC's serial-over-LAN settings, 115200 if in doubt: {on}"},
}

// Diagnoses returns the table, in a fixed order.
func Diagnoses() []Diagnosis { return slices.Concat(diagnoses, bmcDiagnoses) }

// Diagnose returns the diagnosis with this code. One that nobody knows has
// the code as its title and no fix.
func Diagnose(code string) Diagnosis {
	for _, d := range Diagnoses() {
		if d.Code == code {
			return d
		}
	}
	return Diagnosis{Code: code, Title: code}
}

// FixFor returns the fix with what it is about filled in.
func (d Diagnosis) FixFor(on string) string { return strings.ReplaceAll(d.Fix, "{on}", on) }
