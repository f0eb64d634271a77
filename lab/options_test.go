package lab

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestADefaultRackHasBothFirmwaresAndNothingTwice(t *testing.T) {
	ms := DefaultRack(3)
	got := []Firmware{ms[0].Firmware, ms[1].Firmware, ms[2].Firmware}
	if want := []Firmware{BIOS, UEFI, UEFI}; !slices.Equal(got, want) {
		t.Errorf("firmwares are %v, want %v", got, want)
	}
	o, err := Options{Dir: t.TempDir()}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range o.Machines {
		for _, id := range []string{m.Name, m.MAC, m.UUID, m.Serial, m.AssetTag, m.DiskSerial, m.BMC.Address.String(), m.BMC.Password} {
			if seen[id] {
				t.Errorf("%q is there twice", id)
			}
			seen[id] = true
		}
		if n := len(m.BMC.Password); n != 16 {
			t.Errorf("a password of %d bytes; ipmi_sim takes 16", n)
		}
	}
}

func TestWhatCannotBeBuiltIsRefusedBeforehand(t *testing.T) {
	tests := map[string]struct {
		change func(*Options)
		want   string
	}{
		"no directory":            {func(o *Options) { o.Dir = "" }, "directory"},
		"a path with a quote":     {func(o *Options) { o.HookCommand = []string{`/a"b`} }, "quotes"},
		"a name that is a path":   {func(o *Options) { o.Name = "../x" }, "name of the rack"},
		"a machine named a path":  {func(o *Options) { o.Machines[0].Name = "../n1" }, "name"},
		"an unknown firmware":     {func(o *Options) { o.Machines[0].Firmware = "coreboot" }, "firmware"},
		"a MAC that is none":      {func(o *Options) { o.Machines[0].MAC = "52:54" }, "MAC"},
		"a UUID that is none":     {func(o *Options) { o.Machines[0].UUID = "1" }, "UUID"},
		"an option for a card":    {func(o *Options) { o.Machines[0].NIC = "e1000,romfile=x" }, "network card"},
		"a line break in a text":  {func(o *Options) { o.Machines[0].Serial = "a\nb" }, "text"},
		"a password too long":     {func(o *Options) { o.Machines[0].BMC.Password = "12345678901234567" }, "password"},
		"a password with a quote": {func(o *Options) { o.Machines[0].BMC.Password = `a"b` }, "password"},
		"a BMC that speaks SNMP":  {func(o *Options) { o.Machines[0].BMC.Speaks = "snmp" }, "protocol"},
		"a BMC somewhere else":    {func(o *Options) { o.Machines[0].BMC.Address = netip.MustParseAddr("192.0.2.1") }, "BMC address"},
		"one MAC twice":           {func(o *Options) { o.Machines[1].MAC = o.Machines[0].MAC }, "share"},
		"too many machines":       {func(o *Options) { o.Machines = DefaultRack(100) }, "at most"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := Options{Dir: t.TempDir(), Machines: DefaultRack(2)}
			tt.change(&o)
			_, err := o.withDefaults()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error about %q", err, tt.want)
			}
		})
	}
}

func TestTheCommandLineOfAMachine(t *testing.T) {
	bay := func(f Firmware) *bay {
		m := Machine{Firmware: f, Serial: "A,B"}.withDefaults(0)
		return &bay{Machine: m, Tap: "tap0", KCSPort: 9200, SOLPort: 9300, Accel: TCG, dir: "/rack/n1"}
	}
	speaking := func(p Protocol, device string) string {
		b := bay(UEFI)
		b.Machine.BMC.Speaks = p
		return strings.Join(b.qemuArgs(device), " ")
	}
	tests := map[string]struct {
		line string
		has  []string
		not  []string
	}{
		"SeaBIOS boots with the card's ROM, the disk first": {
			strings.Join(bay(BIOS).qemuArgs(""), " "),
			[]string{"nic0,netdev=net0,mac=52:54:00:77:00:01,bootindex=2", "serial=DISK770001,bootindex=1"},
			[]string{"romfile", "pflash"},
		},
		"OVMF boots without it, with variables of its own": {
			strings.Join(bay(UEFI).qemuArgs(""), " "), []string{"romfile=", "file=/rack/n1/vars.fd"}, nil,
		},
		"an override puts the network first": {
			strings.Join(bay(UEFI).qemuArgs("pxe"), " "), []string{"bootindex=1,romfile=", "serial=DISK770001,bootindex=2"}, nil,
		},
		"Secure Boot's variables are written by the firmware only": {
			strings.Join(bay(SB).qemuArgs(""), " "), []string{"smm=on", "property=secure,value=on", "secboot.fd"}, []string{"fw_cfg"},
		},
		"HTTP boot alone": {
			strings.Join(bay(UEFIHTTP).qemuArgs(""), " "), []string{"IPv4PXESupport,string=no", "romfile="}, []string{"smm=on"},
		},
		"an arm64 machine is emulated, and has no KCS": {
			strings.Join(bay(ARM64).qemuArgs(""), " "), []string{"-machine virt", "AAVMF", "-accel tcg"}, []string{"q35", "ipmi"},
		},
		"Redfish brings a drive, and no KCS": {
			speaking(Redfish, "cdrom"),
			[]string{"ide-cd,id=cd0,drive=cdimage,bootindex=1", "serial=DISK770001,bootindex=2"},
			[]string{"ipmi"},
		},
		"a BMC that speaks both has both": {
			speaking(Both, ""), []string{"ipmi-bmc-extern", "cd0", "bootindex=3"}, nil,
		},
		"a comma in a value is no option": {
			strings.Join(bay(BIOS).qemuArgs(""), " "), []string{"serial=A,,B,uuid="}, nil,
		},
		"emulation does not take all the memory": {
			strings.Join(bay(BIOS).qemuArgs(""), " "), []string{"tcg,thread=multi,tb-size=256"}, nil,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, s := range tt.has {
				if !strings.Contains(tt.line, s) {
					t.Errorf("no %q in %s", s, tt.line)
				}
			}
			for _, s := range tt.not {
				if strings.Contains(tt.line, s) {
					t.Errorf("%q in %s", s, tt.line)
				}
			}
		})
	}
}

func TestEmulationIsFoundWorking(t *testing.T) {
	if err := tryAccelerator(t.Context(), TCG); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tryAccelerator(ctx, TCG); err == nil {
		t.Error("a trial that was cut off was taken for a success")
	}
}

func TestWhatIsMissingComesWithTheCommandThatMendsIt(t *testing.T) {
	err := &MissingError{[]Requirement{{"ipmi_sim", "openipmi"}, {tunDevice, ""}, {"ovmf", "ovmf"}, {"x", "openipmi"}}}
	if want := "run: modprobe tun && apt-get install -y openipmi ovmf"; err.Hint() != want {
		t.Errorf("hint is %q, want %q", err.Hint(), want)
	}
	if missing := Missing(); len(missing) > 0 {
		t.Errorf("%v; %s", &MissingError{missing}, (&MissingError{missing}).Hint())
	}
}

func TestTheConsoleIsReadFromTheLastPowerOn(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"nothing yet":        {"", ""},
		"never switched on":  {"abc", "abc"},
		"once":               {"\n=== lab: power on x\nabc", "abc"},
		"twice":              {"\n=== lab: power on x\nabc\n=== lab: reset y\ndef\n", "def\n"},
		"nothing said since": {"abc\n=== lab: reset y\n", ""},
		"half a line":        {"abc\n=== lab: res", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := string(sinceMark([]byte(tt.text))); got != tt.want {
				t.Errorf("sinceMark(%q) = %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}
