package web

// A Boot is the page about the network that machines boot from.
type Boot struct {
	Shell
	Alarms  []Alarm
	Subnets []Subnet
	Relays  []Relay
	Strays  []Foreign // servers on networks that are not declared
	Leases  []Lease
	Next    string // address of the next page of leases; "" for none
	Traffic []Event
}

// An AlarmBar says on every page that there is trouble.
type AlarmBar struct {
	Title string // "3 alarms"
	Code  string // of the newest
	Text  string
	More  string // the link's words
}

// An Alarm is trouble of one kind, and what to do.
type Alarm struct {
	Code, Title, Fix string
	On               []AlarmOn
}

// An AlarmOn is one thing that has it.
type AlarmOn struct{ On, Detail, Since string }

// A Subnet is one network.
type Subnet struct {
	Name, CIDR, Mode, Meaning, By string
	Ranges                        []Use
	Foreign                       []Foreign
}

// A Use is how full ranges are.
type Use struct {
	Class string
	Bars  []Bar
	Text  string
}

// A Foreign is another DHCP server.
type Foreign struct {
	Addr, Words string
	Expected    bool
}

// A Relay is a `provision relay`.
type Relay struct {
	Name, Subnets, Addrs  string
	Tone, Icon, Seen, Why string // how it is, when it was heard, and what is wrong
	Cache, Spared         string
	Asked, Odd            string // DHCP: what it passed on, and what it would not
}

// A Lease is an address that a machine has.
type Lease struct{ Addr, MAC, Node, Href, Hostname, Subnet, State, Ends string }
