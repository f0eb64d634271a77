package web

import "time"

// A Serial is the page of one node's serial console.
type Serial struct {
	Shell
	Node    string // title
	Path    string // of the page
	Back    string // address of the node in the console
	Socket  string // address of the live console
	Nonce   string // of style elements
	Dead    string // why there is no live console; "" when there may be one
	Match   string // what is searched for
	Record  string // the one record that is shown; "" for all
	Problem string // what is wrong with the search
	Hint    string
	Records []SerialRecord
	Lines   []SerialLine
	More    bool // there are older lines that match
	CLI     string
}

// A SerialRecord is what a machine wrote from one start to the next.
type SerialRecord struct {
	ID, Began, Lasted, Why, Size string
	Href, Raw                    string
	Current                      bool
}

// A SerialLine is one line of it.
type SerialLine struct {
	At   time.Time
	Text string
}

// Clock is when it was written.
func (l SerialLine) Clock() string { return l.At.UTC().Format("15:04:05") }

// Stamp is the same for programs.
func (l SerialLine) Stamp() string { return l.At.UTC().Format(time.RFC3339Nano) }
