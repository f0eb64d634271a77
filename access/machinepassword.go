package access

import (
	"crypto/rand"
	"strings"
)

// The characters of machines' passwords. The specials mean nothing to shells,
// URLs and JSON.
const (
	uppers   = "ABCDEFGHJKLMNPQRSTUVWXYZ"
	lowers   = "abcdefghijkmnopqrstuvwxyz"
	digits   = "23456789"
	specials = "-_.+="
)

// passwordShapes are the kinds of passwords that machines take, the most
// welcome first. All begin with a letter. The shortest still has more than 60
// bits.
var passwordShapes = []struct {
	length int
	sets   []string // one of each at least
}{
	{16, []string{uppers, lowers, digits}},
	{16, []string{uppers, lowers, digits, specials}},
	{12, []string{uppers, lowers, digits, specials}},
}

// MachinePassword makes a password for a machine, such as a BMC, of a shape:
// 0, and others for those that do not take it. It returns "" when there are no
// more.
func MachinePassword(shape int) string {
	if shape < 0 || shape >= len(passwordShapes) {
		return ""
	}
	s := passwordShapes[shape]
	all := strings.Join(s.sets, "")
	for {
		b := make([]byte, s.length)
		b[0] = pick(uppers + lowers)
		for i := range b[1:] {
			b[1+i] = pick(all)
		}
		if hasEach(string(b), s.sets) {
			return string(b)
		}
	}
}

// pick returns any of the characters, each as likely as the others.
func pick(set string) byte {
	most := byte(256/len(set)*len(set) - 1)
	for {
		var b [1]byte
		_, _ = rand.Read(b[:]) // never fails since Go 1.24
		if b[0] <= most {
			return set[int(b[0])%len(set)]
		}
	}
}

func hasEach(s string, sets []string) bool {
	for _, set := range sets {
		if !strings.ContainsAny(s, set) {
			return false
		}
	}
	return true
}
