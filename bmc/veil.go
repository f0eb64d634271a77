package bmc

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rackstage/provision/fleet"
)

// secrets is what nobody shall read of what a BMC says: our password, the one
// that its user is being given, the token of our session, and what Basic makes
// of a login.
func (t Target) secrets() (all []string) {
	for _, p := range []Password{t.Password, t.next} {
		if p == "" {
			continue
		}
		all = append(all, string(p))
		for _, said := range []string{string(p), t.Username + ":" + string(p)} {
			all = append(all, base64.RawStdEncoding.EncodeToString([]byte(said)), base64.RawURLEncoding.EncodeToString([]byte(said)))
		}
	}
	if utf8.RuneCountInString(string(t.token)) >= enough { // else it is none
		all = append(all, string(t.token))
	}
	return all
}

// enough is how many runes of a secret tell it: BMCs cut passwords where they
// have no more place. One that is shorter may be a part of any word.
const enough = 8

// carriers are words after which logins stand, of sessions too that a library has
// and we do not know.
var carriers = regexp.MustCompile(`(?i)\b((?:x-auth-token|x-csrf-?token|csrftoken|qsessionid)["'\\]*\s*[:=]\s*["'\\]*)[^\s"'\\,;&<>]+` +
	`|\b(digest\s+)\w+=[^\r\n<]+` +
	`|\b((?:authorization["'\\]*\s*[:=]\s*["'\\]*(?:basic|bearer|digest)\s|(?:set-)?cookie:\s))[^\r\n<]+`)

// A veil takes secrets out of what a BMC says: some repeat what they did not like,
// as they got it, as the text around it wants it to be written, or as much of it as
// they have kept.
type veil struct {
	long, short []string
	finders     map[string]*regexp.Regexp // that were needed
}

func (t Target) newVeil() *veil {
	v := &veil{finders: map[string]*regexp.Regexp{}}
	for _, secret := range t.secrets() {
		if utf8.RuneCountInString(secret) < enough {
			v.short = append(v.short, secret)
		} else {
			v.long = append(v.long, secret)
		}
	}
	return v
}

// over is a text without secrets.
func (v *veil) over(said string) string {
	said = v.overKnown(said)
	return carriers.ReplaceAllStringFunc(said, func(found string) string {
		m := carriers.FindStringSubmatch(found)
		return m[1] + m[2] + carrier(m[3]) + hidden
	})
}

// carrier is the name of a header without the kind of login.
func carrier(name string) string {
	if before, _, ok := strings.Cut(name, ":"); ok {
		return before + ": "
	}
	return name
}

func (v *veil) overKnown(said string) string {
	for _, secret := range v.short {
		if mayHave(said, secret) {
			said = replaceWords(said, v.finder(secret))
		}
	}
	maybe := slices.DeleteFunc(slices.Clone(v.long), func(secret string) bool { return !mayHave(said, secret) })
	if len(maybe) > 0 {
		said = v.finder(maybe...).ReplaceAllLiteralString(said, hidden)
	}
	return said
}

// finder finds the longest: one secret may begin as another does, and one spelling
// of a rune too.
func (v *veil) finder(secrets ...string) *regexp.Regexp {
	key := strings.Join(secrets, "\x00")
	if known := v.finders[key]; known != nil {
		return known
	}
	var all []string
	for _, secret := range secrets {
		all = append(all, spellings(secret))
	}
	known := regexp.MustCompile(strings.Join(all, "|")) // its parts are quoted
	known.Longest()
	v.finders[key] = known
	return known
}

// replaceWords hides what is found where it is no part of a word.
func replaceWords(said string, known *regexp.Regexp) string {
	var b strings.Builder
	done := 0
	for _, at := range known.FindAllStringIndex(said, -1) {
		if !endsWord(said[:at[0]]) || beginsWord(said[at[1]:]) {
			continue
		}
		b.WriteString(said[done:at[0]] + hidden)
		done = at[1]
	}
	return b.String() + said[done:]
}

// escaped is a letter that is no letter of a word.
var escaped = regexp.MustCompile(`(?:%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[nrt]|&#?\w+;)$`)

// endsWord reports whether a word can begin after a text.
func endsWord(before string) bool {
	last, _ := utf8.DecodeLastRuneInString(before)
	return !unicode.IsLetter(last) && !unicode.IsDigit(last) || escaped.MatchString(before[max(0, len(before)-enough):])
}

func beginsWord(after string) bool {
	first, _ := utf8.DecodeRuneInString(after)
	return unicode.IsLetter(first) || unicode.IsDigit(first)
}

// Limits of what is looked at of what a BMC says in an error, and of what is
// shown of it.
const (
	longestSaid    = 4096
	longestMessage = 300
)

// quote is what is shown of what a BMC says in an error.
func (t Target) quote(said string) string {
	said = t.newVeil().told(said)
	return strings.ToValidUTF8(said[:min(len(said), longestMessage)], "")
}

// told is a text of a BMC, veiled and cleaned. What is cleaned away may have stood
// in between, and what is cut is still whole before.
func (v *veil) told(said string) string {
	said = strings.ToValidUTF8(said[:min(len(said), longestSaid)], "")
	return v.over(fleet.CleanText(v.over(said)))
}
