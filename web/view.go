package web

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Shell is what every page has around it.
type Shell struct {
	Title string
	Theme string // "", "dark", "light"
	User  string // "": nobody is signed in
	Role  string
	Demo  bool // a demo account: say so, always
	Now   int64
	Alarm *AlarmBar // nil when there is none, and for strangers
}

// A Login is the login page.
type Login struct {
	Shell
	Name    string
	Next    string
	Error   string
	Hint    string
	DemoTip bool // say that demo/demo works
}

// A Fault is the page that says what went wrong.
type Fault struct {
	Shell
	Status int
	Text   string
	Detail string
	Code   string
	Hint   string
}

// A Console is the one live page.
type Console struct {
	Shell
	Query   string
	Problem string // what is wrong with the query
	Hint    string
	Tabs    []Tab
	Counts  Counts
	Runs    []Run
	Rows    []Row
	Pages   Paging
	Feed    []Event
	Panel   *Panel
	Legend  []Legend
}

// A Tab narrows the page to one pool.
type Tab struct {
	Label   string
	Count   int
	Href    string
	Current bool
}

// Counts is how many nodes there are in which state, and how many match.
type Counts struct {
	Matches, Total int
	States         []Count
}

// A Count is one state's.
type Count struct {
	State   State
	N       int
	Href    string
	Current bool
}

// A State is how a state is shown: never by colour alone.
type State struct {
	Name string // "failed"
	Icon string
	Tone string // colour, by meaning: good bad busy wait idle
}

// Paging leads to the other rows.
type Paging struct {
	Prev, Next string // addresses; "" for none
	From, To   int
}

// A Run is the bar above the table.
type Run struct {
	ID, Pool, Image, State string
	Live                   bool
	Done, Failed, Working  int
	Held, Total            int
	Since                  int64  // Unix seconds; counted on by the script while Live
	Elapsed                string // at rendering
	ETA                    string // "" when nobody can tell
	Bars                   []Bar
}

// A Bar is a piece of a bar, in thousandths of its width.
type Bar struct {
	Tone string
	X, W int
	Text string
}

// A Row is one node in the table.
type Row struct {
	ID, Title, Sub string
	State          State
	Pool, Role     string
	Href           string
	Phase          string
	Progress       int // percent; negative: none to show
	Attempt        int
	Line           Line
	Code           string
	Slow           string // what it takes too long for; "" when it does not
	Reason         string
	Hint           string
	Approve        *Approve
	Selected       bool
	Order          string // rows are sorted by it
	Version        string // differs when the row does
}

// A Line is a boot on a time axis.
type Line struct {
	Bars  []Bar
	Scale int64 // seconds of the whole width
	Since int64 // Unix seconds since when the last bar grows; 0: it does not
	Begun int64 // Unix seconds when the boot began, while it is under way; 0: over
	Took  string
	Text  string // the whole line in words
}

// An Approve is the button that lets a machine in.
type Approve struct {
	Ref    string
	Back   string // query to return to
	Denied string // why it cannot be pressed; "" when it can
}

// A Rescue is the button that boots a node into the rescue system, or ends that.
type Rescue struct {
	Approve
	End bool
}

// A Panel is all about one node.
type Panel struct {
	Row
	Facts  []Fact
	Times  []Time
	Disks  []Fact
	Health []Fact // as its BMC says
	Feed   []Event
	Close  string
	Failed bool
	Rescue *Rescue
	CLI    string

	Console   string // address of its serial console; "" when there is none to show
	LastWords string // the last lines on it before the node failed
}

// A Fact is a name and a value.
type Fact struct {
	Name, Value string
	Code        bool // set in the fixed-width face
}

// A Time is how long a phase took, and how long it usually takes.
type Time struct {
	Phase, Tone, Took, Usual string
	Since                    int64 // Unix seconds while it is under way; 0: over
}

// An Event is one line of the feed.
type Event struct {
	Seq  int64
	At   time.Time
	Tone string
	Type string
	Node string // title
	Href string
	Text string
}

// Clock is the time of day that people read.
func (e Event) Clock() string { return e.At.UTC().Format("15:04:05") }

// Stamp is the time that programs read.
func (e Event) Stamp() string { return e.At.UTC().Format(time.RFC3339) }

// A Legend names a colour of the time lines.
type Legend struct{ Tone, Label string }

// Percent writes X and W for SVG.
func (b Bar) Percent(thousandths int) string {
	return strconv.FormatFloat(float64(thousandths)/10, 'f', 1, 64) + "%"
}

// Duration writes a time span as people say it: 51s, 5m46s, 1h02m.
func Duration(d time.Duration) string {
	d = max(0, d.Round(time.Second))
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// Bytes writes a size as disks are sold: 480 GB.
func Bytes(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	size, i := float64(n), 0
	for size >= 1000 && i < len(units)-1 {
		size /= 1000
		i++
	}
	return strings.TrimSuffix(strconv.FormatFloat(size, 'f', 1, 64), ".0") + " " + units[i]
}
