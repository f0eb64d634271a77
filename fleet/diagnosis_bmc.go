package fleet

// Codes of diagnoses of BMCs.
const (
	CodeBMCTimeout     = "E-BMC-TIMEOUT"
	CodeBMCHangs       = "E-BMC-HANGS"
	CodeBMCSlow        = "E-BMC-SLOW"
	CodeBMCRoute       = "E-BMC-ROUTE"
	CodeBMCClosed      = "E-BMC-CLOSED"
	CodeBMCLogin       = "E-BMC-LOGIN"
	CodeBMCDenied      = "E-BMC-DENIED"
	CodeBMCMustChange  = "E-BMC-MUST-CHANGE"
	CodeBMCCipher      = "E-BMC-CIPHER"
	CodeBMCSessions    = "E-BMC-SESSIONS"
	CodeBMCBusy        = "E-BMC-BUSY"
	CodeBMCNoEffect    = "E-BMC-NO-EFFECT"
	CodeBMCRejected    = "E-BMC-REJECTED"
	CodeBMCUnsupported = "E-BMC-UNSUPPORTED"
	CodeBMCPin         = "E-BMC-PIN"
	CodeBMCNotProbed   = "E-BMC-NOT-PROBED"
	CodeBMCSeveral     = "E-BMC-SEVERAL"
	CodeBMCNeedsOff    = "E-BMC-NEEDS-OFF"
	CodeBMCHealth      = "E-BMC-HEALTH"
	CodeBMCLog         = "E-BMC-LOG"
	CodeBMCUnread      = "E-BMC-UNREAD"
	CodeBMCBIOS        = "E-BMC-BIOS"
	CodeBMCFirmware    = "E-BMC-FIRMWARE"
	CodeBMCUnclear     = "E-BMC-UPDATE-UNCLEAR"
	CodeNodeServes     = "E-NODE-SERVES"

	CodeMediaNone   = "E-MEDIA-NONE"
	CodeMediaImage  = "E-MEDIA-IMAGE"
	CodeMediaUnread = "E-MEDIA-UNREAD"

	CodePowerManual = "E-POWER-MANUAL"
	CodeWakeSilent  = "E-WAKE-SILENT"

	CodeSOLDisabled = "E-SOL-DISABLED"
	CodeSOLDenied   = "E-SOL-DENIED"
	CodeSOLHeld     = "E-SOL-HELD"
	CodeSOLTaken    = "E-SOL-TAKEN"
	CodeHostKey     = "E-SOL-HOST-KEY"
)

// bmcDiagnoses are about the BMC of a node; {on} is the node.
var bmcDiagnoses = []Diagnosis{
	{CodeBMCTimeout, "the BMC does not answer", "see that the BMC of {on} has power and a cable, and that its address is right"},
	{CodeBMCHangs, "the BMC takes connections and says nothing", "restart the BMC of {on}: pull its power, or press its reset button"},
	{CodeBMCSlow, "the BMC answers, and too slowly to be spoken to", "close what else asks the BMC of {on} (a browser, a monitoring), then restart it; if it stays so, update its firmware, or set driver: ipmi"},
	{CodeBMCRoute, "there is no way to the BMC", "see that this server has an address in the network of the BMC of {on}, or a route to it"},
	{CodeBMCClosed, "nothing listens at the BMC's port", "switch on IPMI over LAN, or Redfish, in the settings of the BMC of {on}"},
	{CodeBMCLogin, "the BMC does not know our account", "correct user name or password of the BMC of {on}"},
	{CodeBMCDenied, "the BMC's account may not do that", "give the BMC's user of {on} the privilege OPERATOR on the LAN channel"},
	{CodeBMCMustChange, "the BMC does nothing before its user's password is changed", "have it changed: provision bmc rotate {on}"},
	{CodeBMCCipher, "the BMC offers no cipher suite that we accept", "allow cipher suite 17, or 3, in the settings of the BMC of {on}"},
	{CodeBMCSessions, "the BMC has no session left", "close other programs' sessions with the BMC of {on}, or wait some minutes"},
	{CodeBMCBusy, "the BMC is busy with another order of ours", "wait until the other change of {on} is done"},
	{CodeBMCNoEffect, "the BMC says yes and does nothing", "try once more with {on}; if it stays so, test it: provision bmc check {on}, and restart the BMC"},
	{CodeBMCRejected, "the BMC refuses the order", "look at the log of the BMC of {on}"},
	{CodeBMCUnsupported, "the BMC cannot do that", "do it by hand at {on}, or choose another driver for it in site.yaml"},
	{CodeBMCPin, "the BMC shows another TLS certificate than before", "if you have renewed it: provision bmc accept {on} (one of an authority of yours that bmc_ca names needs no word); if not, somebody stands between this server and the BMC"},
	{CodeBMCNotProbed, "the BMC was never looked at", "look at it: provision bmc probe {on}"},
	{CodeBMCSeveral, "several machines are behind this BMC", "say which of them it is: provision bmc probe {on} --system PATH"},
	{CodeBMCHealth, "the BMC says that the machine is not well", "look at what it says: provision bmc show {on}; see to the part, or order a new one"},
	{CodeBMCLog, "the BMC has written down something critical", "read it: provision bmc log {on}; when it is seen to: provision bmc log {on} --clear"},
	{CodeBMCBIOS, "a machine has not the BIOS settings that are declared for it", "compare them: provision bmc bios {on}; what it has, and calls how: provision bmc bios {on} --all"},
	{CodeBMCFirmware, "the BMC says that new firmware is installed, and shows another version", "compare them: provision bmc update {on} --dry-run; look at its log: provision bmc log {on}; the version in site.yaml has to be written as the BMC writes it"},
	{CodeBMCUnclear, "it is not known whether the BMC has begun to install an image", "look at its log, and wait until it is idle: provision bmc log {on}; then start the run again"},
	{CodeNodeServes, "a node that serves its cluster would be restarted", "move its work away first, docker node update --availability drain {on} on a manager, then repeat it with --force"},
	{CodeBMCUnread, "the BMC has not said for some time how the machine is", "see why: provision bmc show {on} --fresh"},

	{CodeMediaNone, "the BMC has no virtual CD drive", "see whether the BMC of {on} needs a licence for virtual media, or is to speak Redfish: provision bmc check {on}; or take boot: media out of its rule in site.yaml"},
	{CodeMediaImage, "no CD image can be made for a machine", "see what the detail names about {on}; files that are missing come from provision images build debian-12"},
	{CodeMediaUnread, "a BMC was given the URL of a CD image and has not asked for it", "see that the BMC of {on} reaches this server: a route, and a firewall that lets TCP to the port of listen.http in provision.yaml pass"},

	{CodePowerManual, "somebody has to do something to a machine without a BMC", "do what the detail says, then: provision power done {on}"},
	{CodeWakeSilent, "a machine does not wake up", "switch on Wake-on-LAN in the firmware's setup of {on}, see that its link light is on while it is off, and that routers let directed broadcasts through"},
	{CodeBMCNeedsOff, "the BMC takes a boot device only while the machine is off", "switch it off first: provision power off {on}"},

	{CodeSOLDisabled, "the BMC gives no serial console over LAN", "switch on serial over LAN in the settings of the BMC of {on}, for its user too"},
	{CodeSOLDenied, "the BMC's user may not open the console", "allow the BMC's user of {on} serial over LAN, or lower the privilege that it demands"},
	{CodeSOLHeld, "somebody else has the console open", "have them leave it, or take it from them: provision console --take {on}"},
	{CodeHostKey, "the BMC shows another SSH host key than before", "if you have changed it: provision bmc accept {on} --pin SHA256:…, with the fingerprint that is shown; if not, somebody stands between this server and the BMC"},
	{CodeSOLTaken, "somebody else took the console", "ask who else works on the machine, or take it back: provision console --take {on}"},
}
